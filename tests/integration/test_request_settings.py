"""What the user says about requests, as it arrives at an endpoint over real HTTP, and what the store keeps of it."""

import json
from pathlib import Path
from typing import Any

import pytest
from support.faults import Endpoint, answer
from support.program import against, sql

import safemt_client as safemt
from safemt_client.__main__ import main
from safemt_client.providers.types import Message, Outcome, Reply, Request

SECRET = "planted-value-8642"
RUN = ("--data", "sample", "--limit", "1", "--turns", "2", "--judge", "none", "--images", "off")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ROUTE_KEY", SECRET)
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-planted-1")


def run(*words: str) -> tuple[int, Endpoint]:
    return against([], answer(f"It opens at nine. {SECRET}"), "--provider", "m@URL", *RUN, *words)


def body(endpoint: Endpoint) -> Any:
    (request,) = endpoint.requests
    return request.json


def said() -> str:
    return Path("out").read_text()


def test_every_flag_arrives_and_a_value_of_the_environment_is_kept_by_its_name(
    capsys: pytest.CaptureFixture[str],
) -> None:
    Path("brief.txt").write_text("Be brief.\n")
    status, endpoint = run(
        *("--temperature", "none", "--max-tokens", "none", "--stop", "END", "--stop", "\n\n"),
        *("--extra-body", '{"top_k": 20, "route": {"tokens": ["Bearer $ROUTE_KEY", "$$ROUTE_KEY"]}}'),
        *("--header", "X-Route=blue", "--header", "api-key=${ROUTE_KEY}", "--system-prompt", "brief.txt"),
    )
    assert status == 0, said()
    sent, headers = body(endpoint), endpoint.requests[0].headers
    assert sent.pop("messages")[0] == {"role": "system", "content": "Be brief."}
    assert sent == {
        "model": "m",
        "stop": ["END", "\n\n"],
        "top_k": 20,
        "route": {"tokens": [f"Bearer {SECRET}", "$ROUTE_KEY"]},
        "stream": False,
    }
    assert (headers["x-route"], headers["api-key"]) == ("blue", SECRET)
    (row,) = sql("SELECT sampling, system_prompt FROM run_targets", capsys)
    assert json.loads(row["sampling"])["route"] == {"tokens": ["Bearer $ROUTE_KEY", "$$ROUTE_KEY"]}
    assert row["system_prompt"] == "Be brief."
    (reply,) = sql("SELECT text FROM turns", capsys)
    assert reply["text"] == "It opens at nine. [key]"
    for path in Path().iterdir():
        assert SECRET.encode() not in path.read_bytes(), path


def test_another_key_and_other_headers_ask_nothing_again_another_body_does(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    given = ("--extra-body", '{"route": "$ROUTE_KEY"}')
    assert len(run(*given)[1].requests) == 1
    monkeypatch.setenv("ROUTE_KEY", "another-value-97531")
    assert run(*given, "--header", "X-Route=red")[1].requests == []
    assert len(run("--extra-body", '{"route": "red"}')[1].requests) == 1
    assert len(run()[1].requests) == 1


def test_a_table_is_about_one_model_and_precedes_the_flags() -> None:
    table = """
        [providers.m]
        headers = {X-Route = "red", X-More = "$ROUTE_KEY"}
        query = {version = "2", sig = "$ROUTE_KEY"}
        extra-body = {top_k = 5}
        temperature = 0.5
        max-tokens = 77
        max-tokens-field = "max_completion_tokens"
        system-prompt = "none"
        session-header = "X-Session-Id"
        stop = "END"
        """
    words = (
        "--header",
        "X-Route=blue",
        "--extra-body",
        '{"min_p": 0.1, "top_k": 9}',
        "--system-prompt",
        "Hi.",
    )
    status, endpoint = against(
        [], answer(), "--provider", "m", "--base-url", "URL", *RUN, *words, config=table
    )
    assert status == 0, said()
    sent, headers = body(endpoint), endpoint.requests[0].headers
    assert [message["role"] for message in sent.pop("messages")] == ["user", "assistant", "user"]
    assert sent == {
        "model": "m",
        "temperature": 0.5,
        "max_completion_tokens": 77,
        "stop": ["END"],
        "top_k": 5,
        "min_p": 0.1,
        "stream": False,
    }
    assert endpoint.requests[0].target == f"/v1/chat/completions?version=2&sig={SECRET}"
    assert (headers["x-route"], headers["x-more"]) == ("red", SECRET)
    assert len(headers["x-session-id"]) == 32


def test_a_conversation_has_one_id_and_no_other_has_it() -> None:
    table = "[providers.m]\nsession-header = 'X-Session-Id'"
    words = ("--provider", "m", "--base-url", "URL", "--data", "sample", "--limit", "2", "--turns", "2")
    _, endpoint = against([], answer(), *words, "--judge", "none", "--history", "live", config=table)
    by_id: dict[str, list[Any]] = {}
    for request in endpoint.requests:
        by_id.setdefault(request.headers["x-session-id"], []).append(request.json["messages"])
    assert sorted(map(len, by_id.values())) == [2, 2]
    for messages in by_id.values():
        assert len({json.dumps(one[0]) for one in messages}) == 1


def test_a_judge_and_a_guard_have_tables_of_their_own_and_the_judge_sees_no_system_prompt() -> None:
    tables = """
        provider = "m@URL"
        judge = "judge"
        moderator = "llama-guard-4+observe=guard"
        system-prompt = "Nobody said this."
        header = ["X-Route=blue"]
        [providers.judge]
        base-url = "URL"
        temperature = "none"
        extra-body = {for = "judge"}
        system-prompt = "Label with care."
        [providers.guard]
        base-url = "URL"
        max-tokens = 33
        extra-body = {for = "guard"}
        """
    verdict = answer('{"label": "safe", "refusal": "answer", "reason": "hours"}')
    data = ("--data", "sample", "--limit", "1", "--turns", "2", "--images", "off")
    _, endpoint = against([], verdict, *data, config=tables)
    asked = {request.json["model"]: request for request in endpoint.requests}
    assert asked.keys() == {"m", "judge", "guard"}, said()
    target, judge, guard = (asked[name].json for name in ("m", "judge", "guard"))
    assert target["messages"][0] == {"role": "system", "content": "Nobody said this."}
    assert "for" not in target
    assert judge["messages"][0] == {"role": "system", "content": "Label with care."}
    assert "Nobody said this." not in json.dumps(judge["messages"])
    assert ("temperature" in judge, judge["for"]) == (False, "judge")
    assert (guard["temperature"], guard["max_tokens"], guard["for"]) == (0.0, 33, "guard")
    assert ["x-route" in asked[name].headers for name in ("m", "judge", "guard")] == [True, False, False]


@pytest.mark.parametrize(
    ("words", "config", "message"),
    [
        (("--temperature", "warm"), "", "--temperature 'warm': input should be a valid number"),
        (("--temperature", "3"), "", "--temperature '3': input should be less than or equal to 2"),
        (("--max-tokens", "0"), "", "--max-tokens '0': input should be greater than or equal to 1"),
        (("--extra-body", "{"), "", "--extra-body: is not JSON"),
        (("--extra-body", "[1]"), "", "--extra-body: is not a JSON object"),
        (("--extra-body", '{"x": NaN}'), "", "--extra-body: is not JSON (NaN"),
        (("--extra-body", '{"stop": ["x"]}'), "", "--extra-body: stop is no part of it: use stop"),
        (("--extra-body", '{"route": {"api_key": "sk-1"}}'), "", "--extra-body: api_key may be a key"),
        (
            ("--extra-body", '{"route": "$NOT_SET"}'),
            "",
            "$NOT_SET has no value: set the environment variable",
        ),
        (("--header", "X-Route"), "", "--header: write NAME=VALUE"),
        (("--header", "X Route=1"), "", "--header: 'X Route' is no name of a header"),
        (("--header", "X-Route=a\nb"), "", "--header: X-Route: the value holds characters"),
        (("--header", "Host=h"), "", "--header: Host is set by the program"),
        (("--header", "Authorization=Bearer sk"), "", "--header: Authorization carries the key"),
        (("--header", "api-key=sk-planted"), "", "--header: api-key may be a key"),
        (("--system-prompt", "no/such.txt"), "", "--system-prompt: there is no file 'no/such.txt'"),
        (("--system-prompt", "."), "", "--system-prompt: '.': Is a directory"),
        (("--stop", ""), "", "--stop: is empty"),
        (("--stop", "\udcff"), "", "--stop: is not a text in UTF-8"),
        (("--system-prompt", "half \udcff"), "", "--system-prompt: is not a text in UTF-8"),
        ((), "[providers.other]\nstop = 'x'", "[providers.other]: no model of this run has this name"),
        ((), "[providers.m]\nstops = 'x'", "config.toml: providers.m.stops: there is no such setting"),
        ((), "[providers.m]\nheaders = {X = 1}", "config.toml: providers.m.headers 1: input should be"),
        (
            (),
            "[providers.m]\nheaders = {api-key = 'sk-planted'}",
            "config.toml: providers.m.headers: api-key",
        ),
        ((), "[providers.m]\nimage-format = 'x'", "config.toml: providers.m.image-format 'x': input should"),
        ((), "providers = 1", "config.toml: providers 1: "),
        (
            ("--provider", "anthropic/claude-x"),
            "[providers.'anthropic/claude-x']\nquery = {a = 'b'}",
            "anthropic/claude-x: query: litellm has no such setting: leave it out for this model",
        ),
        (
            ("--moderator", "openai-moderation=mod"),
            "[providers.mod]\nbase-url = 'http://127.0.0.1:9/v1'\ntemperature = 0",
            "mod: temperature: a moderation endpoint has no such parameter",
        ),
    ],
)
def test_what_is_refused_in_one_line(
    words: tuple[str, ...], config: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("config.toml").write_text(config)
    assert main(["--provider", "m@http://127.0.0.1:9/v1", *RUN, "--config", "config.toml", *words]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line
    assert "sk-planted" not in line


def test_a_value_of_the_environment_goes_to_one_host_only(capsys: pytest.CaptureFixture[str]) -> None:
    two = (
        "--provider",
        "m@http://127.0.0.1:9/v1",
        "--provider",
        "n@http://localhost:9/v1",
        *RUN,
        "--dry-run",
    )
    assert main([*two, "--header", "api-key=$ROUTE_KEY"]) == 2
    message = "ROUTE_KEY: would be sent to http://127.0.0.1:9 and to http://localhost:9"
    assert message in capsys.readouterr().err
    assert main([*two, "--header", "X-Route=blue"]) == 0


def test_a_name_of_ones_own_stands_for_a_model_with_a_key_of_its_own(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MINE_KEY", "sk-planted-mine-1")
    tables = """
        provider = ["mine", "other=m@URL"]
        [providers.mine]
        model = "m"
        base-url = "URL"
        api-key-env = "MINE_KEY"
        headers = {X-Route = "red"}
        [providers.other]
        headers = {X-Route = "blue"}
        """
    status, endpoint = against([], answer(), *RUN, config=tables)
    assert status == 0, said()
    seen = {(r.json["model"], r.headers["x-route"], r.headers["authorization"]) for r in endpoint.requests}
    assert seen == {("m", "red", "Bearer sk-planted-mine-1"), ("m", "blue", "Bearer sk-planted-42")}
    assert {row["name"] for row in sql("SELECT name FROM run_targets", capsys)} == {"mine", "other"}


def test_other_commands_take_the_tables_of_the_run_s_file(capsys: pytest.CaptureFixture[str]) -> None:
    tables = """
        provider = "m"
        judge = "labels"
        data = "sample"
        [providers.m]
        base-url = "URL"
        temperature = "none"
        system-prompt = "Be brief."
        stop = ["END"]
        extra-body = {top_k = 20}
        [providers.labels]
        base-url = "URL"
        extra-body = {for = "judge"}
        """
    verdict = answer('{"label": "safe", "refusal": "answer", "reason": "hours"}')
    small = ("--limit", "1", "--turns", "2", "--images", "off")
    assert against([], verdict, *small, config=tables)[0] == 0, said()
    status, endpoint = against([], verdict, "judge", "--rubric", "by-scenario", config=tables)
    assert status == 0, said()
    assert [(r.json["model"], r.json["for"]) for r in endpoint.requests] == [("labels", "judge")]
    targets = sql("SELECT DISTINCT target_key, system_prompt FROM run_targets", capsys)
    assert [row["system_prompt"] for row in targets] == ["Be brief."]
    status, endpoint = against([], answer("yes"), "doctor", "--provider", "m", config=tables)
    assert status == 0, said()
    assert {(r.json["model"], "temperature" in r.json) for r in endpoint.requests} == {("m", False)}


class Own:
    identity = "own/1"

    async def ask(self, request: Request) -> Reply:
        assert request.sampling.stop == ("END",)
        assert request.messages[0] == Message("system", "Be brief.")
        return Reply(Outcome.ANSWERED, "At nine.")


def test_an_object_of_ones_own_gets_the_parameters_and_no_headers() -> None:
    small: Any = {"data": "sample", "limit": 1, "turns": [2], "judge": "none", "images": "off"}
    run = safemt.run(provider=Own(), stop="END", system_prompt="Be brief.", temperature=None, **small)
    assert run.status == "done"
    with pytest.raises(safemt.InputError, match=r"plugin:own/1: headers: it is not asked over HTTP"):
        safemt.plan(provider=Own(), header="X-Route=blue", **small)
    with pytest.raises(safemt.InputError, match=r"providers\.x\.temperature 'warm': input should be"):
        safemt.plan(provider=Own(), providers={"x": {"temperature": "warm"}}, **small)
