"""What a report is at: of a large run it takes a while, and whoever waits is told for what."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.text import Text

__all__ = ["told"]

_LONG_S = 3.0


@contextmanager
def told(console: Console | None = None) -> Iterator[Callable[[str], None]]:
    """Whom to tell what is computed next; shown on stderr, or on a console of one's own.

    On a terminal that is one line, which is gone at the end. Elsewhere there is a line for each thing,
    once the report has taken some seconds: a short report says nothing.
    """
    console = console or Console(stderr=True)
    if console.is_terminal:
        with console.status("report") as status:
            yield lambda what: status.update(Text(f"report: computing {what}"))
        return
    begun = time.monotonic()

    def line(what: str) -> None:
        if time.monotonic() - begun >= _LONG_S:
            console.print(f"report: computing {what}", markup=False, highlight=False, soft_wrap=True)

    yield line
