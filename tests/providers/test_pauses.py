"""Time in which the process did not run: noticed, said, and counted nowhere."""

import time

import anyio
import pytest
from support.clock import run

from safemt_client.providers.pauses import PAUSES, Clocks, Pauses, stopwatch
from safemt_client.providers.timeouts import Deadline, TurnOverError, TurnTime


class Machine:
    """Clocks that a test moves."""

    def __init__(self) -> None:
        self.running = self.machine = self.wall = self.busy = 1000.0

    def clocks(self) -> Clocks:
        return Clocks(lambda: self.running, lambda: self.machine, lambda: self.wall, lambda: self.busy)

    def passes(
        self, *, running: float = 0.0, machine: float = 0.0, wall: float = 0.0, busy: float = 0.0
    ) -> None:
        self.running += running
        self.machine += machine
        self.wall += wall
        self.busy += busy


def noticed(**passed: float) -> tuple[list[str], float]:
    """What is said of a stretch of time between two beats, and how much of it is lost."""
    machine = Machine()
    pauses, lines = Pauses(machine.clocks()), list[str]()

    async def main() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(pauses.watch, lines.append)
            await anyio.wait_all_tasks_blocked()
            machine.passes(**passed)
            await anyio.sleep(2)
            group.cancel_scope.cancel()

    run(main)
    return lines, pauses.lost_s


@pytest.mark.parametrize(
    ("passed", "said", "lost"),
    [
        ({"running": 720, "machine": 720, "wall": 720}, "paused for 12 min", 719.5),
        ({"machine": 7300, "wall": 7300}, "paused for 2 h", 0),
        ({"wall": 3600}, "clock was set forward by 60 min", 0),
        ({"wall": -3600}, "clock was set back by 60 min", 0),
    ],
    ids=["stopped", "asleep", "clock forward", "clock back"],
)
def test_each_kind_of_jump_is_said_once(passed: dict[str, float], said: str, lost: float) -> None:
    lines, lost_s = noticed(**passed)
    assert len(lines) == 1
    assert said in lines[0]
    assert lost_s == lost


@pytest.mark.parametrize(
    "passed",
    [
        {"running": 1, "machine": 1, "wall": 1},
        {"running": 60, "machine": 60, "wall": 60, "busy": 55},
    ],
    ids=["a moment", "computing"],
)
def test_what_is_no_pause_is_not_said(passed: dict[str, float]) -> None:
    assert noticed(**passed) == ([], 0)


def test_who_wakes_up_first_knows_of_the_pause_before_the_next_beat() -> None:
    machine = Machine()
    pauses, lines = Pauses(machine.clocks()), list[str]()

    async def main() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(pauses.watch, lines.append)
            await anyio.wait_all_tasks_blocked()
            machine.passes(running=100, machine=100, wall=100)
            assert pauses.lost_s == 99.5
            group.cancel_scope.cancel()

    run(main)
    assert len(lines) == 1


@pytest.fixture
def paused(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Pauses of this process so far, in seconds: a test adds its own."""
    lost = [0.0]
    monkeypatch.setattr(Pauses, "lost_s", property(lambda self: sum(lost)))
    return lost


def test_a_deadline_counts_only_the_time_without_pauses(paused: list[float]) -> None:
    async def main() -> float:
        with Deadline(10) as deadline:
            await anyio.sleep(4)
            paused.append(30)
            await anyio.sleep_forever()
        assert deadline.expired
        return anyio.current_time()

    assert run(main) == pytest.approx(40)


def test_the_time_of_a_turn_that_is_extended_or_held(paused: list[float]) -> None:
    async def main() -> float:
        turn = TurnTime(10)
        with turn.held():
            await anyio.sleep(100)
            paused.append(7)
        turn.extend(5)
        with pytest.raises(TurnOverError), turn.limited():
            await anyio.sleep_forever()
        return anyio.current_time()

    assert run(main) == pytest.approx(115)


def test_an_endless_deadline_and_one_that_is_kept() -> None:
    async def main() -> None:
        for seconds in (float("inf"), 10):
            with Deadline(seconds) as deadline:
                await anyio.sleep(9)
            assert not deadline.expired

    run(main)


def test_what_came_while_the_loop_was_held_up_is_read() -> None:
    async def main() -> bool:
        send, receive = anyio.create_memory_object_stream[str](1)
        async with send, receive:
            with Deadline(0.05) as deadline:
                await anyio.lowlevel.checkpoint()
                time.sleep(0.2)
                # As after a wake-up: the timer is due in the turn of the loop in which this is read.
                await anyio.sleep(0)
                await anyio.sleep(0)
                send.send_nowait("here")
                await receive.receive()
                await anyio.sleep(0)
        return deadline.expired

    assert anyio.run(main) is False


def test_a_latency_holds_no_pause(paused: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr("safemt_client.providers.pauses.time.perf_counter", lambda: now)
    taken_s = stopwatch()
    now, paused[0] = 30.0, 28.0
    assert taken_s() == 2.0
    assert PAUSES.lost_s == 28.0
