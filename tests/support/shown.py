"""The tables that a report shows, read back from what was printed or written: HTML, Markdown, LaTeX, terminal."""

import html
import re
from dataclasses import dataclass
from html.parser import HTMLParser

from safemt_client.results.report import latex as forms


@dataclass
class Shown:
    """A table as a reader sees it."""

    caption: str
    columns: tuple[str, ...]
    rows: list[tuple[str, ...]]

    def by(self, *names: str) -> dict[tuple[str, ...], dict[str, str]]:
        """The rows by what stands in these columns."""
        places = [self.columns.index(name) for name in names]
        found = {
            tuple(row[at] for at in places): dict(zip(self.columns, row, strict=True)) for row in self.rows
        }
        assert len(found) == len(self.rows), (self.caption, "two rows with the same key")
        return found


def the(tables: list[Shown], caption: str) -> Shown:
    """The one table whose caption begins so."""
    [found] = [table for table in tables if table.caption.startswith(caption)]
    return found


def numbers(cell: str) -> list[float]:
    """The numbers in a cell, signs included."""
    return [float(number.replace(",", "")) for number in re.findall(r"[-+]?\d[\d,]*(?:\.\d+)?", cell)]


class _Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tables: list[Shown] = []
        self.caption = self.text = ""
        self.row: list[str] = []
        self.head = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "table":
            self.tables.append(Shown(self.caption, (), []))
        elif tag in ("thead", "tbody"):
            self.head = tag == "thead"
        elif tag == "tr":
            self.row = []
        if tag in ("p", "th", "td"):
            self.text = ""

    def handle_data(self, data: str) -> None:
        self.text += data

    def handle_endtag(self, tag: str) -> None:
        if tag == "p":
            self.caption = self.text
        elif tag in ("th", "td"):
            self.row.append(self.text)
        elif tag == "tr" and self.head:
            self.tables[-1].columns = tuple(self.row)
        elif tag == "tr":
            self.tables[-1].rows.append(tuple(self.row))


def html_tables(text: str) -> list[Shown]:
    page = _Page()
    page.feed(text)
    return page.tables


def markdown_tables(text: str) -> list[Shown]:
    found = []
    for block in re.split(r"\n\n+(?=\*\*)", text):
        match = re.match(r"\*\*(.*)\*\*\n\n((?:\|.*\n?)+)", block)
        if match:
            head, _, *rows = [_markdown_cells(line) for line in match[2].splitlines()]
            found.append(Shown(_unescaped(match[1]), head, rows))
    return found


def _markdown_cells(line: str) -> tuple[str, ...]:
    cells = re.split(r"(?<!\\)\|", line)[1:-1]
    return tuple(_unescaped(cell[1:-1]) for cell in cells)


def _unescaped(text: str) -> str:
    return html.unescape(re.sub(r"\\([\\`*_\[\]#|~$:])", r"\1", text))


def latex_tables(text: str) -> list[Shown]:
    found = []
    for body in re.findall(r"\\begin\{longtable\}(.*?)\\end\{longtable\}", text, re.DOTALL):
        caption = re.search(r"\\caption\{(.*)\}\\label", body)
        head = re.search(r"\\toprule (.*) \\\\ \\midrule", body)
        assert caption is not None
        assert head is not None
        rows = body.split("\\endfoot\n")[1].splitlines()
        found.append(
            Shown(
                _plain(caption[1]),
                tuple(map(_plain, head[1].split(" & "))),
                [tuple(map(_plain, row.removesuffix(r" \\").split(" & "))) for row in rows if row],
            )
        )
    return found


def _plain(text: str) -> str:
    text = re.sub(r"\\safemtchar\{[0-9A-F]+\}\{(.)\}", r"\1", text)
    for character, escape in forms._SPECIAL.items():
        if character != "\\":
            text = text.replace(escape, character)
    return text.replace(r"\textbackslash{}", "\\")


def terminal_tables(text: str) -> list[Shown]:
    """The tables of the screen; it must be wide enough for them, and no cell empty."""
    lines = [line.strip() for line in text.splitlines()]
    found = []
    for at, line in enumerate(lines):
        if line and set(line) == {"─"}:
            rows = []
            for row in lines[at + 1 :]:
                if not row:
                    break
                rows.append(tuple(re.split(r"\s{2,}", row)))
            head = tuple(re.split(r"\s{2,}", lines[at - 1]))
            found.append(Shown(lines[at - 3], head, rows))
    return found
