"""Aliases, keys, query strings and moved addresses in runs, against scripted endpoints."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from anyio.from_thread import start_blocking_portal
from PIL import Image
from support.faults import Behaviour, Endpoint, answer, error, serve
from support.program import ROOT, at_once, sql

RUN = ("--data", "sample", "--judge", "none", "--turns", "1", "--limit", "2", "--max-wait", "0")


def safemt(*words: str, status: int = 0, apart: bool = False, **env: str) -> str:
    """Run the program with these variables alone beside what it needs; what it says."""
    kept = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME")}
    only = kept | {"PYTHONPATH": str(ROOT), "COLUMNS": "200"} | env
    if apart:
        done = subprocess.run(
            [sys.executable, "-m", "safemt_client", *words],
            env=only,
            capture_output=True,
            text=True,
            check=False,
        )
    else:
        with pytest.MonkeyPatch.context() as patch:
            for name in os.environ.keys() - only.keys():
                patch.delenv(name)
            for name, value in only.items():
                patch.setenv(name, value)
            done = at_once(*words)
    said = done.stdout + done.stderr
    assert done.returncode == status, said
    assert "Traceback" not in said
    return said


@contextmanager
def endpoints(*behaviours: Behaviour) -> Iterator[list[Endpoint]]:
    """As many endpoints, in a thread of their own."""
    with start_blocking_portal() as portal, ExitStack() as stack:
        yield [
            stack.enter_context(portal.wrap_async_context_manager(serve([], behaviour)))
            for behaviour in behaviours
        ]


def with_two(work: Callable[[Endpoint, Endpoint], None]) -> None:
    """Work with two endpoints that answer alike, but for their texts."""
    with endpoints(answer("one"), answer("two")) as (one, two):
        work(one, two)


def test_aliases_tell_two_servers_with_one_models_name_apart(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def work(one: Endpoint, two: Endpoint) -> None:
        words = [*RUN, "--provider", f"old=m@{one.url}", "--provider", f"new=m@{two.url}?v=1"]
        safemt(*words)
        assert (len(one.requests), len(two.requests)) == (2, 2)
        assert {request.target for request in two.requests} == {"/v1/chat/completions?v=1"}
        assert {request.json["model"] for request in (*one.requests, *two.requests)} == {"m"}
        safemt(*words)
        assert (len(one.requests), len(two.requests)) == (2, 2)

    with_two(work)
    found = sql("SELECT target, text, count(*)::INT AS n FROM replies GROUP BY ALL ORDER BY target", capsys)
    assert [(row["target"], row["text"], row["n"]) for row in found] == [("new", "two", 2), ("old", "one", 2)]
    hosts = sql("SELECT DISTINCT t.name, a.host FROM turns a JOIN run_targets t USING (target_key)", capsys)
    assert len({row["host"] for row in hosts}) == 2
    assert all(row["host"].startswith("127.0.0.1:") for row in hosts)


def test_the_plan_says_where_stored_replies_came_from(here: Path) -> None:
    def work(one: Endpoint, two: Endpoint) -> None:
        words = [*RUN, "--provider", "m"]
        assert "another address" not in safemt(*words, "--base-url", one.url)
        assert "another address" not in safemt(*words, "--base-url", one.url)
        said = safemt(*words, "--base-url", f"{two.url}?v=1")
        before, now = (endpoint.url.split("/")[2] for endpoint in (one, two))
        assert f"(2 from {before}; now {now})" in said
        assert "ALIAS=MODEL@URL" in said
        assert two.requests == []

    with_two(work)


def test_each_server_gets_the_key_that_is_named_for_it(here: Path) -> None:
    (here / "night.toml").write_text(
        "[providers.first]\nmodel = 'org/m'\nbase-url = 'ONE'\napi-key-env = 'FIRST_KEY'\n"
        "[providers.second]\nmodel = 'org/m@TWO'\napi-key-env = 'SECOND_KEY'\n"
    )

    def work(one: Endpoint, two: Endpoint) -> None:
        text = (here / "night.toml").read_text().replace("ONE", one.url).replace("TWO", two.url)
        (here / "night.toml").write_text(text)
        words = [*RUN, "--config", "night.toml", "--provider", "first", "--provider", "second"]
        said = safemt(*words, status=2, FIRST_KEY="sk-first")
        assert "SECOND_KEY" in said
        keys = {"FIRST_KEY": "sk-first-planted", "SECOND_KEY": "sk-second-planted"}
        safemt(*words, **keys)
        for endpoint, key in ((one, "sk-first-planted"), (two, "sk-second-planted")):
            assert {request.headers["authorization"] for request in endpoint.requests} == {f"Bearer {key}"}
            assert {request.json["model"] for request in endpoint.requests} == {"org/m"}

    with_two(work)
    for path in here.iterdir():
        assert b"planted" not in path.read_bytes()


def test_one_key_for_two_servers_is_refused_before_anything_is_sent(here: Path) -> None:
    def work(one: Endpoint, two: Endpoint) -> None:
        words = [*RUN, "--provider", f"m@{one.url}", "--provider", f"n@{two.url}"]
        said = safemt(*words, status=2, SAFEMT_API_KEY="sk-planted-once")
        assert "api_key_env" in said
        assert "planted" not in said
        assert one.requests == two.requests == []
        safemt(*words)
        assert "authorization" not in one.requests[0].headers

    with_two(work)


def test_a_variable_that_moves_a_vendor_stands_in_the_plan_and_in_doctor(here: Path) -> None:
    def work(one: Endpoint, two: Endpoint) -> None:
        env = {"OPENAI_API_KEY": "sk-planted-openai", "OPENAI_BASE_URL": one.url}
        said = safemt(*RUN, "--provider", "gpt-4o-mini", "--price", "gpt-4o-mini=0/0", **env)
        assert f"openai is asked at {one.url}, as OPENAI_BASE_URL says" in said
        assert {request.headers["authorization"] for request in one.requests} == {"Bearer sk-planted-openai"}
        assert "OPENAI_BASE_URL" in safemt("doctor", "--provider", "gpt-4o-mini", **env)

    with_two(work)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("m@http://127.0.0.1:1/v1?key=sk-planted", "secret"),
        ("m@http://127.0.0.1:1/v1,http://127.0.0.1:2/v1", "router"),
        ("opnai/gpt-4o", "did you mean openai/gpt-4o"),
        ("azure/gpt-4o", "AZURE_API_BASE"),
        ("x=m@http://u:sk-planted@h/v1", "SAFEMT_API_KEY"),
    ],
)
def test_a_wrong_address_is_one_line_and_status_2(name: str, says: str, here: Path) -> None:
    said = safemt(*RUN, "--provider", name, status=2, AZURE_API_KEY="k")
    assert says in said
    assert "planted" not in said
    assert len(said.strip().splitlines()) == 1


def test_images_that_a_vendor_may_refuse_stand_in_the_plan(here: Path) -> None:
    Image.new("RGB", (8, 8)).save(here / "a.webp")
    Image.new("RGB", (8, 8)).save(here / "b.png")
    lines = [
        {"id": name, "dialogue": [{"role": "user", "content": "What is this?", "images": [name]}]}
        for name in ("a.webp", "b.png")
    ]
    (here / "data.jsonl").write_text("\n".join(map(json.dumps, lines)))

    words = ["--data", "data.jsonl", "--judge", "none", "--dry-run", "--price", "xai/m=0/0"]
    said = safemt(*words, "--provider", "xai/m", XAI_API_KEY="k")
    assert "xai takes jpeg, png and may refuse images: 1 webp" in said
    assert "--image-format common sends JPEG and PNG" in said
    said = safemt(*words, "--image-format", "common", "--provider", "xai/m", XAI_API_KEY="k")
    assert "may refuse" not in said


def test_a_table_that_renames_a_whole_name_is_refused(here: Path) -> None:
    (here / "night.toml").write_text("[providers.'m@http://127.0.0.1:1/v1']\nmodel = 'n'\n")

    words = [*RUN, "--config", "night.toml", "--provider", "m@http://127.0.0.1:1/v1"]
    assert "the name says it already" in safemt(*words, status=2)


def test_the_variables_of_the_vendors_own_clients_lead_litellm_to_the_same_routes(here: Path) -> None:
    with endpoints(error(400, "no", "not today")) as (endpoint,):
        place = endpoint.url.removesuffix("/v1")
        env = {
            "AZURE_OPENAI_ENDPOINT": place,
            "AZURE_OPENAI_API_KEY": "sk-azure",
            "OPENAI_API_VERSION": "2024-10-21",
            "GOOGLE_GEMINI_BASE_URL": place,
            "GOOGLE_API_KEY": "sk-google",
            "CO_API_URL": place,
            "CO_API_KEY": "sk-cohere",
            "ANTHROPIC_BASE_URL": place,
            "ANTHROPIC_API_KEY": "sk-anthropic",
        }
        names = ("azure/gpt-4o", "gemini/gemini-2.0-flash", "cohere/command-r", "claude-3-5-haiku")
        words = [word for name in names for word in ("--provider", name)]
        said = safemt("doctor", *words, status=1, apart=True, **env)
    assert all(variable in said for variable in env if variable.endswith(("_URL", "_ENDPOINT")))
    keys = ("api-key", "x-goog-api-key", "authorization", "x-api-key")
    assert {
        (one.target, next(one.headers[key] for key in keys if key in one.headers))
        for one in endpoint.requests
    } == {
        ("/openai/deployments/gpt-4o/chat/completions?api-version=2024-10-21", "sk-azure"),
        ("/v1beta/models/gemini-2.0-flash:generateContent", "sk-google"),
        ("/v2/chat", "Bearer sk-cohere"),
        ("/v1/messages", "sk-anthropic"),
    }
