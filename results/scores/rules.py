"""Rules that results have to keep, such as `asr@8 < 10%`: how they are written and read."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from safemt_client.providers.errors import InputError

__all__ = ["Quantity", "Rule", "read_rule", "read_stop_rule"]

Quantity = Literal["asr", "difference", "targets", "safety_index", "coverage", "over_refusal"]

_AT = r"(?:@\s*(?P<{}>\d+))?"
_NAME = r"[^\s()](?:[^()]*?\S)??"
_FIGURE = (
    rf"(?:(?P<name>asr|safety_index|coverage|over_refusal)\s*{_AT.format('turns')}"
    rf"\s*(?P<minus>-\s*baseline{_AT.format('turns_again')})?"
    # Names of targets may have hyphens and spaces: only a minus between spaces takes one from another.
    rf"|(?P<first>{_NAME}){_AT.format('first_turns')}\s+-\s+(?P<second>{_NAME}){_AT.format('second_turns')})"
)
_RULE = re.compile(
    rf"\s*(?P<width>ci\s*\()?\s*{_FIGURE}\s*(?(width)\))"
    r"\s*(?P<sign><|>)=?\s*(?P<bound>-?\s*(?:\d+\.?\d*|\.\d+))\s*(?P<unit>%|points?|)\s*"
)
_EXAMPLES = {
    "--rule": "'asr@8 < 10%', 'asr - baseline < 2 points' or 'safety_index > .9'",
    "--stop-when": "'asr@8 < 10%', 'A - B < 3 points' with names of targets, or 'ci(asr@8) < 2 points'",
}


@dataclass(frozen=True, slots=True)
class Rule:
    """A figure and the bound that it has to stay below (or above).

    `turns` is the number of user turns that an ASR or a difference is about, None for all. The bound is a
    share from 0 to 1, of a difference from -1 to 1. `text` is the rule as it was written. Of the quantity
    `targets`, the ASR of the target `first` minus that of `second`, these are their names. With `width`, the
    rule is about how wide the figure's interval is, from its lower to its upper end.
    """

    text: str
    quantity: Quantity
    turns: int | None
    below: bool
    bound: float
    first: str | None = None
    second: str | None = None
    width: bool = False

    def decided(self, low: float, high: float, bound: float | None = None) -> bool | None:
        """Whether a figure between `low` and `high` keeps the rule; None if it may and may not.

        `bound` is the rule's own on another scale, where `low` and `high` are on that.
        """
        bound = self.bound if bound is None else bound
        if self.below:
            return True if high < bound else False if low >= bound else None
        return True if low > bound else False if high <= bound else None


def read_rule(text: str, option: str = "--rule") -> Rule:
    """A rule as the user writes it, for this option.

    Raises:
        InputError: it cannot be read; the message has an example.
    """
    found = _RULE.fullmatch(text)
    wrong = "cannot be read" if found is None else _wrong(found)
    if found is None or wrong is not None:
        raise InputError(f"{option} {text!r}: {wrong}: write such as {_EXAMPLES[option]}")
    turns = next((found[name] for name in ("turns", "turns_again", "first_turns") if found[name]), None)
    return Rule(
        " ".join(text.split()),
        _quantity(found),
        int(turns) if turns else None,
        found["sign"] == "<",
        float(found["bound"].replace(" ", "")) / (100 if found["unit"] else 1),
        found["first"],
        found["second"],
        found["width"] is not None,
    )


def read_stop_rule(text: str) -> Rule:
    """A rule that a run stops by, once it is decided.

    Raises:
        InputError: it cannot be read, or is about a figure that cannot be followed while a run goes on.
    """
    if "corrected" in text:
        raise InputError(
            f"--stop-when {text!r}: the corrected rate has no interval that holds at every look: "
            "use the judge's ASR, or gate --corrected later"
        )
    rule = read_rule(text, "--stop-when")
    why = {
        "safety_index": "the Safety Index has no interval that holds at every look: use the ASR",
        "coverage": "coverage is known only at the end: use --min-coverage",
        "over_refusal": "only rules about the ASR can stop a run: use gate later",
        "difference": "name two targets of the run, as in 'A - B < 3 points'",
    }.get(rule.quantity)
    if why is not None:
        raise InputError(f"--stop-when {text!r}: {why}")
    return rule


def _quantity(found: re.Match[str]) -> Quantity:
    if found["first"]:
        return "targets"
    return "difference" if found["minus"] else found["name"]  # type: ignore[return-value]


def _wrong(found: re.Match[str]) -> str | None:
    """Why what is well written says nothing: its parts do not go together."""
    name, unit, bound = found["name"], found["unit"], float(found["bound"].replace(" ", ""))
    paired = bool(found["minus"] or found["first"])
    if name not in (None, "asr") and (found["turns"] or found["minus"] or found["width"]):
        return f"{name} has neither a number of turns nor a baseline nor ci()"
    if found["turns_again"] and found["turns"] != found["turns_again"]:
        return "both sides must have the same number of turns"
    if found["first_turns"] != found["second_turns"]:
        return "both sides must have the same number of turns"
    if found["first"] in ("asr", "safety_index", "coverage", "over_refusal"):
        return "takes a figure from something else than the baseline"
    if found["first"] and found["first"] == found["second"]:
        return "a target does not differ from itself"
    if found["width"] and (found["sign"] == ">" or not unit.startswith("point") or not 0 < bound <= 100):
        return "the width of an interval has to be less than some points"
    if found["width"]:
        return None
    if name == "safety_index" and unit:
        return "the index is from 0 to 1, without a unit"
    if name != "safety_index" and not unit:
        return "say whether the bound is in % or in points"
    if unit.startswith("point") != paired:
        return "a difference is in points, a rate in %"
    if not (-100 if paired else 0) <= bound <= (100 if unit else 1):
        return "the bound is out of range"
    return None
