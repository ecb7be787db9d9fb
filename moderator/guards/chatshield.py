"""ChatShield, the benchmark's own moderator. Its prompt and the form of its answer are not published.

Until they are, a template file supplies both; without one the project's own template is used, which the model
was not trained on.
"""

from __future__ import annotations

from safemt_client.moderator.guards.llm import TemplateGuard
from safemt_client.moderator.guards.template import load_template
from safemt_client.moderator.types import Card, GuardType

__all__ = ["CARD", "GUARDS", "ChatShield"]

CARD = Card(
    name="chatshield",
    title="ChatShield",
    model="HappyCorpse/ChatShield",
    licence="not checked",
    source="https://huggingface.co/HappyCorpse/ChatShield",
    sees_images=True,
    stages=("input",),
    labels=("safe", "controversial", "unsafe"),
    unconfirmed="the prompt and the form of the answer are not published: those of the guard `llm` are the "
    "default, and a template file replaces them; it is assumed that the model sees pictures and assesses "
    "only the user's intent",
)


class ChatShield(TemplateGuard):
    """Asked by a template file, or by the built-in template.

    Raises:
        InputError: the file cannot be read, or its shape is wrong.
    """

    def __init__(self, template: str | None = None) -> None:
        super().__init__(CARD, load_template(template))


GUARDS = (GuardType(CARD, ChatShield, ("template",), intervention="policy"),)
