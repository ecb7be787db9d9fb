"""A report on the terminal: of each section what is brief, in an order that puts the figures first."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Console
from rich.text import Text

from safemt_client.results.report.build import document
from safemt_client.results.report.document import Block, Code, Document, Figure, Notes, Table
from safemt_client.results.report.layout import laid_out
from safemt_client.results.report.telling import told
from safemt_client.results.sanitize import plain
from safemt_client.results.scores.collect import as_dict, latest_run
from safemt_client.results.scores.indices import rounds_of
from safemt_client.results.stats.safety_index import ROUNDS
from safemt_client.results.store.reader import Queryable

__all__ = ["as_dict", "latest_run", "report", "screen", "show"]

_ORDER = (
    *("progress", "asr", "index", "trend", "differences", "moderators", "turn_labels", "scenarios"),
    *("refusals", "twins", "controls", "judges"),
)
"""The sections that come first; the others follow in the order of the report."""


def report(reader: Queryable, run_id: str | None, console: Console, si_rounds: str | None = None) -> None:
    """Print ASR by length, scenario and method, the Safety Index, outcomes and spend of a run."""
    with told() as say:
        found = as_dict(reader, run_id, rounds_of(si_rounds or ROUNDS), whole=False, say=say)
    screen(document(found), console)


def screen(document: Document, console: Console) -> None:
    """Print the brief form of a report."""
    show([Notes(document.opening)], console)
    rank = {key: place for place, key in enumerate(_ORDER)}
    for section in sorted(document.sections, key=lambda section: rank.get(section.key, len(rank))):
        show(section.brief, console)


def show(blocks: Iterable[Block], console: Console) -> None:
    """Print blocks as lines and tables; what a model or a user wrote cannot act on the screen."""
    for block in blocks:
        if isinstance(block, Notes):
            for line in block.lines:
                mark = (("warning: ", "yellow"),) if block.careful else ()
                console.print(Text.assemble(*mark, plain(line)), soft_wrap=True)
        elif isinstance(block, Code):
            console.print(Text(block.text), soft_wrap=True)
        else:
            _table(block.table if isinstance(block, Figure) else block, console)


def _table(table: Table, console: Console) -> None:
    console.print(laid_out(table, console), soft_wrap=True)
    # An asterisk is explained only if there is one.
    if table.note and (not table.note.startswith("*") or any(c.endswith("*") for r in table.rows for c in r)):
        console.print(Text(table.note), soft_wrap=True)
