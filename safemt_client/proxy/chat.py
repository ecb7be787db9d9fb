"""A chat request: what a guard is shown of it, and how a policy is added to its messages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from safemt_client.moderator.moderator import PolicyPlace, policy_after, policy_before
from safemt_client.providers.types import Message, Role
from safemt_client.proxy.shown import TEXT_PARTS, InvalidChatError, Shown, speaks

__all__ = ["Conversation", "place_policy", "read_conversation", "read_request"]

_ROLES: Mapping[object, Role] = {
    "system": "system",
    "developer": "developer",
    "user": "user",
    "assistant": "assistant",
}
# Fields of a request that no model reads.
_SETTINGS = ("messages", "model", "stop", "user", "metadata", "stream_options", "safety_identifier")
# Here even single words are part of what the model is told.
_TOLD = ("documents", "prediction", "input", "prompt", "context", "instructions", "system")
# These describe the form of an answer, often at length: a guard would take them for the conversation.
_COUNTED = (
    *("tools", "functions", "tool_choice", "function_call", "response_format", "structured_outputs"),
    *("chat_template", "chat_template_kwargs", "guided_json", "guided_grammar", "guided_regex"),
    *("guided_choice", "grammar", "json_schema", "web_search_options", "logit_bias"),
)


@dataclass(frozen=True, slots=True)
class Conversation:
    """What a guard is shown; `hidden` counts the pictures and other parts that it is not shown."""

    messages: tuple[Message, ...]
    hidden: int = 0


def read_request(body: Mapping[str, Any]) -> Conversation:
    """The conversation of a request as it is shown to a guard.

    Texts beside the messages, such as documents, are shown with the last message. Tools and other
    descriptions of the answer's form are only counted.

    Raises:
        InvalidChatError: it has no list of messages.
    """
    conversation = read_conversation(body.get("messages"))
    beside = Shown()
    for name, value in body.items():
        if name in _SETTINGS or not (name in _TOLD or speaks({name: value})):
            continue
        if name in _COUNTED:
            beside.hidden += 1
        else:
            beside.entry(name, value)
    *before, last = conversation.messages
    last = replace(last, text="\n".join([last.text, *beside.texts]))
    return Conversation((*before, last), conversation.hidden + beside.hidden)


def read_conversation(messages: object) -> Conversation:
    """The messages of a request as they are shown to a guard.

    A tool's message, or one of any other role, is shown as the user's, preceded by its role. So are
    instructions at the end of the conversation, since a guard assesses conversations that end with a user's
    message.

    Raises:
        InvalidChatError: they are not a list of messages.
    """
    if not isinstance(messages, list) or not messages:
        raise InvalidChatError("messages must be a list of at least one message")
    read: list[Message] = []
    hidden = 0
    for message in messages:
        if not isinstance(message, dict) or not isinstance(message.get("role"), str):
            raise InvalidChatError("each message must be an object with a role")
        seen = Shown()
        seen.message(message)
        hidden += seen.hidden
        text, role = seen.text, message["role"]
        if role not in _ROLES:
            text = f"[{role}]\n{text}"
        read.append(Message(_ROLES.get(role, "user"), text, tuple(seen.images)))
    for place in reversed(range(len(read))):
        if read[place].role not in ("system", "developer"):
            break
        text = f"[instructions to the assistant]\n{read[place].text}"
        read[place] = Message("user", text, read[place].images)
    return Conversation(tuple(read), hidden)


def place_policy(messages: Sequence[Any], policy: str, place: PolicyPlace) -> list[Any]:
    """The messages with a policy in its place, everything else as it was; see `with_policy`."""
    changed = list(messages)
    if place == "user":
        users = [at for at, message in enumerate(changed) if message["role"] == "user"]
        if users:
            message = changed[users[-1]]
            changed[users[-1]] = message | {"content": _before(message.get("content"), policy)}
            return changed
        # Without a user's message there is nothing to put it before.
        place = "system"
    if place == "system" and changed and changed[0]["role"] == "system":
        content = changed[0].get("content")
        if isinstance(content, list):
            after: Any = [*content, {"type": "text", "text": policy}]
        else:
            after = policy_after(content or "", policy)
        changed[0] = changed[0] | {"content": after}
        return changed
    return [{"role": place, "content": policy}, *changed]


def _before(content: Any, policy: str) -> Any:
    if not isinstance(content, list):
        return policy_before(content or "", policy)
    for at, part in enumerate(content):
        if isinstance(part, str):
            return [*content[:at], policy_before(part, policy), *content[at + 1 :]]
        if part.get("type") in TEXT_PARTS and isinstance(part.get("text"), str):
            told = part | {"text": policy_before(part["text"], policy)}
            return [*content[:at], told, *content[at + 1 :]]
    return [*content, {"type": "text", "text": policy_before("", policy).strip()}]
