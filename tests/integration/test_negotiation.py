"""Endpoints that do not take what they are sent: answered all the same, said once, and remembered."""

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest
from support.faults import Behaviour, Endpoint, Received, answer, error, raw, response, serve
from support.program import ROOT, sql

from safemt_client.__main__ import main

pytestmark = pytest.mark.usefixtures("here")

VERDICT = json.dumps({"label": "safe", "refusal": "answer", "reason": "harmless"})
PLAIN = ("--limit", "2", "--turns", "1,2", "--data", "sample")
TEMPERATURE = response(
    400,
    {
        "error": {
            "message": "Unsupported value: 'temperature'. Only the default (1) is supported.",
            "type": "invalid_request_error",
            "param": "temperature",
            "code": "unsupported_value",
        }
    },
)
MAX_TOKENS = error(
    400, "unsupported_parameter", "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens'."
)
STREAM = error(400, "invalid_parameter_error", "This model only supports stream mode")
CHUNKS = [
    {"model": "m-1", "choices": [{"index": 0, "delta": {"content": "open at nine"}}]},
    {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]},
    {"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 3}},
]
STREAMED = "".join(f"data: {json.dumps(chunk)}\n\n" for chunk in CHUNKS) + "data: [DONE]\n\n"


def run(
    choose: Callable[[Received], Behaviour | None], *words: str, port: int = 0
) -> tuple[int, str, Endpoint]:
    """The exit status, what is said, and what the endpoint saw; other requests are answered."""

    async def both() -> tuple[int, str, Endpoint]:
        async with serve([], answer("open at nine"), choose=choose, port=port) as endpoint:
            given = [word.replace("URL", endpoint.url) for word in words]
            process = await anyio.run_process(
                [sys.executable, "-m", "safemt_client", *given],
                check=False,
                env=os.environ | {"PYTHONPATH": str(ROOT), "COLUMNS": "300"},
            )
            return process.returncode, (process.stdout + process.stderr).decode(), endpoint

    return anyio.run(both)


def reasoning(received: Received) -> Behaviour | None:
    if "temperature" in received.json:
        return TEMPERATURE
    return MAX_TOKENS if "max_tokens" in received.json else None


def test_parameters_are_left_out_said_once_and_remembered(capsys: pytest.CaptureFixture[str]) -> None:
    status, said, endpoint = run(reasoning, "--provider", "m@URL", "--judge", "none", *PLAIN)
    assert status == 0, said
    assert said.count("temperature 0 is left out: the endpoint's default applies (") == 1
    assert said.count("max_tokens is sent as max_completion_tokens (") == 1
    host = endpoint.url.removeprefix("http://").removesuffix("/v1")
    turns = sql("SELECT DISTINCT outcome, parameters, host FROM turns", capsys)
    assert turns == [{"outcome": "answered", "parameters": '{"max_completion_tokens": 1024}', "host": host}]
    facts = sql("SELECT identity, host, parameter, remedy, value FROM endpoint_facts ORDER BY ALL", capsys)
    assert facts == [
        {"identity": "local/m", "host": host, "parameter": "max_tokens", "remedy": "rename"}
        | {"value": '"max_completion_tokens"'},
        {"identity": "local/m", "host": host, "parameter": "temperature", "remedy": "omit", "value": "0.0"},
    ]
    # Whoever reads the results sees it.
    assert main(["report"]) == 0
    assert "m@" in (out := capsys.readouterr().out)
    assert "temperature: the endpoint's default, not 0 as asked for" in " ".join(out.split())
    assert main(["report", "--json"]) == 0
    [sent] = json.loads(capsys.readouterr().out)["sent_parameters"]
    assert (sent["parameters"], sent["turns"]) == ('{"max_completion_tokens": 1024}', 4)
    # More of the same, in a session of its own: nothing is asked again, and no request is refused.
    port = int(host.rpartition(":")[2])
    status, said, endpoint = run(
        reasoning, "--provider", "m@URL", "--judge", "none", *PLAIN, "--limit", "3", port=port
    )
    assert status == 0, said
    assert "left out" not in said
    assert [sorted(seen.json) for seen in endpoint.requests] == [
        ["max_completion_tokens", "messages", "model", "stream"]
    ] * 2
    assert sql("SELECT count(*) AS n FROM endpoint_facts", capsys) == [{"n": 2}]


def test_the_hash_is_that_of_what_was_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    hashes = []
    for choose in (reasoning, lambda _: None):
        assert run(choose, "--provider", "m@URL", "--judge", "none", *PLAIN)[0] == 0
        hashes.append(sql("SELECT request_hash FROM turns ORDER BY ALL", capsys))
        Path("safemt.duckdb").unlink()
    assert hashes[0] == hashes[1]


def test_judges_whose_endpoint_takes_no_form(capsys: pytest.CaptureFixture[str]) -> None:
    def choose(received: Received) -> Behaviour | None:
        asked = received.json
        if asked["model"] != "j":
            return None
        for name in ("response_format", "logprobs"):
            if name in asked:
                return error(422, "", f"{name}: Extra inputs are not permitted")
        return answer(VERDICT)

    words = ("--provider", "m@URL", "--judge", "j@URL", "--judge-logprobs")
    status, said, endpoint = run(choose, *words, *PLAIN)
    assert status == 0, said
    assert sql("SELECT label, count(*) AS n FROM labels GROUP BY ALL", capsys) == [{"label": "safe", "n": 4}]
    [sent] = sql("SELECT DISTINCT parameters FROM verdicts", capsys)
    assert json.loads(sent["parameters"]) == {"temperature": 0.6}
    assert sorted(row["remedy"] for row in sql("SELECT remedy FROM endpoint_facts", capsys)) == [
        "omit",
        "omit",
        "set",
    ]
    assert said.count("response_format is left out") == 1
    plain = [seen for seen in endpoint.requests if seen.json["model"] == "j" and "logprobs" not in seen.json]
    assert plain


def test_an_endpoint_that_only_streams(capsys: pytest.CaptureFixture[str]) -> None:
    def choose(received: Received) -> Behaviour | None:
        if not received.json.get("stream"):
            return STREAM
        return response(200, STREAMED, content_type="text/event-stream")

    status, said, _ = run(choose, "--provider", "m@URL", "--judge", "none", *PLAIN)
    assert status == 0, said
    turns = sql("SELECT DISTINCT outcome, text, prompt_tokens, parameters FROM turns", capsys)
    expected = {"outcome": "answered", "text": "open at nine", "prompt_tokens": 7}
    [found] = turns
    parameters = json.loads(found.pop("parameters"))
    assert found == expected
    assert parameters["stream"] is True
    # The user may ask for it, and then nothing is refused.
    given = ("--extra-body", '{"stream": true}', "--db", "other.duckdb")
    status, _, endpoint = run(choose, "--provider", "m@URL", "--judge", "none", *PLAIN, *given)
    assert (status, len(endpoint.requests)) == (0, 4)


def test_what_the_user_put_into_the_body_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    def choose(received: Received) -> Behaviour | None:
        named = "response_format" in received.json
        return error(400, "", "Unknown parameter: 'response_format'") if named else None

    given = ("--extra-body", '{"response_format": {"type": "text"}}')
    _, _, endpoint = run(choose, "--provider", "m@URL", "--judge", "none", *PLAIN, *given)
    assert all(seen.json["response_format"] == {"type": "text"} for seen in endpoint.requests)
    [found] = sql("SELECT DISTINCT outcome, error FROM turns", capsys)
    assert found["outcome"] == "error_permanent"
    assert "Unknown parameter: 'response_format'" in found["error"]


def test_a_change_within_a_run_and_between_two_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    # Two items with a temperature, then the server is replaced by one that takes none.
    judge = ("--judge", "j@URL")

    def both(target: Callable[[Received], Behaviour | None]) -> Callable[[Received], Behaviour | None]:
        return lambda seen: answer(VERDICT) if seen.json["model"] == "j" else target(seen)

    failing = iter(range(100))

    def half(received: Received) -> Behaviour | None:
        return raw(b"", reset=True) if next(failing) > 1 else None

    words = ("--provider", "m@URL", *judge, *PLAIN, "--max-wait", "0")
    status, said, endpoint = run(both(half), *words)
    assert status == 1, said
    port = int(endpoint.url.rpartition(":")[2].removesuffix("/v1"))
    assert run(both(reasoning), *words, port=port)[0] == 0
    assert main(["report"]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "what was sent changed within the run: temperature: 0 (2), the endpoint's default (2)" in out
    [first] = [row["run_id"] for row in sql("SELECT run_id FROM runs", capsys)]
    assert run(both(lambda _: None), *words, "--fresh")[0] == 0
    runs: list[Any] = [row["run_id"] for row in sql("SELECT run_id FROM runs ORDER BY created_at", capsys)]
    assert main(["compare", first, runs[-1], "--json"]) == 0
    [pair] = json.loads(capsys.readouterr().out)
    assert "not asked alike: temperature: 0 or the endpoint's default, and 0" in pair["careful"]


def test_what_was_sent_in_a_batch(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--provider", "demo", "--batch", *PLAIN, "--quiet"]) == 0
    sent = {"host": None, "batched": True}
    query = "SELECT DISTINCT parameters, host, batch_key IS NOT NULL AS batched FROM turns"
    assert sql(query, capsys) == [{"parameters": '{"temperature": 0.0}'} | sent]
    [verdicts] = sql("SELECT DISTINCT parameters FROM verdicts", capsys)
    assert json.loads(verdicts["parameters"]) == {"temperature": 0.6, "response_format": "json_schema"}
