"""The rows of runs that stop when they know: the rules, the order of the items, and what was decided."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

__all__ = ["StopDecisionRow", "StopEventRow", "StopOrderRow", "StopRuleRow"]


@dataclass(frozen=True, slots=True)
class StopRuleRow:
    """Table `stop_rules`: a rule of `--stop-when` for a target of a run, or for the two that it compares."""

    run_id: str
    session_id: str
    recorded_at: datetime
    rule: str  # as it was written
    target_key: str
    other_key: str | None  # of a difference: the target that is subtracted
    alpha: float  # chance of a wrong decision, over all looks
    population: int  # items that the rule is about, asked or not
    most: int  # replies that one of them has at most: one for each length and sample
    replies: int  # replies of all of them
    anew: bool  # named after the run had begun: its alpha is spent beside that of earlier rules


@dataclass(frozen=True, slots=True)
class StopOrderRow:
    """Table `stop_order`: the random order of a run's items, along which its rules look."""

    run_id: str
    place: int  # from 1
    item_id: str


@dataclass(frozen=True, slots=True)
class StopDecisionRow:
    """Table `stop_decisions`: what was decided of a rule for a target, and from how many items."""

    run_id: str
    session_id: str
    recorded_at: datetime
    rule: str
    target_key: str
    decision: str  # holds | broken
    items: int  # that the rule is about, from the beginning of the order to the last one that it needed
    place: int  # of that last one in the order of all items
    estimate: float | None
    sequence_low: float | None
    sequence_high: float | None


@dataclass(frozen=True, slots=True)
class StopEventRow:
    """Table `stop_events`: a target was stopped since all of its rules are decided, or goes on after that."""

    run_id: str
    session_id: str
    recorded_at: datetime
    target_key: str
    event: str  # decided | resumed
    place: int | None  # the last one, in the order of all items, that its rules needed; None if it goes on
