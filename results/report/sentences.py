"""Sentences on the terminal, between tables and in plans."""

from __future__ import annotations

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

__all__ = ["sentence"]

_NARROWEST = 40
"""Lines of a terminal that is narrower than this are left to it."""


def sentence(text: Text, console: Console) -> None:
    """A sentence: on a terminal it breaks between words, and what follows is indented; elsewhere never."""
    indent = " " * (len(text.plain) - len(text.plain.lstrip()) + 2)
    if not console.is_terminal or cell_len(text.plain) <= console.width or console.width < _NARROWEST:
        console.print(text, soft_wrap=True)
        return
    first, *_ = text.wrap(console, console.width)
    rest = text[len(first.plain) :]
    first.rstrip()
    console.print(first, soft_wrap=True)
    rest = rest[len(rest.plain) - len(rest.plain.lstrip()) :]
    for line in rest.wrap(console, console.width - len(indent)):
        line.rstrip()
        console.print(Text(indent) + line, soft_wrap=True)
