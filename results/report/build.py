"""All sections of a report, in their order."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from safemt_client.results.report.data import ReportData
from safemt_client.results.report.document import Document, Section, show
from safemt_client.results.report.sections.comparison import differences
from safemt_client.results.report.sections.controls import controls
from safemt_client.results.report.sections.judges import judges
from safemt_client.results.report.sections.moderators import moderators
from safemt_client.results.report.sections.outcomes import outcomes, refusals
from safemt_client.results.report.sections.progress import progress
from safemt_client.results.report.sections.rates import by_turn, scenarios
from safemt_client.results.report.sections.reproduce import reproduce
from safemt_client.results.report.sections.safety_index import safety_index
from safemt_client.results.report.sections.samples import samples
from safemt_client.results.report.sections.spend import spend
from safemt_client.results.report.sections.stopping import stopping
from safemt_client.results.report.sections.summary import summary
from safemt_client.results.report.sections.trend import trend
from safemt_client.results.report.sections.turn_labels import turn_labels
from safemt_client.results.report.sections.twins import twins

__all__ = ["document"]

_SECTIONS: Sequence[Callable[[ReportData], Section | None]] = (
    progress,
    summary,
    stopping,
    by_turn,
    samples,
    trend,
    safety_index,
    scenarios,
    moderators,
    turn_labels,
    outcomes,
    refusals,
    twins,
    judges,
    differences,
    controls,
    spend,
    reproduce,
)
"""In the order of the pages."""


def document(found: dict[str, Any]) -> Document:
    """The report of what `scores.as_dict` found; sections about what the run does not have are left out."""
    known = ReportData(found)
    sections = [section(known) for section in _SECTIONS]
    run = found["run"]
    return Document(
        title=f"Report on {show(run['dataset_name'], 60)}, run {show(run['run_id'])}",
        opening=_opening(known),
        facts=_facts(known),
        warnings=_warnings(known),
        sections=[section for section in sections if section is not None and section.blocks],
    )


def _opening(known: ReportData) -> list[str]:
    run = known.found["run"]
    licence = show(run["dataset_licence"] or "not stated")
    return [
        f"run {show(run['run_id'])}: {show(run['dataset_name'])}, digest {show(run['dataset_digest'][:12])}, "
        f"licence {licence}",
        *(f"{said}: not asked by this program" for said in _imported(known)),
        *(
            f"judge {known.judge_label(judge['name'])} ({show(judge['identity'])}), "
            f"rubric {show(judge['rubric'])}"
            for judge in known.found["judges"]
        ),
        *known.addresses,
    ]


def _imported(known: ReportData) -> list[str]:
    """Where the replies of targets come from that were not asked here."""
    return [
        f"{known.target(row['name'])}: imported from {show(row['imported_from'])} "
        f"on {str(row['imported_at'])[:10]}"
        for row in known.found["targets"]
        if row.get("imported_from") is not None
    ]


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
        *(("Addresses", said) for said in known.addresses),
        *(("Imported", said) for said in _imported(known)),
        ("Started", f"{str(run['created_at'])[:16]} UTC"),
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
        found.append(f"{waiting:,} conversations are pending: the rates are those of the others")
    return found
