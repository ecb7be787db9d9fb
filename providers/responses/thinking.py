"""How the reasoning of a model is told from its answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["AUTO", "Reading", "Reasoning"]

Reasoning = Literal["auto", "on", "off"]
"""Whether reasoning is looked for in texts: by clear marks only, also by doubtful ones, or not at all."""


@dataclass(frozen=True, slots=True)
class Reading:
    """How the reasoning is told from the answer in a text.

    `end` is the closing mark of a model whose marks are not known here. `knows` says that the model is known
    to think, so that a closing tag ends its reasoning wherever it stands.
    """

    reasoning: Reasoning = "auto"
    end: str | None = None
    knows: bool = False


AUTO = Reading()
