"""A secret in each place that a user may write one; what is asked sends all of them back, however spelled."""

import base64
import json
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import anyio
import pytest
from support.faults import Behaviour, Received, answer, error, raw, response, serve
from support.network import serve_proxy
from support.planted import clean_files, escaped, everywhere, spellings
from support.program import ROOT
from support.proxied import piece, sse

from safemt_client.__main__ import main
from safemt_client.providers.errors import TargetStoppedError
from safemt_client.providers.limits.limiter import Limits, StatedLimits
from safemt_client.providers.registry import build, resolve
from safemt_client.providers.timeouts import Timeouts
from safemt_client.providers.transport import make_transport
from safemt_client.providers.types import Message, Request
from safemt_client.said import options_of
from safemt_client.tables import ProviderSettings

PASSWORD, PROXY_PASSWORD, COLLECTOR = "planted-of-basic", "planted+of&proxy", "planted-for-a-collector"
PAIR = base64.b64encode(f"user:{PROXY_PASSWORD}".encode()).decode()
VARIABLES = {
    "SAFEMT_API_KEY": "planted-api/key+1",
    "ANTHROPIC_API_KEY": "planted-api/key+2",
    "MY_HEADER": "planted-in-a-header",
    "MY_TABLE": "planted-in-a-table",
    "MY_QUERY": "planted/in=a&query",
    "MY_BODY": "planted-in-a-body",
    "MY_BASIC": "Basic " + base64.b64encode(f"user:{PASSWORD}".encode()).decode(),
}
NAMES = {"own": "x@http://models.invalid/v1", "litellm": "anthropic/claude-x"}
SENT = {
    "own": ["SAFEMT_API_KEY", "MY_HEADER", "MY_TABLE", "MY_QUERY", "MY_BODY", "MY_BASIC"],
    "litellm": ["ANTHROPIC_API_KEY", "MY_HEADER", "MY_TABLE", "MY_BODY", "MY_BASIC"],
}
HEADERS = {"X-Table": "$MY_TABLE", "X-Basic": "$MY_BASIC"}
SAID = {
    "own": {"headers": HEADERS, "query": {"code": "$MY_QUERY"}, "extra_body": {"secret": "$MY_BODY"}},
    "litellm": {"headers": HEADERS, "extra_body": {"secret": "$MY_BODY"}},
}
MARKS = [
    mark
    for secret in (*VARIABLES.values(), PASSWORD, PROXY_PASSWORD, PAIR, COLLECTOR)
    for mark in spellings(secret)
]


def secrets_of(route: str) -> list[str]:
    """What the endpoint is sent, and may send back."""
    return [*(VARIABLES[name] for name in SENT[route]), PASSWORD, PROXY_PASSWORD, PAIR]


def echoes(secrets: Sequence[str]) -> list[Behaviour]:
    """Answers that hold the secrets: whole, in pieces none of which holds one, in JSON within JSON, in errors."""
    said = " and ".join(form for secret in secrets for form in everywhere(secret))
    half = said.index(secrets[0]) + 5
    coded = json.dumps({"label": "safe", "explanation": "SAID"}).replace(
        "SAID", " ".join(map(escaped, secrets))
    )
    parts: Any = [{"type": "text", "text": said[:half]}, {"type": "text", "text": said[half:]}]
    return [
        answer(f"hello {said}", reasoning_content=f"I think of {said}"),
        sse(*(piece(said[at : at + 5]) for at in range(0, len(said), 5)), piece(finish="stop")),
        answer(parts),
        answer(coded),
        error(400, "content_filter", f"blocked: {said}"),
        error(500, "server_error", json.dumps(json.dumps({"error": {"message": said}}))),
        error(422, secrets[0], said, x_echo=secrets[0], retry_after=secrets[0]),
        response(200, f"<html>{said}</html>", content_type="text/html"),
        raw(b"HTTP/1.1 nonsense " + secrets[0].encode() + b"\r\n\r\n"),
    ]


def stops(secrets: Sequence[str]) -> list[Behaviour]:
    """Answers after which nothing more is asked."""
    said = " and ".join(form for secret in secrets for form in everywhere(secret))
    return [
        response(302, f"moved {said}", location=f"http://elsewhere.invalid/{secrets[0]}/v1?key={secrets[0]}"),
        response(407, said),
        error(401, "invalid_api_key", f"Incorrect API key provided: {said}"),
    ]


@pytest.fixture(autouse=True)
def planted(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    for name, value in (VARIABLES | {"ANTHROPIC_API_BASE": "http://models.invalid"}).items():
        monkeypatch.setenv(name, value)


def with_password(proxy: str) -> str:
    password = PROXY_PASSWORD.replace("+", "%2B").replace("&", "%26")
    return proxy.replace("http://", f"http://user:{password}@")


def arrived(route: str, requests: Sequence[Received], credentials: Sequence[str]) -> None:
    """What is searched for was there: every secret was sent."""
    sent = " ".join(f"{unquote(one.target)} {one.headers} {one.body.decode('latin-1')}" for one in requests)
    for name in SENT[route]:
        assert VARIABLES[name] in sent, name
    assert f"Basic {PAIR}" in credentials


@pytest.mark.parametrize("route", NAMES)
def test_a_reply_or_an_error_holds_none(
    route: str,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    secrets = secrets_of(route)
    said = ProviderSettings(**SAID[route]).model_copy(update={"headers": HEADERS | {"X-H": "$MY_HEADER"}})
    script = [*echoes(secrets), *stops(secrets)]

    async def ask() -> tuple[list[Any], list[Received], list[str]]:
        found: list[Any] = []
        async with (
            serve(script) as endpoint,
            serve_proxy(endpoint.url) as proxy,
            make_transport() as transport,
        ):
            monkeypatch.setenv("http_proxy", with_password(proxy.url))
            spec = resolve(NAMES[route], None, os.environ)
            spec = replace(spec, options=options_of(spec, said, os.environ))
            for _ in script:
                provider = build(
                    spec,
                    transport=transport,
                    limits=Limits(StatedLimits(None, None, 4), {}),
                    timeouts=Timeouts(max_wait_s=0, attempt_s=20, turn_s=20),
                )
                try:
                    found.append(await provider.ask(Request((Message("user", "hi"),), said.sampling(5))))
                except TargetStoppedError as stopped:
                    found += [stopped, stopped.reply]
            return found, endpoint.requests, proxy.credentials

    with caplog.at_level("INFO"):
        found, requests, credentials = anyio.run(ask)
    arrived(route, requests, credentials)
    shown = repr(found) + caplog.text + "".join(capfd.readouterr())
    assert not [
        (mark, shown[shown.index(mark) - 60 : shown.index(mark) + 60]) for mark in MARKS if mark in shown
    ]
    assert shown.count("[key]") > 20


@pytest.fixture(scope="module", params=["own", pytest.param("litellm", marks=pytest.mark.slow)])
def written(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with all that a run wrote, and what a collector of traces and a command at its end were told."""
    route, folder = request.param, tmp_path_factory.mktemp("ways")
    tables = "\n".join(
        f"[providers.{name}]\nmodel = {json.dumps(NAMES[route])}\n"
        + "\n".join(
            f"{field}.{name} = {_toml(value)}"
            for field, of in SAID[route].items()
            for name, value in of.items()
        )
        for name in "tjg"
    )
    # The flag is for the target alone.
    for name in "jg":
        tables = tables.replace(f"[providers.{name}]\n", f'[providers.{name}]\nheaders.X-H = "$MY_HEADER"\n')
    (folder / "c.toml").write_text(tables)
    words = ["--config", "c.toml", "--provider", "t", "--judge", "j", "--header", "X-H=$MY_HEADER"]
    words += ["--moderator", "none", "--moderator", "llama-guard-4+output=g", "--data", "sample"]
    words += ["--turns", "1,2", "--limit", "4", "--max-wait", "0", "--max-concurrency", "1", "--otel"]
    words += ["--log", "a.log", "--log-level", "debug", "--log-texts"]
    words += ["--on-finish", "sh -c 'env > finish.txt'"]

    async def both() -> None:
        forms = echoes(secrets_of(route))
        collected = raw(f"HTTP/1.1 400 you sent {COLLECTOR}\r\ncontent-length: 0\r\n\r\n".encode())
        count = 0

        def choose(received: Received) -> Behaviour:
            nonlocal count
            count += 1
            return forms[count % len(forms)]

        async with (
            serve([], choose=choose) as endpoint,
            serve([], collected) as collector,
            serve_proxy(endpoint.url) as proxy,
        ):
            env = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
            env |= VARIABLES | {"ANTHROPIC_API_BASE": "http://models.invalid", "PYTHONPATH": str(ROOT)}
            env |= {
                "http_proxy": with_password(proxy.url),
                "no_proxy": "127.0.0.1",
                "LITELLM_LOCAL_MODEL_COST_MAP": "True",
            }
            env |= {"OTEL_EXPORTER_OTLP_HEADERS": f"x-otel={COLLECTOR}"}
            env |= {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url.removesuffix("/v1")}
            done = await anyio.run_process(
                [sys.executable, "-m", "safemt_client", *words], check=False, cwd=folder, env=env
            )
            (folder / "said.txt").write_bytes(done.stdout + done.stderr)
            assert b"Traceback" not in done.stderr
            assert done.returncode in (0, 1), done.stderr
            arrived(route, endpoint.requests, proxy.credentials)
            assert any(COLLECTOR in one.headers.get("x-otel", "") for one in collector.requests)
            assert len(endpoint.requests) > 12

    anyio.run(both)
    return folder


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{name} = {_toml(inner)}" for name, inner in value.items()) + " }"
    return json.dumps(value)


def test_nothing_that_a_run_writes_holds_one(
    written: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(written)
    monkeypatch.setattr(sys, "argv", ["safemt"])
    assert main(["report"]) == main(["report", "--json"]) == 0
    assert main(["report", "--md", "r.md", "--latex", "r.tex", "--html", "r.html"]) == 0
    for form in ("reference", "parquet", "csv", "jsonl", "inspect"):
        assert main(["export", "--format", form, "--out", f"out-{form}"]) == 0
    for table in ("turns", "verdicts", "assessments", "run_targets", "runs", "run_events", "endpoint_facts"):
        assert main(["sql", f"FROM {table}", "--format", "json"]) == 0
    shown = "".join(capsys.readouterr()) + pages(written / "safemt.duckdb")
    (written / "shown.txt").write_text(shown)
    names = clean_files(written, MARKS)
    assert {"safemt.duckdb", "said.txt", "shown.txt", "a.log", "finish.txt", "r.html"} <= {*names}
    # They were there to be found, and the collector's answer was told.
    assert shown.count("[key]") > 100
    assert "you sent [key]" in (written / "said.txt").read_text()
    assert "SAFEMT_STATUS" in (written / "finish.txt").read_text()


def pages(path: Path) -> str:
    """All pages of the viewer."""
    testclient = pytest.importorskip("starlette.testclient")
    from safemt_client.viewer.desk import Desk
    from safemt_client.viewer.forms import Forms
    from safemt_client.viewer.queries import Queries
    from safemt_client.viewer.server import Pages
    from safemt_client.viewer.snapshot import Snapshot

    snapshot = Snapshot(path)
    snapshot.refresh(wait=True)
    with testclient.TestClient(Forms(Pages(Queries(snapshot), Desk(snapshot)).application())) as client:
        found = client.get("/").text
        run = re.findall(r"/run\?run=(\w+)", found)[0]
        found += client.get(f"/run?run={run}").text
        links = {link.replace("&amp;", "&") for link in re.findall(r'href="(/conversation[^"]+)"', found)}
        assert links
        for link in sorted(links)[:20]:
            found += client.get(link).text
    snapshot.close()
    return str(found)


@pytest.mark.parametrize(
    "words",
    [
        "--api-key planted-1",
        "--provider demo --api-key=planted-1",
        "--provider m@http://h/v1?code=planted-1",
        "--provider m@http://h/v1?a=b;key=planted-1",
        "--provider m@http://u:planted-1@h/v1",
        "--provider m@http://u:x/planted-1@h/v1",
        "--provider m --base-url http://h/v1?sig=planted-1",
        "--provider m --base-url //u:planted-1@h",
        "--provider demo --judge j --judge-base-url http://h/v1?token=planted-1",
        "--provider demo --moderator llm=m@http://h/v1?token=planted-1",
        "--provider demo --header X-Api-Key=planted-1",
        "--provider demo --header X-Other=sk-planted-1",
        "--provider demo --header X-Other=Bearer\\ planted-1",
        "--provider demo --header X-Other=planted1planted1planted1planted1",
        """--provider demo --extra-body '{"api_key": "planted-1"}'""",
        """--provider demo --extra-body '{"api_key": "planted-1"'""",
        """--provider demo --extra-body '["planted-1"]'""",
        "moderate --moderator demo-guard --upstream http://h/v1?key=planted-1",
        "moderate --moderator demo-guard --upstream http://u:planted-1@h/v1",
        "moderate --moderator llm=m@http://h/v1?key=planted-1 --upstream demo",
        "doctor --provider m@http://h/v1?key=planted-1",
    ],
)
@pytest.mark.usefixtures("here")
def test_a_key_in_the_wrong_place_is_refused_and_not_repeated(
    words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    import shlex

    given = shlex.split(words)
    try:
        status = main(
            [*given, *([] if given[0] in ("moderate", "doctor") else ["--data", "sample", "--limit", "1"])]
        )
    except SystemExit as error:
        status = int(error.code or 0)
    assert status == 2
    assert "planted" not in "".join(capsys.readouterr())
    assert not list(Path().iterdir())


@pytest.mark.parametrize(
    "table",
    [
        'headers = "X-Api-Key: planted-1"',
        'headers = { "X-Api-Key" = ["planted-1"] }',
        'query = ["planted-1"]',
        'query = { n = "planted1planted1planted1planted1" }',
        'extra-body = ["planted-1"]',
        'api-key-env = "planted-1"',
        'base-url = ["planted-1"]',
        'headers = { "planted-1"',
    ],
)
@pytest.mark.usefixtures("here")
def test_a_key_in_a_wrong_table_is_not_repeated(table: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("c.toml").write_text(f'provider = "demo"\n[providers.demo]\n{table}\n')
    assert main(["--config", "c.toml", "--limit", "1"]) == 2
    assert "planted" not in "".join(capsys.readouterr())


@pytest.mark.parametrize(
    "proxy",
    [
        "http://u:planted-1@",
        "socks5://u:planted-1@h:1",
        "http://u:p/planted-1@h:1",
        "http://u:p?planted-1@h:1",
    ],
)
@pytest.mark.usefixtures("here")
def test_a_wrong_proxy_is_named_without_its_password(
    proxy: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("http_proxy", proxy)
    words = [
        "--provider",
        "m@http://models.invalid/v1",
        "--data",
        "sample",
        "--judge",
        "none",
        "--limit",
        "1",
    ]
    assert main(words) == 2
    out, err = capsys.readouterr()
    assert "planted" not in out + err
    assert "proxy" in err
    assert not Path("safemt.duckdb").exists()


def test_a_traceback_holds_none(tmp_path: Path) -> None:
    """Of a fault that nobody has thought of: the program's, or that of a user's own code."""
    program = (
        "import sys; from safemt_client import __main__ as m; from safemt_client.cli import commands as c\n"
        "def fails(arguments): raise RuntimeError("
        f"'GET http://u:{PASSWORD}@h/v1?key={VARIABLES['MY_QUERY']} {VARIABLES['SAFEMT_API_KEY']}')\n"
        "c.run = fails; sys.exit(m.main(['--provider', 'demo']))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "RuntimeError: GET http://h/v1" in done.stderr
    # The line of the program itself is not shown: it has no file.
    assert not [mark for mark in MARKS if mark in done.stdout + done.stderr]
