"""A report as Markdown: headings, notes and tables."""

from __future__ import annotations

import re

from safemt_client.results.report.document import Code, Document, Figure, Notes, Table

__all__ = ["escaped", "markdown"]

_SPECIAL = re.compile(r"([\\`*_\[\]#|~$]|:(?=//))")
_LIST = re.compile(r"^(\d*)([-+=.)])")
_HTML = {"&": "&amp;", "<": "&lt;", ">": "&gt;", "@": "&#64;"}


def markdown(document: Document) -> str:
    """GitHub's Markdown, without HTML; what a model or a user wrote cannot become any."""
    parts = [f"# {escaped(document.title)}", _plain_table([("", ""), *document.facts])]
    parts += [f"> Careful: {escaped(warning)}" for warning in document.warnings]
    for section in document.sections:
        parts.append(f"## {escaped(section.title)}")
        for block in section.blocks:
            if isinstance(block, Notes):
                parts += [f"> {_line(line)}" if block.careful else _line(line) for line in block.lines]
            elif isinstance(block, Code):
                parts += [f"`{block.caption}`:", _fenced(block.text)]
            else:
                parts.append(_table(block.table if isinstance(block, Figure) else block))
    return "\n\n".join(parts) + "\n"


def escaped(text: str) -> str:
    """The text as Markdown that shows just it: no markup, link, mention or HTML."""
    shown = _SPECIAL.sub(r"\\\1", text)
    shown = "".join(_HTML.get(character, character) for character in shown)
    # Without its dot a bare www.example.org is not a link.
    return re.sub(r"(?i)\bwww\.", "www&#46;", shown)


def _line(text: str) -> str:
    """A paragraph: at its start a few characters more would make a list or underline a heading."""
    return _LIST.sub(r"\1\\\2", escaped(text.lstrip()))


def _table(table: Table) -> str:
    lines = [
        f"**{escaped(table.caption)}**",
        "",
        _row([escaped(column.name) for column in table.columns]),
        _row(["---:" if column.numeric else "---" for column in table.columns]),
        *(_row([escaped(cell) for cell in row]) for row in table.rows),
    ]
    if table.note:
        lines += ["", _line(table.note)]
    return "\n".join(lines)


def _plain_table(rows: list[tuple[str, str]]) -> str:
    lines = [_row([escaped(cell) for cell in row]) for row in rows]
    return "\n".join([lines[0], _row(["---", "---"]), *lines[1:]])


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _fenced(text: str) -> str:
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}toml\n{text}{fence}"
