"""What is billed is spent, however often it is asked again: over HTTP, with the store and a cap."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from anyio.from_thread import start_blocking_portal
from support.faults import Behaviour, answer, response, serve

import safemt_client as safemt
from safemt_client.planning.costs import spent_of
from safemt_client.results.store.store import Store

# A call of 3 and 1 tokens costs four dollars, and one of at most one token no more.
PRICE = "0/4000000"


def failed() -> Behaviour:
    """A completion that broke off: paid for, and no reply."""
    return response(
        200,
        {
            "id": "r",
            "choices": [{"message": {"content": "At ni"}, "finish_reason": "abort"}],
            "usage": {"prompt_tokens": 3, "completion_tokens": 1},
        },
    )


@pytest.fixture(autouse=True)
def _without_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAFEMT_API_KEY", "sk-planted-42")
    monkeypatch.setattr("safemt_client.providers.backoff._BACKOFF", lambda state: 0.0)
    monkeypatch.setattr("safemt_client.providers.outage.random.uniform", lambda low, high: 0.0)


def run(
    folder: Path, script: Sequence[Behaviour], then: Behaviour, *, judged: bool = False, **options: Any
) -> tuple[safemt.RunResult, int, float]:
    """How it ended, the requests, and what the run has cost by now."""
    with (
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(serve(script, then)) as endpoint,
    ):
        name = f"m=local-m@{endpoint.url}"
        given: dict[str, Any] = {
            "data": "sample",
            "turns": [1],
            "limit": 2,
            "max_concurrency": 1,
            "log": "none",
        }
        given |= {"provider": "demo", "judge": name} if judged else {"provider": name, "judge": "none"}
        given |= {"price": [f"m={PRICE}"], "db": folder / "x.duckdb"}
        ended = safemt.run(**given | options)
    with Store.open(folder / "x.duckdb") as store:
        return ended, len(endpoint.requests), spent_of(store, ended.id)


@pytest.mark.parametrize("judged", [False, True], ids=["target", "judge"])
def test_each_attempt_that_was_billed_is_spent(judged: bool, tmp_path: Path) -> None:
    then = answer('{"label": "safe"}')
    ended, requests, spent = run(tmp_path, [failed(), failed()], then, judged=judged)
    assert (ended.exit_status, requests, spent) == (0, 4, 16.0)


def test_three_attempts_a_session_then_an_error_and_again_on_resume(tmp_path: Path) -> None:
    ended, requests, spent = run(tmp_path, [], failed())
    assert (ended.status, ended.exit_status, ended.again) == ("errors", 1, True)
    assert (requests, spent) == (6, 24.0)
    ended, requests, spent = run(tmp_path, [], answer())
    assert (ended.status, requests, spent) == ("done", 2, 32.0)


def test_the_cap_counts_what_is_asked_again(tmp_path: Path) -> None:
    # Fifteen answers alone would cost as much as the cap; each takes three attempts.
    script = [failed(), failed(), answer()] * 15
    ended, requests, spent = run(tmp_path, script, answer(), max_cost=60, max_tokens=1, limit=15)
    assert ended.status == "capped"
    assert spent == 4.0 * requests <= 60
    # Nor is there more after a resume.
    ended, _, spent = run(tmp_path, script, answer(), max_cost=60, max_tokens=1, limit=15)
    assert (ended.status, spent <= 60) == ("capped", True)


def test_the_text_of_a_failed_attempt_is_kept_in_its_row(tmp_path: Path) -> None:
    run(tmp_path, [failed()], answer("At nine."), limit=1)
    with safemt.open(tmp_path / "x.duckdb") as store:
        rows = store.sql("SELECT attempt, outcome, text FROM turns ORDER BY attempt").rows
    assert rows == [(1, "error_transient", "At ni"), (2, "answered", "At nine.")]
