"""Where results are printed: as wide as the terminal, or whole where there is none."""

from __future__ import annotations

import os
from typing import IO

from rich.console import Console

__all__ = ["open_console"]

_WHOLE = 10_000
"""Columns of what is no terminal: no table is wider."""


def open_console(file: IO[str] | None = None, *, stderr: bool = False) -> Console:
    """A console on a file, on stdout or on stderr.

    In a file or a pipe nothing is narrowed, unless the variable COLUMNS says how wide it is to be.
    """
    # What is printed are names and texts of others: `:kite:` in them is no emoji.
    made = Console(file=file, stderr=stderr, emoji=False)
    if made.is_terminal or os.environ.get("COLUMNS", "").isdigit():
        return made
    return Console(file=file, stderr=stderr, width=_WHOLE, emoji=False)
