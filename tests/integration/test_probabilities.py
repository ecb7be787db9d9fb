"""What a probability is one among is stored beside it, and no two kinds are compared."""

import json
import math
from collections import Counter
from pathlib import Path

import duckdb
import pytest
from anyio.from_thread import start_blocking_portal
from support.faults import Behaviour, Received, error, response, serve
from support.program import at_once, sql

from safemt_client.results.scores.drawing import drawables
from safemt_client.results.store.migrations import MIGRATIONS
from safemt_client.results.store.reader import open_reader
from safemt_client.results.store.store import Store

DB = Path("safemt.duckdb")
REFUSED = error(400, "unsupported_parameter", "Unsupported parameter: 'response_format'.")
GUARD = {"verdict": "safe", "intent": "", "scenarios": [], "policy": "", "confidence": 0.5}


class Endpoint:
    """A judge and guards that say how probable their tokens are, and take a form only `forms` times."""

    def __init__(self, forms: int) -> None:
        self.forms = forms

    def choose(self, received: Received) -> Behaviour:
        asked = received.json
        if asked["model"] == "judge":
            if asked.get("response_format"):
                if not self.forms:
                    return REFUSED
                self.forms -= 1
            said = '{"label": "safe"}'
            return chat(said, [('{"label": "', -0.1), ("safe", math.log(0.9)), ('"}', -0.1)])
        return chat("No", [("No", math.log(0.8))]) if asked.get("logprobs") else chat(json.dumps(GUARD), [])


def chat(text: str, tokens: list[tuple[str, float]]) -> Behaviour:
    content = [{"token": token, "logprob": score} for token, score in tokens]
    choice = {"message": {"content": text}, "finish_reason": "stop", "logprobs": {"content": content}}
    return response(200, {"id": "r", "model": "m-1", "choices": [choice]})


def run(forms: int, *words: str) -> None:
    endpoint = Endpoint(forms)
    with (
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(serve([], choose=endpoint.choose)) as served,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setenv("SAFEMT_API_KEY", "sk-planted-42")
        given = [word.replace("URL", served.url) for word in words]
        common = (
            "--data",
            "sample",
            "--images",
            "off",
            "--turns",
            "1",
            "--limit",
            "3",
            "--max-concurrency",
            "1",
        )
        done = at_once("--provider", "demo", *common, *given)
    assert done.returncode == 0, done.stdout + done.stderr


def kinds(capsys: pytest.CaptureFixture[str]) -> Counter[str]:
    rows = sql("SELECT confidence_kind AS kind, confidence AS c FROM conversations", capsys)
    assert {round(row["c"], 6) for row in rows} == {0.9}
    return Counter(row["kind"] for row in rows)


def doubts() -> list[float | None]:
    """How doubtful each label is for `label`."""
    with open_reader(DB) as reader:
        ((run_id, judge_key),) = reader.query("SELECT run_id, judge_key FROM deciding_judges").rows
        return [
            None if one.doubt is None else round(one.doubt, 6) for one in drawables(reader, run_id, judge_key)
        ]


@pytest.mark.parametrize("forms", [0, 1, 3])
def test_a_form_that_an_endpoint_ceases_to_take_makes_another_kind(
    forms: int, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(forms, "--judge", "judge@URL", "--judge-logprobs")
    expected = Counter({"constrained": forms, "raw": 3 - forms})
    assert kinds(capsys) == +expected
    assert doubts() == [0.1 if forms in (0, 3) else None] * 3
    # An earlier version did not store it, but what was sent.
    with duckdb.connect(DB) as earlier:
        for (view,) in earlier.execute("SELECT view_name FROM duckdb_views() WHERE NOT internal").fetchall():
            earlier.execute(f"DROP VIEW {view}")
        for table in ("verdicts", "assessments"):
            earlier.execute(f"ALTER TABLE {table} DROP COLUMN confidence_kind")
        dict(MIGRATIONS)["add kinds of confidence"](earlier)
    Store.open(DB).close()
    assert kinds(capsys) == +expected


def test_a_guards_probability_is_told_from_a_figure_of_its_own(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    guards = ("shieldgemma+observe=guard@URL", "llm+observe=guard@URL")
    run(0, "--judge", "none", *(word for guard in guards for word in ("--moderator", guard)))
    rows = sql("SELECT DISTINCT moderator, confidence AS c, confidence_kind AS kind FROM assessed", capsys)
    found = {row["moderator"].partition("+")[0]: (round(row["c"], 6), row["kind"]) for row in rows}
    assert found == {"shieldgemma": (0.8, "raw"), "llm": (0.5, "stated")}
