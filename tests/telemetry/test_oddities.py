"""What was odd about replies: said once while a run goes on, and as a sum at its end."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from support.faults import Behaviour, answer, response
from support.program import against, sql

from safemt_client.providers.responses.oddities import NO_CHOICES, REASONING_ONLY, unknown_finish
from safemt_client.telemetry.oddities import Oddities

from .test_log import turn

RUN = (
    "run",
    "--provider",
    "m@URL",
    "--data",
    "sample",
    "--turns",
    "1",
    "--judge",
    "none",
    "--db",
    "safemt.duckdb",
)
NO_CHOICE = response(200, {"id": "r", "model": "m", "usage": {"prompt_tokens": 9, "total_tokens": 9}})


def made(*before: tuple[str, str]) -> tuple[Oddities, list[str]]:
    said: list[str] = []
    plan: Any = SimpleNamespace(targets=[SimpleNamespace(key="t", name="m\x1b")], judge=None)
    store: Any = SimpleNamespace(query=lambda _: SimpleNamespace(rows=list(before)))
    return Oddities(plan, store, said.append), said


def land(oddities: Oddities, words: str | None, times: int = 1, **changes: Any) -> None:
    for _ in range(times):
        oddities.saved([replace(turn(**changes), target_key="t", oddities=words)])


def test_an_unknown_finish_reason_is_said_once() -> None:
    oddities, said = made()
    for _ in range(3):
        land(oddities, f"{NO_CHOICES} {unknown_finish('odd one')}")
    land(oddities, unknown_finish("other"), outcome="error_transient")
    assert len(said) == 2
    assert said[0].startswith("m\\x1b: the finish reason odd_one is not known")
    assert "finish reason other" in said[1]
    # An earlier session said it.
    oddities, said = made(("t", f"{NO_CHOICES} {unknown_finish('odd one')}"), ("u", unknown_finish("other")))
    land(oddities, unknown_finish("odd one"))
    assert said == []
    land(oddities, unknown_finish("other"))
    assert len(said) == 1


@pytest.mark.parametrize(
    ("word", "share", "text"), [(NO_CHOICES, 2, "choice"), (REASONING_ONLY, 10, "parser")]
)
def test_a_share_of_the_replies_is_a_warning(word: str, share: int, text: str) -> None:
    oddities, said = made()
    land(oddities, None, 100 - share)
    land(oddities, word, share)
    assert said == []
    land(oddities, word, 5)
    assert len(said) == 1
    assert f"{share + 1} of 101 replies" in said[0]
    assert text in said[0]


def test_few_replies_say_nothing_about_a_share() -> None:
    oddities, said = made()
    land(oddities, NO_CHOICES, 49)
    assert said == []


def test_what_is_not_the_targets_own_reply_does_not_count() -> None:
    oddities, said = made()
    land(oddities, unknown_finish("x"), intervention="none")
    oddities.saved([replace(turn(), target_key="other", oddities=unknown_finish("x"))])
    assert said == []


@pytest.mark.parametrize(
    ("behaviour", "word", "text"),
    [
        (
            answer("", "length", reasoning_content="hm"),
            "cut_while_thinking",
            "15 of 15 replies were cut off while thinking",
        ),
        (answer("", reasoning="hm"), "reasoning_only", "the server's reasoning parser may swallow answers"),
        (NO_CHOICE, "no_choices", "came without any choice"),
        (answer("The tag </think> is one."), "unread_closing_tag", "were left whole"),
        (answer("Yes.", "somehow_done"), "unknown_finish_reason:somehow_done", "somehow_done is not known"),
    ],
)
def test_it_is_on_the_screen_and_in_the_store(
    behaviour: Behaviour, word: str, text: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    against([], behaviour, *RUN)
    out = Path("out").read_text()
    assert out.count(text) == 1
    rows = sql("SELECT DISTINCT oddities FROM turns", capsys)
    assert [row["oddities"] for row in rows] == [word]
    if word == "cut_while_thinking":
        # A resume, which asks nothing, says it too.
        _, endpoint = against([], behaviour, *RUN)
        assert endpoint.requests == []
        out = Path("out").read_text()
        assert text in out
        assert out.count("raise --max-tokens") == 1
