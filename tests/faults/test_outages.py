"""Outages and faults of every request through the whole program, on a clock that runs fast."""

import time
from collections.abc import Callable
from pathlib import Path

import aiohttp
import pytest
from faults.test_faults import Program, prepare
from support.clock import HurriedLoop
from support.faults import Behaviour, Received, error

from safemt_client.engine import loop
from safemt_client.providers import transport

HOUR = 3600.0
TEMPLATE = "Conversation roles must alternate user/assistant"


class FastLoop(HurriedLoop):
    speed = 1200


@pytest.fixture(autouse=True)
def _surroundings(monkeypatch: pytest.MonkeyPatch) -> None:
    prepare(monkeypatch)
    monkeypatch.setattr(loop, "_options", lambda: {"loop_factory": FastLoop})
    # Half a minute to connect would be over in 25 ms.
    monkeypatch.setattr(transport, "_TIMEOUT", aiohttp.ClientTimeout(sock_connect=100_000.0))


def asking(folder: Path, count: int) -> Program:
    return Program(folder, *(f"When does hall {number} of the library open?" for number in range(count)))


PATIENT = ("--attempt-timeout", "100000", "--turn-timeout", "100000")


@pytest.mark.parametrize(
    "fault",
    [
        error(529, "overloaded_error", "Overloaded"),
        pytest.param(error(503, "unavailable", "no capacity"), marks=pytest.mark.slow),
        pytest.param(error(500, "server_error", "Internal server error"), marks=pytest.mark.slow),
    ],
    ids=["529", "503", "500"],
)
def test_an_hour_from_the_first_request(fault: Behaviour, tmp_path: Path) -> None:
    program, began, during = asking(tmp_path, 30), 0.0, 0

    def choose(received: Received) -> Behaviour | None:
        nonlocal began, during
        began = began or time.monotonic()
        if (time.monotonic() - began) * FastLoop.speed >= HOUR:
            return None
        during += 1
        return fault

    status, endpoint = program.run(*PATIENT, choose=choose)
    assert status == 0, program.out
    assert during < 100
    assert len(endpoint.requests) == during + 30
    assert "stopped" not in program.out
    assert program.sql("SELECT outcome, count(*) AS n FROM replies GROUP BY ALL") == [
        {"outcome": "answered", "n": 30}
    ]


def test_a_fault_of_every_request_is_said_in_the_server_s_words(tmp_path: Path) -> None:
    program = asking(tmp_path, 40)
    status, endpoint = program.run(
        *PATIENT, "--max-concurrency", "1", choose=lambda _: error(500, message=TEMPLATE)
    )
    assert status == 1
    assert len(endpoint.requests) <= 25
    assert f"stopped: every request fails alike (HTTP 500): {TEMPLATE}; serve the model with" in program.out
    assert "cannot be asked: fix that; stopped early; continue with:" in program.out
    # Once it is mended, the same command asks everything, and nothing twice.
    status, endpoint = program.run(*PATIENT)
    assert (status, len(endpoint.requests)) == (0, 40)


def long(most: int) -> Callable[[Received], Behaviour | None]:
    """A server that takes requests up to a size."""

    def choose(received: Received) -> Behaviour | None:
        if len(received.json["messages"][0]["content"]) <= most:
            return None
        return error(400, "context_length_exceeded", "This model's maximum context length is 4096 tokens.")

    return choose


@pytest.mark.parametrize(
    ("most", "status", "requests"), [(100, 1, 40), (10, 1, None)], ids=["one fits", "none"]
)
def test_what_is_too_long_is_decided_by_the_shortest(
    most: int, status: int, requests: int | None, tmp_path: Path
) -> None:
    # All but one of those that come first are too long; the shortest comes in the end.
    texts = [f"When does hall {number} open? " + "Please tell me. " * 20 for number in range(39)]
    program = Program(tmp_path, *texts, "When does it open?")
    ended, endpoint = program.run("--max-concurrency", "1", choose=long(most))
    assert ended == status
    lengths = [len(received.json["messages"][0]["content"]) for received in endpoint.requests]
    at = lengths.index(18)
    assert 10 <= at <= 20
    if requests is None:
        assert len(lengths) == at + 1
        assert "every request, the smallest one left too, fails alike" in program.out
    else:
        assert len(lengths) == requests
        assert "stopped:" not in program.out
        assert "39 turns ended in an error; ask again with:" in program.out
