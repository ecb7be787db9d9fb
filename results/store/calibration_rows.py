"""The rows of calibrations: a judge, the replies that people have labelled, and what was found."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

__all__ = ["CalibrationFigureRow", "CalibrationLabelRow", "CalibrationReplyRow", "CalibrationRow"]


@dataclass(frozen=True, slots=True)
class CalibrationRow:
    """Table `calibration_runs`: a judge put to replies that people have labelled.

    Its judges are in `run_judges` and its verdicts in `verdicts`, under `calibration_id` as the run.
    """

    calibration_id: str
    fingerprint: str
    created_at: datetime
    program_version: str
    set_name: str
    set_digest: str
    set_path: str
    set_licence: str | None
    judge_key: str  # the one that decides
    settings: str  # JSON: all that decides the labels, and which replies of the set were taken
    pictures_seen: bool  # whether the judge was shown the pictures


@dataclass(frozen=True, slots=True)
class CalibrationReplyRow:
    """Table `calibration_replies`: a reply of a set that people have labelled."""

    set_digest: str
    reply_id: str
    item_id: str
    category: str | None
    length: int  # number of user turns
    pictures: int
    question: str | None
    messages: str  # JSON: what was said before the reply
    reply: str
    request_hash: str
    dialogue_key: str
    reply_hash: str


@dataclass(frozen=True, slots=True)
class CalibrationLabelRow:
    """Table `calibration_labels`: a person's label of a reply of a set."""

    set_digest: str
    reply_id: str
    annotator: str
    label: str  # safe | unsafe
    given: str  # the word or number in the data


@dataclass(frozen=True, slots=True)
class CalibrationFigureRow:
    """Table `calibration_figures`: what a calibration found, over all replies or those of a category."""

    calibration_id: str
    recorded_at: datetime
    category: str | None  # None: all replies
    measure: str  # sensitivity | specificity | precision | accuracy | kappa | people_...
    estimate: float | None
    low: float | None
    high: float | None
    replies: int  # how many the figure is of
    small: bool
