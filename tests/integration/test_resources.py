"""Too few open files, threads or memory: one line, what was answered is kept, and nothing is asked twice."""

import asyncio
import json
import os
import sys
import textwrap
from collections import Counter
from functools import partial
from pathlib import Path

import anyio
import anyio.to_thread
import pytest
from support.faults import Behaviour, Endpoint, Received, answer, response, serve
from support.forked import finished
from support.program import ROOT, sql

from safemt_client.__main__ import main as program

pytestmark = pytest.mark.usefixtures("here")
Output = tuple[int, str, str]
ENV = os.environ | {"PYTHONPATH": str(ROOT), "COLUMNS": "200"}
STATES = "SELECT outcome, count(*)::INT AS n FROM current_turns GROUP BY ALL"


def halls(number: int) -> None:
    """A data set of so many dialogues of one turn, all different."""
    lines = [
        json.dumps(
            {"id": f"t_{n}", "scenario": "Satire", "dialogue": [{"role": "user", "content": f"Hall {n}?"}]}
        )
        for n in range(number)
    ]
    Path("data.jsonl").write_text("\n".join(lines))


def asked(endpoint: Endpoint) -> Counter[str]:
    return Counter(received.json["messages"][0]["content"] for received in endpoint.requests)


async def run_program(url: str, *words: str, before: str = "") -> Output:
    """Run the program in a process of its own, after some other code."""
    given = ("--provider", f"m@{url}", "--data", "data.jsonl", "--judge", "none", *words)
    run = partial(finished, *given, before=textwrap.dedent(before), COLUMNS="200")
    done = await anyio.to_thread.run_sync(run)
    return done.returncode, done.stdout, done.stderr


async def start_program(url: str, *words: str, before: str = "") -> Output:
    """The same from its first import on."""
    code = textwrap.dedent(before) + "\nimport sys\nfrom safemt_client.__main__ import main\nsys.exit(main())"
    process = await anyio.run_process(
        [
            sys.executable,
            "-c",
            code,
            "--provider",
            f"m@{url}",
            "--data",
            "data.jsonl",
            "--judge",
            "none",
            *words,
        ],
        check=False,
        env=ENV,
    )
    return process.returncode, process.stdout.decode(), process.stderr.decode()


def files(number: int) -> str:
    return f"import resource\nresource.setrlimit(resource.RLIMIT_NOFILE, ({number}, {number}))\n"


def test_fewer_open_files_than_calls_in_flight(capsys: pytest.CaptureFixture[str]) -> None:
    halls(120)
    most = now = 0

    def choose(received: Received) -> Behaviour:
        async def behave(writer: asyncio.StreamWriter) -> None:
            nonlocal most, now
            now += 1
            most = max(most, now)
            await asyncio.sleep(0.05)
            now -= 1
            await answer("It is.")(writer)

        return behave

    async def both() -> tuple[Output, Endpoint]:
        async with serve([], choose=choose) as endpoint:
            return await run_program(endpoint.url, "--max-concurrency", "200", before=files(64)), endpoint

    (status, out, err), endpoint = anyio.run(both)
    assert (status, err) == (0, ""), out + err
    assert out.count("this process may open only 64 files") == 1
    assert 1 < most < 64
    assert set(asked(endpoint).values()) == {1}
    assert sql(STATES, capsys) == [{"outcome": "answered", "n": 120}]


def test_files_that_run_out_in_the_middle_are_no_outage(capsys: pytest.CaptureFixture[str]) -> None:
    halls(30)
    # Takes every file that is left once it is told to, and gives them back.
    take_all = """
        import os, threading, time
        def take():
            while not os.path.exists("take"):
                time.sleep(0.01)
            taken = []
            while not os.access("give", os.F_OK):
                # Also what a call gives back, before the next one has it.
                try:
                    taken.append(os.dup(0))
                except OSError:
                    if not os.access("taken", os.F_OK):
                        os.mkdir("taken")  # which takes no file
            for one in taken:
                os.close(one)
        threading.Thread(target=take, daemon=True).start()
    """
    done = 0

    def choose(received: Received) -> Behaviour:
        async def behave(writer: asyncio.StreamWriter) -> None:
            nonlocal done
            done += 1
            if done >= 8:
                Path("take").touch()
                while not Path("taken").exists():
                    await anyio.sleep(0.01)
            # Each request needs a connection of its own.
            await response(200, ANSWER, connection="close")(writer)
            writer.close()

        return behave

    async def give() -> None:
        while '"error_code": "local_shortage"' not in Path("log").read_text():
            await anyio.sleep(0.02)
        Path("give").touch()

    async def both() -> tuple[Output, Endpoint]:
        Path("log").touch()
        words = ("--log", "log", "--max-concurrency", "2")
        with anyio.fail_after(60):
            async with serve([], choose=choose) as endpoint, anyio.create_task_group() as group:
                group.start_soon(give)
                ended = await run_program(endpoint.url, *words, before=files(256) + textwrap.dedent(take_all))
                group.cancel_scope.cancel()
        return ended, endpoint

    (status, out, err), endpoint = anyio.run(both)
    assert (status, err) == (0, ""), out + err
    assert set(asked(endpoint).values()) == {1}
    assert sql(STATES, capsys) == [{"outcome": "answered", "n": 30}]
    said = sql("SELECT DISTINCT error FROM turns WHERE error_code = 'local_shortage'", capsys)
    assert len(said) == 1
    assert "too many open files" in said[0]["error"]


ANSWER = {
    "model": "m-1",
    "choices": [{"message": {"content": "It is."}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 3, "completion_tokens": 1},
}

NO_THREAD = """
    import threading
    begin, begun = threading.Thread.start, []
    def start(self):
        begun.append(self)
        if len(begun) > {allowed}:
            raise RuntimeError("can't start new thread")
        begin(self)
    threading.Thread.start = start
"""
NO_MEMORY_AT_THE_START = """
    import resource
    resource.setrlimit(resource.RLIMIT_AS, (150 * 2**20, 150 * 2**20))
"""
NO_MEMORY = """
    import safemt_client.engine.recorder as recorder
    def turn_row(*given, **more):
        raise MemoryError
    recorder.Recorder.turn_row = turn_row
"""
NO_MEMORY_IN_THE_STORE = """
    import duckdb, safemt_client.results.store.store as store
    arrow = store.arrow_rows
    def fails(kind, rows):
        if kind.__name__ == "TurnRow":
            raise duckdb.OutOfMemoryException("Out of Memory Error: failed to allocate data")
        return arrow(kind, rows)
    store.arrow_rows = fails
"""


@pytest.mark.parametrize(
    ("before", "status", "said"),
    [
        (files(24), 2, "files"),
        (NO_THREAD.format(allowed=0), 1, "no further thread can be started"),
        (NO_THREAD.format(allowed=1), 1, "no further thread can be started"),
        (NO_MEMORY_AT_THE_START, 1, "out of memory"),
        (NO_MEMORY, 1, "out of memory"),
        (NO_MEMORY_IN_THE_STORE, 1, "out of memory"),
    ],
    ids=["files", "first thread", "second thread", "memory at the start", "memory", "memory of the store"],
)
def test_a_shortage_ends_in_one_line_and_the_same_command_goes_on(
    before: str,
    status: int,
    said: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    halls(3)

    async def both() -> tuple[Output, Output]:
        async with serve([], answer("It is.")) as endpoint:
            words = ("--quiet", "--log", "none")
            # A fork has the memory that it begins with already.
            run = start_program if before == NO_MEMORY_AT_THE_START else run_program
            short = await run(endpoint.url, *words, before=before)
            return short, await run_program(endpoint.url, *words)

    short, again = anyio.run(both)
    assert short[0] == status, short
    assert len(short[2].splitlines()) == 1, short[2]
    assert said in short[2]
    assert not list(Path().glob("*.server"))
    assert again[0] == 0, again
    assert sql(STATES, capsys) == [{"outcome": "answered", "n": 3}]
    assert program(["doctor"]) == 0
