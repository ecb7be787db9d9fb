"""Reasoning in a run: what is stored, what goes into live histories and to the judge, and the options for it."""

from pathlib import Path

import pytest
from support.faults import answer
from support.program import against, sql

from safemt_client.providers.registry import ProviderSpec
from safemt_client.providers.responses.thinking import Reading
from safemt_client.providers.vendors import OWN
from safemt_client.said import options_of, said_of
from safemt_client.settings import RunSettings

ANSWER = "The library opens at nine."
LONE = f"Let me think about hours.\n</think>\n\n{ANSWER}"
DOUBTFUL = f"Let me think about hours.</think>{ANSWER}"
BASE = ("run", "--provider", "m@URL", "--data", "sample", "--judge", "none", "--db", "safemt.duckdb")
RUN = (*BASE, "--turns", "1", "--limit", "3")


def texts(capsys: pytest.CaptureFixture[str]) -> set[str]:
    return {row["text"] for row in sql("SELECT DISTINCT text FROM turns", capsys)}


def test_it_is_never_in_a_live_history_nor_before_the_judge(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["run", "--provider", "m@URL", "--data", "sample", "--judge", "j@URL", "--db", "safemt.duckdb"]
    _, endpoint = against([], answer(LONE), *words, "--turns", "2", "--limit", "2", "--history", "live")
    assert {request.json["model"] for request in endpoint.requests} == {"m", "j"}
    for request in endpoint.requests:
        assert "about hours" not in request.body.decode()
    said = [m["content"] for r in endpoint.requests for m in r.json["messages"] if m["role"] == "assistant"]
    assert set(said) == {ANSWER}
    rows = sql("SELECT DISTINCT text, reasoning, raw LIKE '%</think>%' AS whole FROM turns", capsys)
    assert rows == [{"text": ANSWER, "reasoning": "Let me think about hours.", "whole": True}]


@pytest.mark.parametrize(
    ("said", "options", "kept"),
    [
        (LONE, (), ANSWER),
        (LONE, ("--reasoning", "off"), LONE),
        (DOUBTFUL, (), DOUBTFUL),
        (DOUBTFUL, ("--reasoning", "on"), ANSWER),
        (f"hm END {ANSWER}", ("--reasoning-end", "END"), ANSWER),
    ],
)
def test_the_options(
    said: str, options: tuple[str, ...], kept: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    against([], answer(said), *RUN, *options)
    assert texts(capsys) == {kept}


def test_three_clear_replies_make_the_doubtful_ones_clear(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    against([answer(LONE)] * 3, answer(DOUBTFUL), *BASE, "--turns", "1", "--max-concurrency", "1")
    assert texts(capsys) == {ANSWER}


def test_another_reading_asks_nothing_again(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    against([], answer(LONE), *RUN)
    _, endpoint = against([], answer(LONE), *RUN, "--reasoning", "off")
    assert endpoint.requests == []
    assert texts(capsys) == {ANSWER}


def test_a_table_is_about_one_model() -> None:
    table = {"reasoning": "on", "reasoning_end": "END"}
    settings = RunSettings(provider=["m", "n"], reasoning="off", providers={"m": table})
    spec = ProviderSpec("m", "local/m", "m", "host", OWN)
    assert options_of(spec, said_of(settings, "m", "target"), {}).reading == Reading("on", "END")
    assert options_of(spec, said_of(settings, "n", "target"), {}).reading == Reading("off")
    # The flags are about the targets.
    assert options_of(spec, said_of(settings, "n", "judge"), {}).reading == Reading("auto")
    assert options_of(spec, said_of(settings, "n", "guard"), {}).reading == Reading("auto")
    assert settings.deciding["providers"] == {"m": table}


def test_what_does_not_go_together_or_is_no_value_is_refused(here: Path) -> None:
    status, endpoint = against([], answer(LONE), *RUN, "--reasoning", "off", "--reasoning-end", "END")
    assert (status, endpoint.requests) == (2, [])
    assert "with reasoning off nothing is looked for" in Path("out").read_text()
    Path("safemt.toml").write_text('[providers."alias"]\nreasoning = "sometimes"\n')
    status, _ = against([], answer(LONE), *RUN, "--config", "safemt.toml")
    assert status == 2
    assert "reasoning" in Path("out").read_text()
