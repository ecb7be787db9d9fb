"""A report on the terminal: of each section what is brief, in an order that puts the figures first."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Console
from rich.text import Text

from safemt_client.results.report.build import document
from safemt_client.results.report.document import Block, Code, Document, Figure, Notes, Table
from safemt_client.results.report.layout import Letters, laid_out
from safemt_client.results.report.sentences import sentence
from safemt_client.results.report.telling import told
from safemt_client.results.sanitize import plain
from safemt_client.results.scores.collect import as_dict, latest_run
from safemt_client.results.scores.indices import rounds_of
from safemt_client.results.stats.safety_index import ROUNDS
from safemt_client.results.store.queries import Queryable

__all__ = ["as_dict", "latest_run", "report", "screen", "show"]

_ORDER = (
    *(
        "progress",
        "stopping",
        "asr",
        "index",
        "trend",
        "differences",
        "moderators",
        "turn_labels",
        "scenarios",
    ),
    *("refusals", "twins", "controls", "judges"),
)
"""The sections that come first; the others follow in the order of the report."""


def report(
    reader: Queryable,
    run_id: str | None,
    console: Console,
    si_rounds: str | None = None,
    *,
    about: Queryable | None = None,
) -> None:
    """Print ASR by length, scenario and method, the Safety Index, outcomes and spend of a run.

    `about` is what `about_run` gives, if the caller asks it as well.
    """
    with told() as say:
        found = as_dict(reader, run_id, rounds_of(si_rounds or ROUNDS), whole=False, say=say, about=about)
    screen(document(found), console)


def screen(document: Document, console: Console) -> None:
    """Print the brief form of a report."""
    letters = Letters()
    show([Notes(document.opening)], console, letters)
    rank = {key: place for place, key in enumerate(_ORDER)}
    for section in sorted(document.sections, key=lambda section: rank.get(section.key, len(rank))):
        show(section.brief, console, letters)


def show(blocks: Iterable[Block], console: Console, letters: Letters | None = None) -> None:
    """Print blocks as lines and tables; what a model or a user wrote cannot act on the screen.

    `letters` stand for long names in tables that are too wide; the same ones in all that is shown with them.
    """
    letters = letters or Letters()
    for block in blocks:
        if isinstance(block, Notes):
            for line in block.lines:
                mark = (("warning: ", "yellow"),) if block.careful else ()
                sentence(Text.assemble(*mark, plain(line)), console)
        elif isinstance(block, Code):
            console.print(Text(block.text), soft_wrap=True)
        else:
            _table(block.table if isinstance(block, Figure) else block, console, letters)


def _table(table: Table, console: Console, letters: Letters) -> None:
    console.print(laid_out(table, console, letters), soft_wrap=True)
    # An asterisk is explained only if there is one.
    if table.note and (not table.note.startswith("*") or any(c.endswith("*") for r in table.rows for c in r)):
        sentence(Text(table.note), console)
