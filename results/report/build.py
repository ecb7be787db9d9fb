"""All sections of a report, in their order."""

from __future__ import annotations

from typing import Any

from safemt_client.results.report.data import ReportData
from safemt_client.results.report.document import Document, show
from safemt_client.results.report.sections import judges, moderators, rates
from safemt_client.results.report.sections import outcomes as conduct
from safemt_client.results.report.sections import reproduce as repeat
from safemt_client.results.report.sections import safety_index as index

__all__ = ["document"]


def document(found: dict[str, Any]) -> Document:
    """The report of what `scores.as_dict` found; sections about what the run does not have are left out."""
    known = ReportData(found)
    sections = [
        rates.by_turn(known),
        index.index(known),
        rates.scenarios(known),
        moderators.moderators(known),
        conduct.outcomes(known),
        conduct.refusals(known),
        judges.judges(known),
        rates.differences(known),
        conduct.spend(known),
        repeat.repeat(known),
    ]
    run = found["run"]
    return Document(
        title=f"SafeMT report: {show(run['dataset_name'], 60)}, run {show(run['run_id'])}",
        facts=_facts(known),
        warnings=_warnings(known),
        sections=[section for section in sections if section is not None and section.blocks],
    )


def _facts(known: ReportData) -> list[tuple[str, str]]:
    run = known.found["run"]
    endings = known.found["endings"]
    total = sum(row["conversations"] for row in endings)
    judge = known.judge
    return [
        ("Data set", f"{show(run['dataset_name'])}, licence {show(run['dataset_licence'] or 'not stated')}"),
        ("Targets", f"{len(known.targets)}"),
        ("Conversations", f"{total:,}"),
        ("Judge", "none: nothing is labelled" if judge is None else known.judge_label(judge)),
        ("Begun", f"{str(run['created_at'])[:16]} UTC"),
        ("Run", show(run["run_id"])),
    ]


def _warnings(known: ReportData) -> list[str]:
    found = [show(warning, 300) for warning in known.found["warnings"]]
    event = known.found["last_event"]
    waiting = sum(
        row["conversations"] for row in known.found["endings"] if row["ending"] in ("pending", "unassessed")
    )
    if event != "finished":
        found.append(f"the run is not finished: its last session is {show(event)}")
    if waiting:
        found.append(f"{waiting:,} conversations are still to come: rates are those of the others")
    return found
