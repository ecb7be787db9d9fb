"""How progress is shown: a bar and a table that are kept current on a terminal, plain lines elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import TracebackType

from rich.cells import cell_len, set_cell_size
from rich.console import Console
from rich.control import Control
from rich.live import Live
from rich.segment import ControlType
from rich.text import Text

from safemt_client.planning.costs import money

__all__ = ["LineView", "Screen", "View", "frame", "plain_lines", "span", "stopwatch", "wrapped_rows"]

_LONGEST_BAR, _SHORTEST_BAR = 40, 10
_SHORTEST_NAME = 24
_LEAST_LINES = 3


@dataclass(frozen=True, slots=True)
class LineView:
    """How far one target, guard or judge is. `rate` is calls per second of late, `left_s` what they leave.

    `note` says what the figures do not: that it stopped, or how far its batches are.
    """

    name: str
    done: int
    total: int
    cached: int
    in_flight: int
    failed: int
    tokens: int
    cost_usd: float | None
    rate: float
    left_s: float | None
    note: str = ""

    @property
    def open(self) -> bool:
        """Whether something is still to come."""
        return self.done < self.total and self.note != "stopped"


@dataclass(frozen=True, slots=True)
class View:
    """How far a session is.

    `spend` is what it costs, `error` what went wrong last; `below` are more lines.
    """

    lines: Sequence[LineView]
    elapsed_s: float
    spend: str = ""
    error: str = ""
    below: Sequence[str] = ()

    @property
    def done(self) -> int:
        """Calls that are done, of all lines."""
        return sum(line.done for line in self.lines)

    @property
    def total(self) -> int:
        """Calls to make at most, of all lines."""
        return sum(line.total for line in self.lines)

    @property
    def rate(self) -> float:
        """Calls per second of late."""
        return sum(line.rate for line in self.lines)

    @property
    def left_s(self) -> float | None:
        """Seconds until the last line is done, as far as that is known: lines go on side by side."""
        if self.done >= self.total or not self.rate:
            return None
        known = [line.left_s for line in self.lines if line.left_s is not None]
        waiting = sum(line.total - line.done for line in self.lines if line.open)
        if any(line.open and line.left_s is None for line in self.lines):
            known.append(waiting / self.rate)
        return max(known, default=None)


_Column = tuple[str, Callable[[LineView], str], Callable[[LineView], object]]
_COLUMNS: Sequence[_Column] = (
    ("done", lambda line: f"{line.done}/{line.total}", lambda line: True),
    ("cached", lambda line: str(line.cached), lambda line: line.cached),
    ("in flight", lambda line: str(line.in_flight), lambda line: line.in_flight),
    ("failed", lambda line: str(line.failed), lambda line: line.failed),
    ("tokens", lambda line: f"{line.tokens:,}", lambda line: line.tokens),
    ("cost", lambda line: "-" if line.cost_usd is None else money(line.cost_usd), lambda line: line.cost_usd),
    ("rate", lambda line: f"{line.rate:.1f}/s", lambda line: line.rate),
    ("left", lambda line: line.note or _left(line.left_s), lambda line: line.note or line.left_s),
)
"""Each column: its name, its text, and whether it has anything to say."""
_DISPENSABLE = ("tokens", "cached", "cost", "rate", "in flight", "left")
"""Left out in this order where the terminal is narrow."""


def frame(view: View, width: int, height: int, *, ascii_only: bool = False) -> list[Text]:
    """The lines of the display; none is wider than the terminal, and all fit into its height."""
    facts = f"{view.done}/{view.total}  {_share(view)}  {stopwatch(view.elapsed_s)}  {view.rate:.1f}/s"
    if view.left_s is not None:
        facts += f"  {_left(view.left_s)} left"
    room = min(width - cell_len(facts) - 2, _LONGEST_BAR)
    head = _bar(view, room, ascii_only) + Text("  ") if room >= _SHORTEST_BAR else Text()
    below = [*([view.spend] if view.spend else []), *view.below, *([view.error] if view.error else [])]
    shown, hidden = _fitting(view.lines, max(height - 3 - len(below), _LEAST_LINES))
    lines = [head + Text(facts), *_table(shown, width)]
    lines += [Text(f"and {hidden} more")] if hidden else []
    lines += [Text(text, style="yellow" if text == view.error else "") for text in below]
    for line in lines:
        line.truncate(width, overflow="ellipsis")
    return lines


def plain_lines(view: View) -> list[str]:
    """The same facts as lines that need no terminal."""
    parts = [
        f"{view.done}/{view.total} done ({_share(view)})",
        f"{stopwatch(view.elapsed_s)} elapsed",
        f"{view.rate:.1f}/s",
        *([f"{_left(view.left_s)} left"] if view.left_s is not None else []),
        *([view.spend] if view.spend else []),
    ]
    lines = [", ".join(parts)]
    for line in view.lines:
        said = [f"{line.done}/{line.total} done"]
        said += [f"{line.cached} cached"] if line.cached else []
        said += [f"{line.in_flight} in flight"] if line.in_flight else []
        said += [f"{line.failed} failed"] if line.failed else []
        said += [f"{line.rate:.1f}/s"] if line.open else []
        said += [f"{_left(line.left_s)} left"] if line.left_s is not None else []
        said += [line.note] if line.note else []
        lines.append(f"  {line.name}: {', '.join(said)}")
    return [*lines, *(f"  {text}" for text in (*view.below, view.error) if text)]


def _bar(view: View, width: int, ascii_only: bool) -> Text:
    full = width * view.done // view.total if view.total else width
    done, open_ = ("#", "-") if ascii_only else ("━", "─")
    return Text.assemble((done * full, "green"), (open_ * (width - full), "dim"))


def _share(view: View) -> str:
    return f"{100 * view.done // view.total if view.total else 100} %"


def _fitting(lines: Sequence[LineView], most: int) -> tuple[list[LineView], int]:
    """As many lines as there is room for, those with something to come first, and how many there are more."""
    if len(lines) <= most:
        return list(lines), 0
    kept = sorted(sorted(range(len(lines)), key=lambda at: not lines[at].open)[: most - 1])
    return [lines[at] for at in kept], len(lines) - len(kept)


def _table(lines: Sequence[LineView], width: int) -> list[Text]:
    columns = [column for column in _COLUMNS if any(column[2](line) for line in lines)]
    for name in ("", *_DISPENSABLE):
        columns = [column for column in columns if column[0] != name]
        cells = [[text(line) for _, text, _ in columns] for line in lines]
        widths = [
            max(cell_len(name), *(cell_len(row[at]) for row in cells))
            for at, (name, _, _) in enumerate(columns)
        ]
        longest = max((cell_len(line.name) for line in lines), default=0)
        room = width - sum(widths) - 2 * len(widths)
        if room >= min(longest, _SHORTEST_NAME):
            break
    names = max(min(longest, room), 0)

    def row(name: str, texts: Sequence[str]) -> str:
        shown = name if cell_len(name) <= names else set_cell_size(name, max(names - 1, 0)) + "…"
        return "  ".join(
            [
                set_cell_size(shown, names),
                *(" " * (w - cell_len(t)) + t for t, w in zip(texts, widths, strict=True)),
            ]
        ).rstrip()

    head = Text(row("", [name for name, _, _ in columns]), style="bold")
    body = [
        Text(row(line.name, texts), style="red" if line.failed or line.note == "stopped" else "")
        for line, texts in zip(lines, cells, strict=True)
    ]
    return [head, *body]


def _left(seconds: float | None) -> str:
    return "" if seconds is None else span(seconds)


def span(seconds: float) -> str:
    """A length of time, for people."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    if seconds < 3600:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"


def stopwatch(seconds: float) -> str:
    """Minutes and seconds, and hours where there are any."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


class Screen:
    """Keeps the lines of a display current in their place on a terminal."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live = Live(Text(), console=console, auto_refresh=False)
        self._widths: list[int] = []

    def __enter__(self) -> Screen:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def draw(self, view: View) -> None:
        """Replace what is shown; what a terminal that became narrower has wrapped goes too."""
        console = self._console
        if extra := wrapped_rows(self._widths, console.width) - len(self._widths):
            up = (ControlType.CURSOR_UP, 1)
            erase = (ControlType.ERASE_IN_LINE, 2)
            console.control(Control(ControlType.CARRIAGE_RETURN, erase, *(up, erase) * extra))
        lines = frame(view, console.width, console.height, ascii_only=console.options.ascii_only)
        self._widths = [cell_len(line.plain) for line in lines]
        self._live.update(Text("\n").join(lines), refresh=True)


def wrapped_rows(widths: Sequence[int], room: int) -> int:
    """The rows that lines of these widths take on a terminal that wraps them."""
    return sum(max(-(-width // max(room, 1)), 1) for width in widths)
