"""The rows of draws: samples of a run's replies in which each reply had a chance of its own."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

__all__ = ["DrawRow", "DrawnReplyRow"]


@dataclass(frozen=True, slots=True)
class DrawRow:
    """Table `label_draws`: a sample of a run's replies to be labelled by people or by another judge.

    Verdicts that another judge gave for it are in `verdicts` under `draw_id` as the run.
    """

    draw_id: str
    fingerprint: str
    created_at: datetime
    program_version: str
    run_id: str  # whose replies these are
    judge_key: str  # the judge of the run that the chances go by
    wanted: int  # how many replies were asked for: so many are drawn on average
    reference_key: str | None  # the judge that labels them; None for people
    basis: str  # what the chances rest on, in words


@dataclass(frozen=True, slots=True)
class DrawnReplyRow:
    """Table `drawn_replies`: each reply that could be drawn, with the chance that it had."""

    draw_id: str
    target_key: str
    request_hash: str
    judged_hash: str  # under which a judge's verdict of it is kept
    dialogue_key: str
    reply_hash: str
    label: str  # the judge's when it was drawn: safe | unsafe | unscored
    doubt: float | None  # from 0 to 1; None where the judge said nothing of it
    guess: float  # how likely the label was thought to be wrong
    chance: float  # to be drawn, by this draw or an earlier one of the same kind
    place: int | None  # in the order in which they are asked, from 1; None if it was not drawn
