"""Every fault of `behaviours.py` through the real client, the whole program and the real store."""

import contextlib
import io
import json
import re
import sys
from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta, tzinfo
from pathlib import Path
from typing import Any

import anyio
import pytest
from anyio.from_thread import start_blocking_portal
from faults import server
from faults.behaviours import FAULTS, Fault
from faults.table import CODES, EXPECTED, PAGE, SCENARIOS, Expected, page_with_table
from support.faults import Behaviour, Endpoint, Received, answer, error, serve

from safemt_client.__main__ import main
from safemt_client.providers.error_codes import ErrorCode
from safemt_client.providers.errors import TargetStoppedError
from safemt_client.providers.limits.limiter import AccountLimiter
from safemt_client.providers.openai_compatible import OpenAICompatible
from safemt_client.providers.retry import with_retries
from safemt_client.providers.timeouts import Timeouts
from safemt_client.providers.transport import make_transport
from safemt_client.providers.types import Message, Outcome, Reply, Request

ROOT = Path(__file__).resolve().parents[2]
HELLO = Request((Message("user", "hi"),))
STALL_S = 0.3


class FakeTime:
    """A clock that only a sleep moves, and the sleeps."""

    def __init__(self) -> None:
        self.now = 0.0
        self.waits: list[float] = []

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.waits.append(seconds)
        await anyio.lowlevel.checkpoint()


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> FakeTime:
    return put_in_place(monkeypatch)


def put_in_place(monkeypatch: pytest.MonkeyPatch) -> FakeTime:
    """Pauses of accounts and waits between attempts go by a clock of our own."""
    time = FakeTime()
    monkeypatch.setitem(with_retries.__kwdefaults__, "sleep", time.sleep)
    monkeypatch.setitem(AccountLimiter.__init__.__kwdefaults__, "clock", time)
    return time


def says(name: str) -> str:
    return f"Describe a kite, as in {name}."


def named(text: str) -> str:
    found = re.search(r"as in (\S+)\.", text)
    assert found is not None
    return found[1]


class Program:
    """The program in this process and folder, beside an endpoint in a thread; its store is read by SQL."""

    def __init__(self, folder: Path, *texts: str) -> None:
        self.folder = folder
        self.out = ""
        with (folder / "data.jsonl").open("w") as file:
            for number, text in enumerate(texts):
                dialogue = [{"role": "user", "content": text}]
                file.write(
                    json.dumps({"id": f"i{number}", "scenario": "Satire", "dialogue": dialogue}) + "\n"
                )

    def run(
        self,
        *words: str,
        script: tuple[Behaviour, ...] = (),
        choose: Callable[[Received], Behaviour | None] = lambda received: None,
        targets: tuple[str, ...] = ("m",),
    ) -> tuple[int, Endpoint]:
        with (
            start_blocking_portal() as portal,
            portal.wrap_async_context_manager(serve(script, answer(), choose=choose)) as endpoint,
        ):
            given = [word for name in targets for word in ("--provider", f"{name}@{endpoint.url}")]
            given += ["--data", str(self.folder / "data.jsonl"), "--judge", "none", "--images", "off", *words]
            return self._main(*given, "--db", self._db), endpoint

    def sql(self, query: str) -> list[dict[str, Any]]:
        assert self._main("sql", query, "--db", self._db, "--format", "json") == 0
        rows: list[dict[str, Any]] = json.loads(self.out)
        return rows

    @property
    def _db(self) -> str:
        return str(self.folder / "safemt.duckdb")

    def _main(self, *words: str) -> int:
        out = io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
            status = main(list(words))
        self.out = out.getvalue()
        return status


@pytest.fixture(autouse=True)
def _surroundings(monkeypatch: pytest.MonkeyPatch) -> None:
    prepare(monkeypatch)


def prepare(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAFEMT_API_KEY", "sk-planted-42")
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr(sys, "argv", ["safemt"])


TURNS = """SELECT r.name, t.request, t.attempt, t.outcome, t.error, t.error_code, t.text FROM turns t
           JOIN run_targets r USING (run_id, target_key) ORDER BY t.started_at, t.attempt"""


class Stored:
    """What the program stored of each fault in one run, and how often it asked, then and on resume."""

    def __init__(self) -> None:
        self.turns: dict[str, list[dict[str, Any]]] = defaultdict(list)
        self.asked: dict[str, list[int]] = {}
        self.out: dict[str, str] = {}
        self.status: dict[str, int] = {}


def chooser(
    name_of: Callable[[Received], str],
) -> tuple[Callable[[Received], Behaviour | None], dict[str, int]]:
    """Each request meets the next behaviour of the fault that it names."""
    seen: dict[str, int] = defaultdict(int)

    def choose(received: Received) -> Behaviour | None:
        name = name_of(received)
        fault = FAULTS[name]
        place = seen[name]
        seen[name] += 1
        if fault.for_ever:
            return fault.script[-1]
        return fault.script[place] if place < len(fault.script) else None

    return choose, seen


def by_text(received: Received) -> str:
    return named(received.json["messages"][0]["content"])


def by_model(received: Received) -> str:
    return str(received.json["model"])


def both_runs(
    folder: Path, texts: list[str], targets: tuple[str, ...], name_of: Callable[[Received], str]
) -> Stored:
    """All of them in one run at one request a time, then the same command against an endpoint that is well."""
    stored, program = Stored(), Program(folder, *texts)
    choose, seen = chooser(name_of)
    words = ("--max-concurrency", "1", "--max-wait", "100")
    status, _ = program.run(*words, choose=choose, targets=targets)
    out = program.out
    for turn in program.sql(TURNS):
        name = (
            named(json.loads(turn["request"])[0]["content"])
            if targets == ("m",)
            else turn["name"].partition("@")[0]
        )
        stored.turns[name].append(turn)
    _, again = program.run(*words, targets=targets)
    later: dict[str, int] = defaultdict(int)
    for received in again.requests:
        later[name_of(received)] += 1
    for name, times in seen.items():
        stored.asked[name] = [times, later[name]]
        stored.status[name], stored.out[name] = status, out
    return stored


def alone(name: str) -> bool:
    """Whether it needs a run of its own: the others would meet it too, or wait behind it."""
    return EXPECTED[name].early or EXPECTED[name].stalls or FAULTS[name].for_ever or name == "close-kept"


@pytest.fixture(scope="module")
def side_by_side(tmp_path_factory: pytest.TempPathFactory) -> Stored:
    """One run in which each dialogue meets a fault of its own."""
    names = [name for name, one in EXPECTED.items() if not one.stops and not alone(name)]
    with pytest.MonkeyPatch.context() as monkeypatch:
        prepare(monkeypatch)
        put_in_place(monkeypatch)
        return both_runs(tmp_path_factory.mktemp("faults"), [says(name) for name in names], ("m",), by_text)


@pytest.fixture(scope="module")
def stopping(tmp_path_factory: pytest.TempPathFactory) -> Stored:
    """One run in which each target is stopped by a fault of its own, with two requests to send."""
    names = tuple(name for name, one in EXPECTED.items() if one.stops)
    with pytest.MonkeyPatch.context() as monkeypatch:
        prepare(monkeypatch)
        put_in_place(monkeypatch)
        return both_runs(tmp_path_factory.mktemp("stops"), ["One kite?", "Two kites?"], names, by_model)


def ask(
    fault: Fault, expected: Expected, time: FakeTime
) -> tuple[Reply | TargetStoppedError, list[Reply], int]:
    """The reply, or the line of a stop; the attempts before it; the number of requests."""
    before: list[Reply] = []

    async def once() -> tuple[Reply | TargetStoppedError, list[Reply], int]:
        then = fault.script[-1] if fault.for_ever else answer()
        async with serve(fault.script, then) as endpoint, make_transport() as transport:
            provider = OpenAICompatible(
                identity="local/m",
                model="m",
                base_url=endpoint.url,
                api_key="sk-planted-42",
                transport=transport,
                limiter=AccountLimiter(concurrency=2),
                timeouts=Timeouts(max_wait_s=100, attempt_s=STALL_S if expected.stalls else 60),
            )

            def on_retry(reply: Reply, wait_s: float) -> None:
                before.append(reply)
                assert wait_s >= 0
                provider._timeouts = replace(provider._timeouts, attempt_s=60)  # only the fault is cut short

            try:
                found: Reply | TargetStoppedError = await provider.ask(HELLO, on_retry)
            except TargetStoppedError as stop:
                found = stop
            return found, before, len(endpoint.requests)

    return anyio.run(once)


def is_as_expected(waits: list[float], expected: Expected) -> None:
    assert len(waits) == len(expected.waits)
    for wait, wanted in zip(waits, expected.waits, strict=True):
        if isinstance(wanted, tuple):
            assert wanted[0] <= wait <= wanted[1]
        else:
            assert wait == wanted


@pytest.mark.parametrize("name", FAULTS)
def test_fault(name: str, time: FakeTime, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    expected = EXPECTED[name]
    # The client alone: what comes back, how often it asks, how long it waits.
    found, before, requests = ask(FAULTS[name], expected, time)
    assert requests == expected.requests
    is_as_expected(time.waits, expected)
    assert all(reply.outcome is Outcome.ERROR_TRANSIENT for reply in before)
    code = CODES.get(name)
    assert all(reply.error_code == code for reply in before)
    if expected.stops:
        assert isinstance(found, TargetStoppedError)
        assert expected.said in str(found)
        assert len(str(found).splitlines()) == 1
        assert found.code == code
    else:
        assert isinstance(found, Reply)
        assert found.outcome == expected.outcome
        assert found.error_code == (None if found.outcome is Outcome.ANSWERED else code)
        assert expected.said in ((before or [found])[0].error or "")
    # The whole program: what is in the store, what the same command asks again.
    if alone(name):
        stays_an_error_and_is_asked_again(FAULTS[name], expected, Program(tmp_path, says(name)))
        return
    stored: Stored = request.getfixturevalue("stopping" if expected.stops else "side_by_side")
    turns = stored.turns[name]
    last = turns[-1]
    assert [turn["outcome"] for turn in turns] == ["error_transient"] * len(before) + [expected.outcome]
    assert [turn["attempt"] for turn in turns] == list(range(1, expected.requests + 1))
    assert last["text"] == expected.text
    assert (last["error"] is None) == (expected.outcome == "answered")
    codes = [code] * len(turns)
    assert [turn["error_code"] for turn in turns] == ([*codes[:-1], None] if last["error"] is None else codes)
    assert expected.said in (stored.out[name] if expected.stops else turns[0]["error"] or "")
    to_ask = (2 if expected.stops else 1) if expected.asked_on_resume else 0
    assert stored.asked[name] == [expected.requests, to_ask]


def stays_an_error_and_is_asked_again(fault: Fault, expected: Expected, program: Program) -> None:
    """Once no more waiting is allowed it ends as an error; the same command then gets the answer."""
    words = ["--max-wait", "100" if fault.for_ever else "0"]
    times = expected.requests if fault.for_ever else 1
    short = ("--attempt-timeout", str(STALL_S)) if expected.stalls else ()
    status, endpoint = program.run(*words, *short, script=fault.script * times)
    assert (status, len(endpoint.requests)) == (int(bool(expected.waits)), times)
    turns = program.sql(TURNS)
    if not expected.waits:
        assert [turn["outcome"] for turn in turns] == [expected.outcome]
        return
    assert [turn["outcome"] for turn in turns] == ["error_transient"] * times
    assert expected.said in turns[0]["error"]
    status, endpoint = program.run(*words)
    assert (status, len(endpoint.requests)) == (0, 1)
    assert [turn["outcome"] for turn in program.sql(TURNS)] == ["error_transient"] * times + ["answered"]


def test_a_stop_ends_with_status_1_and_one_line_each(stopping: Stored) -> None:
    for name, out in stopping.out.items():
        assert stopping.status[name] == 1
        assert "Traceback" not in out
        (last,) = (line for line in out.splitlines() if "cannot be asked: fix that" in line)
        assert re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", last.partition(" cannot be asked")[0])


def test_every_behaviour_has_a_row_and_every_row_a_test() -> None:
    assert FAULTS.keys() == EXPECTED.keys()
    fails = {name for name, one in EXPECTED.items() if one.waits or one.outcome != "answered"}
    assert CODES.keys() == fails
    assert set(CODES.values()) <= set(ErrorCode)
    for _, _, test in SCENARIOS:
        file, _, function = test.partition("::")
        assert f"def {function}(" in (ROOT / file).read_text(), test


def test_the_page_holds_the_table() -> None:
    page = PAGE.read_text()
    assert page == page_with_table(page), "run: python tests/faults/table.py"
    for name in FAULTS:
        assert f"`test_fault[{name}]`" in page


def test_a_key_expires_in_the_middle_and_nothing_is_asked_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = [says(str(number)) for number in range(12)]
    program = Program(tmp_path, *texts)
    answered: list[str] = []

    def choose(received: Received) -> Behaviour | None:
        if received.headers["authorization"] == "Bearer sk-planted-42" and len(answered) >= 5:
            return error(401, "token_expired", "the key has expired")
        answered.append(by_text(received))
        return None

    status, endpoint = program.run("--max-concurrency", "3", choose=choose)
    assert status == 1
    assert program.out.count("authentication failed (HTTP 401)") == 1
    # At most those in flight were sent beside the one that showed it.
    assert 6 <= len(endpoint.requests) <= 8
    assert program.sql("SELECT count(*) AS n FROM replies WHERE outcome = 'answered'") == [{"n": 5}]
    # Still the old key: one request shows it again.
    status, endpoint = program.run("--max-concurrency", "1", choose=choose)
    assert (status, len(endpoint.requests)) == (1, 1)
    monkeypatch.setenv("SAFEMT_API_KEY", "sk-planted-new")
    status, endpoint = program.run("--max-concurrency", "3", choose=choose)
    assert (status, len(endpoint.requests)) == (0, 7)
    assert sorted(answered) == sorted(str(number) for number in range(12))


@pytest.mark.parametrize("name", ["quota-daily-hours", "quota-daily-headers", "429-absurd"])
def test_who_waits_behind_a_stop_is_told_at_once(name: str) -> None:
    async def both() -> tuple[int, int]:
        stopped = 0
        fault = FAULTS[name]
        async with serve(fault.script, answer()) as endpoint, make_transport() as transport:
            provider = OpenAICompatible(
                identity="local/m",
                model="m",
                base_url=endpoint.url,
                api_key=None,
                transport=transport,
                limiter=AccountLimiter(concurrency=1),
            )

            async def one() -> None:
                nonlocal stopped
                with pytest.raises(TargetStoppedError):
                    await provider.ask(HELLO)
                stopped += 1

            with anyio.fail_after(30):
                async with anyio.create_task_group() as group:
                    for _ in range(5):
                        group.start_soon(one)
            return stopped, len(endpoint.requests)

    assert anyio.run(both) == (5, 1)


class JumpingClock(datetime):
    """A wall clock that is set back and forward: `offsets` are taken in turn."""

    offsets: list[timedelta] = []  # noqa: RUF012
    read = 0

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> datetime:  # type: ignore[override]
        offset = cls.offsets[cls.read % len(cls.offsets)]
        cls.read += 1
        return datetime.now(tz) + offset


def set_clock(monkeypatch: pytest.MonkeyPatch, *hours: float) -> None:
    """Wherever the wall clock is read it is off by so many hours, in turn."""
    clock = type("Clock", (JumpingClock,), {"offsets": [timedelta(hours=h) for h in hours]})
    for module in (
        "providers.responses.waits",
        "providers.limits.rates",
        "providers.base",
        "engine.recorder",
        "planning.build",
    ):
        monkeypatch.setattr(f"safemt_client.{module}.datetime", clock)


@pytest.mark.parametrize("hours", [-24.0, 24.0])
def test_a_wrong_clock_does_not_change_a_wait(
    hours: float, time: FakeTime, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_clock(monkeypatch, hours)
    ask(FAULTS["429-date"], EXPECTED["429-date"], time)
    assert time.waits == [30.0]


@pytest.mark.parametrize("hours", [(0.0, -30.0), (0.0, 30.0), (-24.0, 0.0, 24.0)])
def test_the_clock_jumps_during_a_run(
    hours: tuple[float, ...], time: FakeTime, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = Program(tmp_path, *(says(str(number)) for number in range(4)))
    set_clock(monkeypatch, *hours)
    script = (error(500), error(400), error(503), answer(), error(500), answer())
    status, _ = program.run("--max-concurrency", "1", script=script)
    assert status == 1  # one turn ended in an error
    assert program.sql("SELECT count(*) AS n FROM turns WHERE latency_s NOT BETWEEN 0 AND 60") == [{"n": 0}]
    # Then it is set back for good: what is asked again seems to be older than its own error.
    set_clock(monkeypatch, -1000.0)
    status, endpoint = program.run("--max-concurrency", "1")
    assert (status, len(endpoint.requests)) == (0, 1)
    assert program.sql("SELECT outcome, count(*) AS n FROM replies GROUP BY ALL") == [
        {"outcome": "answered", "n": 4}
    ]
    status, endpoint = program.run("--max-concurrency", "1")
    assert (status, len(endpoint.requests)) == (0, 0)


def test_the_server_by_hand() -> None:
    words = server.parser().parse_args(["429-twice", "500", "--then", "401"])
    lines: list[str] = []

    async def three() -> list[int]:
        async with anyio.create_task_group() as group, make_transport() as transport:
            group.start_soon(server.main, words, lines.append)
            while not lines:
                await anyio.lowlevel.checkpoint()
            import httpx

            found = []
            for _ in range(5):
                asked = httpx.Request("POST", f"{lines[0]}/chat/completions", content=b"{}")
                reply = await transport.handle_async_request(asked)
                await reply.aread()
                found.append(reply.status_code)
            group.cancel_scope.cancel()
        return found

    assert anyio.run(three) == [429, 429, 500, 401, 401]
    assert len(lines) == 6


@pytest.mark.parametrize("moment", ["1 Jan 2026 00:00:30 GMT", datetime(2026, 1, 1, tzinfo=UTC).isoformat()])
def test_a_date_of_any_form_is_no_exception(moment: str, time: FakeTime) -> None:
    fault = Fault("a date", (error(429, message="slow down", retry_after=moment, date=moment),))
    found, _, requests = ask(fault, EXPECTED["429-bare"], time)
    assert isinstance(found, Reply)
    assert (found.outcome, requests) == (Outcome.ANSWERED, 2)
