"""What a probability of a label is one among: probabilities of different kinds are never compared."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

__all__ = ["HOLDING", "ConfidenceKind", "probability_kind"]

ConfidenceKind = Literal["raw", "constrained", "stated"]
"""`raw`: among all tokens. `constrained`: of an answer that was held to a form, where some engines give the
probability among the tokens that the form allows. `stated`: a figure that the model itself gave."""

HOLDING = (
    *("response_format", "json_schema", "grammar", "structured_outputs"),
    *("guided_json", "guided_regex", "guided_choice", "guided_grammar"),
)
"""Parameters that hold an answer to a form, of whatever engine."""


def probability_kind(sent: Mapping[str, Any] | None) -> ConfidenceKind:
    """The kind of the token probabilities of an answer, from what was really sent beside the messages."""
    return "constrained" if any((sent or {}).get(name) for name in HOLDING) else "raw"
