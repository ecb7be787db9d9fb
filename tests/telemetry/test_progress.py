"""The display: counts, the countdown of a retry, plain lines where there is no terminal."""

import io
from types import SimpleNamespace
from typing import Any

from rich.console import Console

from safemt_client.planning.costs import money
from safemt_client.providers.types import Outcome, Reply, Usage
from safemt_client.telemetry.progress import Progress, span


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def made(**options: Any) -> tuple[Progress, Clock, io.StringIO]:
    target = SimpleNamespace(key="t", name="[red]gpt\x1b")
    judge = SimpleNamespace(judge_key="j", name="mini")
    plan: Any = SimpleNamespace(
        moderators=(),
        targets=[target],
        judge=judge,
        turns={"t": 10},
        cached_turns={"t": 5},
        verdicts=10,
        cached_verdicts=0,
    )
    out, clock = io.StringIO(), Clock()
    return Progress(plan, Console(file=out, width=160), quiet=False, clock=clock, **options), clock, out


def shown(progress: Progress) -> str:
    out = io.StringIO()
    Console(file=out, width=160).print(progress.table())
    return out.getvalue()


def test_counts_rate_and_time_left() -> None:
    progress, clock, _ = made()
    for _ in range(3):
        progress.asking("t")
    progress.landed("t", Outcome.ANSWERED, Usage(10, 5), 0.25)
    progress.landed("t", Outcome.ERROR_PERMANENT, Usage(), None)
    clock.now = 4.0
    line = progress.lines()[0]
    assert "2/10 done, 5 cached, 1 in flight, 1 failed, 0.5/s" in line
    assert "16 s left" in line
    table = shown(progress)
    assert "$0.2500" in table
    assert "[red]gpt\\x1b" in table


def test_a_retry_counts_down_and_gives_its_reason() -> None:
    progress, clock, _ = made()
    progress.asking("t")
    progress.retrying("t", Reply(Outcome.ERROR_TRANSIENT, error="HTTP 429 slow down\x1b"), 30)
    clock.now = 10.0
    assert "1 in 20 s: HTTP 429 slow down\\x1b" in progress.lines()[0]
    assert "1 in 20 s" in shown(progress)
    clock.now = 31.0
    assert "429" not in progress.lines()[0]


def test_what_was_given_up_is_not_done() -> None:
    progress, _, _ = made()
    progress.asking("t")
    progress.landed("t", "abandoned", Usage(), None)
    assert "0/10 done, 5 cached, 0 in flight" in progress.lines()[0]


def test_a_stopped_target_is_said_at_once_and_stays_on_the_screen() -> None:
    progress, _, out = made()
    progress.stopped("t", "authentication failed [x]", "authentication", 401)
    assert "stopped: authentication failed [x]" in out.getvalue()
    assert "stopped" in shown(progress)


def test_figures_for_people() -> None:
    assert [span(5), span(300), span(7200)] == ["5 s", "5 min", "2.0 h"]
    assert [money(1234.5), money(0.00012)] == ["$1,234.50", "$0.0001"]


def test_a_wait_of_hours_is_said_once() -> None:
    progress, _, out = made()
    for wait_s in (60, 7200, 7200):
        progress.retrying("t", Reply(Outcome.ERROR_TRANSIENT, error="slow down"), wait_s)
    assert (
        out.getvalue().count("asked to wait 2.0 h: slow down; the request may be larger than the limit") == 1
    )
