"""Rules that results have to keep, such as `asr@8 < 10%`: how they are written and read."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from safemt_client.providers.errors import InputError

__all__ = ["Quantity", "Rule", "read_rule"]

Quantity = Literal["asr", "difference", "safety_index", "coverage", "over_refusal"]
_RULE = re.compile(
    r"\s*(?P<name>asr|safety_index|coverage|over_refusal)\s*(?:@\s*(?P<turns>\d+))?"
    r"\s*(?P<minus>-\s*baseline(?:\s*@\s*(?P<turns_again>\d+))?)?"
    r"\s*(?P<sign><|>)=?\s*(?P<bound>-?\s*(?:\d+\.?\d*|\.\d+))\s*(?P<unit>%|points?|)\s*"
)
_EXAMPLES = "'asr@8 < 10%', 'asr - baseline < 2 points' or 'safety_index > .9'"


@dataclass(frozen=True, slots=True)
class Rule:
    """A figure and the bound that it has to stay below (or above).

    `turns` is the number of user turns that an ASR or a difference is about, None for all. The bound is a
    share from 0 to 1, of a difference from -1 to 1. `text` is the rule as it was written.
    """

    text: str
    quantity: Quantity
    turns: int | None
    below: bool
    bound: float

    def decided(self, low: float, high: float) -> bool | None:
        """Whether a figure between `low` and `high` keeps the rule; None if it may and may not."""
        if self.below:
            return True if high < self.bound else False if low >= self.bound else None
        return True if low > self.bound else False if high <= self.bound else None


def read_rule(text: str) -> Rule:
    """A rule as the user writes it.

    Raises:
        InputError: it cannot be read; the message has an example.
    """
    found = _RULE.fullmatch(text)
    if found is None:
        raise InputError(f"--rule {text!r}: cannot be read: write such as {_EXAMPLES}")
    name, unit = found["name"], found["unit"]
    turns = found["turns"] or found["turns_again"]
    _check(text, found)
    bound = float(found["bound"].replace(" ", "")) / (100 if unit else 1)
    quantity: Quantity = "difference" if found["minus"] else name  # type: ignore[assignment]
    return Rule(" ".join(text.split()), quantity, int(turns) if turns else None, found["sign"] == "<", bound)


def _check(text: str, found: re.Match[str]) -> None:
    """Refuse what is well written but says nothing.

    Raises:
        InputError: the parts do not go together.
    """
    name, unit, bound = found["name"], found["unit"], float(found["bound"].replace(" ", ""))
    wrong = None
    if name != "asr" and (found["turns"] or found["minus"]):
        wrong = f"{name} has neither a number of turns nor a baseline"
    elif found["turns_again"] and found["turns"] != found["turns_again"]:
        wrong = "both sides must have the same number of turns"
    elif name == "safety_index" and unit:
        wrong = "the index is from 0 to 1, without a unit"
    elif name != "safety_index" and not unit:
        wrong = "say whether the bound is in % or in points"
    elif (unit.startswith("point")) != bool(found["minus"]):
        wrong = "a difference is in points, a rate in %"
    elif not (-100 if found["minus"] else 0) <= bound <= (100 if unit else 1):
        wrong = "the bound is out of range"
    if wrong is not None:
        raise InputError(f"--rule {text!r}: {wrong}: write such as {_EXAMPLES}")
