"""Completions that failed: paid for and kept, but never judged, never in a history, and asked again."""

from pathlib import Path

import pytest
from support.faults import Behaviour, answer, response
from support.program import against, sql

PART, ANSWER = "The library op", "The library opens at nine."
EVENTS = (
    f'data: {{"choices":[{{"index":0,"delta":{{"content":"{PART}"}}}}],'
    '"usage":{"prompt_tokens":3,"completion_tokens":1}}\n\n'
)
FAILED = [answer(PART, "abort"), response(200, EVENTS, content_type="text/event-stream")]


@pytest.mark.parametrize("failed", FAILED)
def test_a_failed_completion_is_kept_and_asked_again(
    failed: Behaviour, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["run", "--provider", "m@URL", "--data", "sample", "--judge", "j@URL", "--db", "safemt.duckdb"]
    words += ["--turns", "2", "--limit", "1", "--history", "live", "--price", "m@URL=1000/1000"]
    _, endpoint = against([failed], answer(ANSWER), *words)
    said = [request.body.decode() for request in endpoint.requests]
    assert not any(f'{PART}"' in body for body in said)
    rows = sql("SELECT outcome, text, cost_usd FROM turns ORDER BY started_at", capsys)
    assert [(row["outcome"], row["text"]) for row in rows] == [
        ("error_transient", PART),
        ("answered", ANSWER),
        ("answered", ANSWER),
    ]
    # What it took is in what the run has cost.
    assert [row["cost_usd"] for row in rows] == pytest.approx([0.004] * 3)
    spent = sql("SELECT sum(cost_usd) AS usd FROM spend WHERE who LIKE 'target m@%'", capsys)
    assert spent[0]["usd"] == pytest.approx(0.012)
