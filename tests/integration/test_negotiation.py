"""Endpoints that do not take what they are sent: answered all the same, said once, and remembered."""

import asyncio
import json
import os
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest
from anyio.from_thread import start_blocking_portal
from support.faults import Behaviour, Endpoint, Received, answer, error, raw, response, serve
from support.program import ROOT, at_once, sql

from safemt_client.__main__ import main

pytestmark = pytest.mark.usefixtures("here")

PROGRAM = (sys.executable, "-m", "safemt_client")
ENV = os.environ | {"PYTHONPATH": str(ROOT), "COLUMNS": "300"}
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
DEMAND = error(
    400,
    "invalid_request_error",
    "The `reasoning_content` in the thinking mode must be passed back to the API.",
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
    scripted = serve([], answer("open at nine"), choose=choose, port=port)
    with (
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(scripted) as endpoint,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setenv("COLUMNS", "300")
        done = at_once(*(word.replace("URL", endpoint.url) for word in words))
    return done.returncode, done.stdout + done.stderr, endpoint


def topics(count: int) -> tuple[str, ...]:
    """Options for as many dialogues of one question each, all different."""
    lines = [
        {"id": f"t_{n}", "scenario": "Satire", "dialogue": [{"role": "user", "content": f"Topic {n}?"}]}
        for n in range(count)
    ]
    Path("data.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return ("--data", "data.jsonl", "--judge", "none")


def question(received: Received) -> str:
    return str(received.json["messages"][-1]["content"])


def after(event: asyncio.Event, behaviour: Behaviour) -> Behaviour:
    """The same, once the event has come."""

    async def behave(writer: asyncio.StreamWriter) -> None:
        await event.wait()
        await behaviour(writer)

    return behave


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


def test_that_a_model_thinks_is_remembered(capsys: pytest.CaptureFixture[str]) -> None:
    thinking, doubtful = "Hours.\n</think>\n\nAt nine.", "Hours.</think>At nine."

    def choose(received: Received) -> Behaviour:
        return answer(doubtful if question(received) in ("Topic 3?", "Topic 4?") else thinking)

    words = ("--provider", "m@URL", "--max-concurrency", "1")
    more = topics(5)
    _, said, endpoint = run(choose, *words, *more, "--limit", "3")
    assert said.count("a closing tag ends the model's reasoning, wherever it stands (three replies") == 1
    port = int(endpoint.url.removesuffix("/v1").rpartition(":")[2])
    status, said, endpoint = run(choose, *words, *more, port=port)
    assert status == 0, said
    assert len(endpoint.requests) == 2
    assert "wherever it stands" not in said
    assert sql("SELECT DISTINCT text FROM turns", capsys) == [{"text": "At nine."}]


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
    status, said, endpoint = run(choose, "--provider", "m@URL", "--judge", "none", *PLAIN, *given)
    assert (status, len(endpoint.requests)) == (0, 4)
    assert "as asked for" not in said


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


def test_the_reasoning_of_own_turns_is_demanded_once(capsys: pytest.CaptureFixture[str]) -> None:
    def lacks(received: Received) -> bool:
        own = [message for message in received.json["messages"] if message["role"] == "assistant"]
        return any("reasoning_content" not in message for message in own)

    def choose(received: Received) -> Behaviour | None:
        return DEMAND if lacks(received) else None

    words = ("--provider", "m@URL", "--judge", "none", *PLAIN)
    status, said, endpoint = run(choose, *words)
    assert status == 0, said
    assert said.count("the model's own turns are sent with reasoning_content (invalid_request_error The") == 1
    assert any(map(lacks, endpoint.requests))
    [fact] = sql("SELECT parameter, remedy, value FROM endpoint_facts", capsys)
    assert fact == {"parameter": "messages.reasoning_content", "remedy": "set", "value": "true"}
    # It is said of the messages: the parameters are those that were asked for.
    [turns] = sql("SELECT DISTINCT parameters FROM turns WHERE outcome = 'answered'", capsys)
    assert json.loads(turns["parameters"]) == {"temperature": 0.0, "max_tokens": 1024}
    port = int(endpoint.url.rpartition(":")[2].removesuffix("/v1"))
    status, said, endpoint = run(choose, *words, "--limit", "3", port=port)
    assert status == 0, said
    assert "own turns" not in said
    assert len(endpoint.requests) == 2
    assert not any(map(lacks, endpoint.requests))


def test_twenty_conversations_at_once_are_all_answered(capsys: pytest.CaptureFixture[str]) -> None:
    first: list[str] = []
    all_there = asyncio.Event()

    def choose(received: Received) -> Behaviour | None:
        if "temperature" not in received.json:
            return MAX_TOKENS if "max_tokens" in received.json else None
        first.append(question(received))
        if len(first) == 20:
            all_there.set()
        return after(all_there, TEMPERATURE)

    status, said, endpoint = run(choose, "--provider", "m@URL", *topics(40), "--max-concurrency", "20")
    assert status == 0, said
    [turns] = sql("SELECT count(*) AS n, list(DISTINCT outcome) AS outcomes FROM turns", capsys)
    assert turns == {"n": 40, "outcomes": ["answered"]}
    assert len(first) == 20
    refused = [seen for seen in endpoint.requests if {"temperature", "max_tokens"} & seen.json.keys()]
    assert len(refused) <= 40
    assert {question(seen) for seen in refused} == set(first)
    assert said.count("temperature 0 is left out") == said.count("max_tokens is sent as") == 1


def test_what_was_learnt_before_a_kill_is_known_after_it(capsys: pytest.CaptureFixture[str]) -> None:
    answered: list[str] = []
    refused: list[str] = []
    at_most = 4

    def choose(received: Received) -> Behaviour | None:
        if (behaviour := reasoning(received)) is not None:
            refused.append(question(received))
            return behaviour
        if len(answered) == at_most:
            return after(asyncio.Event(), STREAM)
        answered.append(question(received))
        return None

    def stored() -> list[int]:
        """How many facts and replies there are, as seen beside the run."""
        counts = "SELECT (SELECT count(*) FROM endpoint_facts), (SELECT count(*) FROM turns)"
        lines = at_once("sql", counts, "--format", "csv").stdout.splitlines()
        return [int(n) for n in lines[1].split(",")] if len(lines) == 2 else []

    async def killed_and_resumed() -> tuple[int, str]:
        nonlocal at_most
        async with serve([], answer("open at nine"), choose=choose) as endpoint:
            words = [*PROGRAM, "--provider", f"m@{endpoint.url}", *topics(12), "--max-concurrency", "1"]
            async with await anyio.open_process(words, env=ENV) as process:
                with anyio.fail_after(60):
                    while stored() != [2, at_most]:
                        assert process.returncode is None
                        await anyio.sleep(0.05)
                process.kill()
            assert sorted(refused) == [answered[0]] * 2
            at_most = 12
            done = await anyio.run_process(words, check=False, env=ENV)
            return done.returncode, (done.stdout + done.stderr).decode()

    status, said = anyio.run(killed_and_resumed)
    assert status == 0, said
    assert len(refused) == 2
    assert Counter(answered) == {f"Topic {n}?": 1 for n in range(12)}
    assert sql("SELECT count(*) AS n FROM turns WHERE outcome = 'answered'", capsys) == [{"n": 12}]
