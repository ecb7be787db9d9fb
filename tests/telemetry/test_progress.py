"""The display: counts, rates of late, the last error and its countdown, and what fits a terminal."""

import io
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from safemt_client.planning.costs import money
from safemt_client.providers.types import Outcome, Reply, Usage
from safemt_client.telemetry.display import LineView, Screen, View, frame, span, stopwatch, wrapped_rows
from safemt_client.telemetry.progress import Progress


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def made(**options: Any) -> tuple[Progress, Clock, io.StringIO]:
    target = SimpleNamespace(key="t", name="[red]gpt\x1b@http://127.0.0.1:1/v1")
    judge = SimpleNamespace(judge_key="j", name="mini")
    plan: Any = SimpleNamespace(
        moderators=(),
        targets=[target],
        judge=judge,
        members=(),
        turns={"t": 10},
        cached_turns={"t": 5},
        verdicts=10,
        cached_verdicts=0,
    )
    out, clock = io.StringIO(), Clock()
    return Progress(plan, Console(file=out, width=160), quiet=False, clock=clock, **options), clock, out


def shown(progress: Progress, width: int = 100, height: int = 30) -> list[str]:
    return [line.plain for line in frame(progress.view(), width, height)]


def test_counts_rate_and_time_left() -> None:
    progress, clock, _ = made()
    for _ in range(3):
        progress.asking("t")
    progress.landed("t", Outcome.ANSWERED, Usage(10, 5), 0.25)
    progress.landed("t", Outcome.ERROR_PERMANENT, Usage(), None)
    clock.now = 4.0
    whole, line, judge = progress.lines()
    assert line == "  [red]gpt\\x1b: 2/10 done, 5 cached, 1 in flight, 1 failed, 0.5/s, 16 s left"
    assert judge == "  judge mini: 0/10 done, 0.0/s"
    # The judge has not begun: what is left of all lines goes on as calls have gone so far.
    assert whole == "2/20 done (10 %), 0:04 elapsed, 0.5/s, 36 s left, spent $0.2500, $3.75/min"
    bar, head, target, _, spent = shown(progress)
    assert bar == "━" * 4 + "─" * 36 + "  2/20  10 %  0:04  0.5/s  36 s left"
    assert head.split() == ["done", "cached", "in", "flight", "failed", "tokens", "cost", "rate", "left"]
    assert target.split() == ["[red]gpt\\x1b", *["2/10", "5", "1", "1", "15", "$0.2500", "0.5/s", "16", "s"]]
    assert spent == "spent $0.2500, $3.75/min"


def test_columns_that_say_nothing_are_left_out() -> None:
    view = View([LineView("a", 0, 10, 0, 0, 0, 0, None, 0.0, None)], 1.0)
    assert frame(view, 80, 30)[1].plain.split() == ["done"]


def test_rates_are_those_of_late() -> None:
    progress, clock, _ = made()
    for _ in range(4):
        progress.landed("t", Outcome.ANSWERED, Usage(), None)
    clock.now = 50.0
    assert "0.1/s" in progress.lines()[1]
    progress.landed("t", Outcome.ANSWERED, Usage(), None)
    clock.now = 100.0
    # One call within a minute: the four before count no more.
    assert "5/10 done, 5 cached, 0.0/s, 5 min left" in progress.lines()[1].replace("-5 in flight, ", "")
    clock.now = 200.0
    assert "left" not in "".join(progress.lines())


def test_the_last_error_has_a_line_of_its_own_that_counts_down_and_goes() -> None:
    progress, clock, _ = made()
    progress.asking("t")
    progress.retrying("t", Reply(Outcome.ERROR_TRANSIENT, error="HTTP 429 slow down\x1b"), 30)
    clock.now = 10.0
    said = "[red]gpt\\x1b: 1 call waits, next in 20 s: HTTP 429 slow down\\x1b"
    assert progress.lines()[-1] == f"  {said}"
    assert shown(progress)[-1] == said
    progress.retrying("t", Reply(Outcome.ERROR_TRANSIENT, error="HTTP 503"), 60)
    assert shown(progress)[-1] == "[red]gpt\\x1b: 2 calls wait, next in 20 s: HTTP 503"
    clock.now = 80.0
    assert shown(progress)[-1] == "[red]gpt\\x1b, 70 s ago: HTTP 503".replace("70 s", "1 min")
    clock.now = 200.0
    assert "503" not in "".join(shown(progress))


def test_what_was_given_up_is_not_done() -> None:
    progress, _, _ = made()
    progress.asking("t")
    progress.landed("t", "abandoned", Usage(), None)
    assert "0/10 done, 5 cached, 0.0/s" in progress.lines()[1]


def test_a_stopped_target_is_said_at_once_and_stays_on_the_screen() -> None:
    progress, _, out = made()
    progress.stopped("t", "authentication failed [x]", "authentication", 401)
    assert "stopped: authentication failed [x]" in out.getvalue()
    assert shown(progress)[2].endswith("stopped")


def test_figures_for_people() -> None:
    assert [span(5), span(300), span(7200)] == ["5 s", "5 min", "2.0 h"]
    assert [stopwatch(5), stopwatch(605), stopwatch(3725)] == ["0:05", "10:05", "1:02:05"]
    assert [money(1234.5), money(0.00012)] == ["$1,234.50", "$0.0001"]


def test_a_wait_of_hours_is_said_once() -> None:
    progress, _, out = made()
    for wait_s in (60, 7200, 7200):
        progress.retrying("t", Reply(Outcome.ERROR_TRANSIENT, error="slow down"), wait_s)
    assert (
        out.getvalue().count("asked to wait 2.0 h: slow down; the request may be larger than the limit") == 1
    )


def line_of(number: int, done: int) -> LineView:
    name = f"organisation-{number}/a-model-of-a-long-name"
    return LineView(name, done, 10, 3, 2, 1, 12_345_678, 1.25, 4.0, 2.5)


@pytest.mark.parametrize("width", [40, 60, 80, 120, 200])
def test_the_display_fits_the_terminal_and_shows_what_is_going_on(width: int) -> None:
    view = View(
        [line_of(n, 10 if n < 20 else n - 20) for n in range(30)], 75.0, "spent $1", "m: " + "e" * 300
    )
    lines = [line.plain for line in frame(view, width, 20)]
    assert len(lines) < 20
    assert max(map(len, lines)) <= width
    assert "245/300" in lines[0]
    assert "1:15" in lines[0]
    # Those that are done make room.
    assert all(f"  {n}/10" in "\n".join(lines) for n in range(10))
    assert "and 16 more" in lines
    if width >= 80:
        assert lines[0].startswith("━")


def test_what_a_terminal_that_became_narrower_wraps_is_erased(monkeypatch: pytest.MonkeyPatch) -> None:
    assert wrapped_rows([80, 0, 40], 80) == 3
    assert wrapped_rows([80, 0, 40], 30) == 3 + 1 + 2
    console = Console(file=io.StringIO(), width=80, height=20, force_terminal=True)
    view = View([line_of(1, 5), line_of(2, 6)], 5.0)
    assert isinstance(console.file, io.StringIO)
    with Screen(console) as screen:
        screen.draw(view)
        before = len(console.file.getvalue())
        screen.draw(view)
        usual = console.file.getvalue()[before:].count("\x1b[1A")
        rows = wrapped_rows([len(line.plain) for line in frame(view, 80, 20)], 50)
        console.width = 50
        before = len(console.file.getvalue())
        screen.draw(view)
        assert console.file.getvalue()[before:].count("\x1b[1A") == rows - 1 > usual
