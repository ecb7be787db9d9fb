"""`data check`: what a data set contains, and what is missing, broken, duplicated or odd in it."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import asdict, dataclass
from typing import Any

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table

from safemt_client.datasets.images import ImageError, prepare
from safemt_client.datasets.model import Dataset
from safemt_client.providers.errors import InputError
from safemt_client.results.sanitize import plain

__all__ = ["Report", "check", "render"]

_SHOWN = 10


@dataclass(frozen=True)
class Report:
    """Findings on a data set. Counts are of dialogues; `missing_ids` maps a length to item ids."""

    name: str
    digest: str
    licence: str | None
    dialogues: int
    items: int
    lengths: dict[int, int]
    scenarios: dict[str, int]
    sources: dict[str, int]
    methods: dict[str, int]
    missing_ids: dict[int, list[str]]
    missing_images: list[str]
    broken_images: list[str]
    duplicate_questions: list[list[str]]
    oddities: dict[str, int]
    oddity_list: list[dict[str, str]]

    def as_dict(self) -> dict[str, Any]:
        """The findings as JSON-able data."""
        return asdict(self)


def check(dataset: Dataset, check_images: bool = True) -> Report:
    """Count a data set and open its images."""
    ids: dict[int, set[str]] = defaultdict(set)
    questions: dict[str, set[str]] = defaultdict(set)
    paths: dict[str, str] = {}
    for dialogue in dataset.dialogues:
        ids[dialogue.length].add(dialogue.item_id)
        if dialogue.question:
            questions[" ".join(dialogue.question.split()).casefold()].add(dialogue.item_id)
        for message in dialogue.messages:
            for path in message.images:
                paths.setdefault(path, dialogue.item_id)
    everyone = set().union(*ids.values()) if ids else set()
    missing, broken = [], []
    for path, item in sorted(paths.items()) if check_images else ():
        try:
            file = dataset.image_path(path)
        except InputError as error:
            missing.append(f"{error} ({item})")
            continue
        try:
            prepare(file, item=item)
        except ImageError as error:
            broken.append(str(error))
    return Report(
        name=dataset.name,
        digest=dataset.digest,
        licence=dataset.licence,
        dialogues=len(dataset.dialogues),
        items=len(everyone),
        lengths=dict(sorted(Counter(d.length for d in dataset.dialogues).items())),
        scenarios=dict(sorted(Counter(d.scenario or "unknown" for d in dataset.dialogues).items())),
        sources=dict(sorted(Counter(d.source or "unknown" for d in dataset.dialogues).items())),
        methods=dict(sorted(Counter(d.method or "unknown" for d in dataset.dialogues).items())),
        missing_ids={k: sorted(everyone - found) for k, found in sorted(ids.items()) if everyone - found},
        missing_images=missing,
        broken_images=broken,
        duplicate_questions=sorted(sorted(items) for items in questions.values() if len(items) > 1),
        oddities=dict(sorted(Counter(oddity.kind for oddity in dataset.warnings).items())),
        oddity_list=[asdict(oddity) for oddity in dataset.warnings],
    )


def render(report: Report) -> RenderableType:
    """The findings for a terminal."""
    table = Table(box=None, show_header=False)

    def counts(values: dict[Any, int]) -> str:
        return escape(plain(", ".join(f"{name}: {count}" for name, count in values.items())))

    def some(values: list[str]) -> str:
        if not values:
            return "none"
        more = f" and {len(values) - _SHOWN} more (--json lists all)" if len(values) > _SHOWN else ""
        return escape(plain(f"{len(values)}: " + ", ".join(values[:_SHOWN]) + more))

    table.add_row("data set", escape(plain(f"{report.name}, digest {report.digest[:12]}")))
    table.add_row("licence", escape(plain(report.licence or "not stated")))
    table.add_row("dialogues", f"{report.dialogues} of {report.items} items")
    table.add_row("by user turns", counts(report.lengths))
    table.add_row("by scenario", counts(report.scenarios))
    table.add_row("by source", counts(report.sources))
    table.add_row("by method", counts(report.methods))
    for length, items in report.missing_ids.items():
        table.add_row(f"missing at {length}", some(items))
    table.add_row("missing images", some(report.missing_images))
    table.add_row("broken images", some(report.broken_images))
    table.add_row("same question", some([" = ".join(items) for items in report.duplicate_questions]))
    table.add_row("oddities", counts(report.oddities) or "none")
    return Group(table)
