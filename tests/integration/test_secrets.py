"""Keys are planted in every variable; endpoints send them back; nothing that the program wrote holds one."""

import base64
import json
import os
import re
import subprocess
import sys
import threading
import urllib.request
import zipfile
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import anyio
import duckdb
import pyarrow.parquet
import pytest
from anyio.from_thread import start_blocking_portal
from support.faults import Behaviour, Endpoint, answer, error, response, serve
from support.planted import clean_files, spellings, texts
from support.program import ROOT, at_once

from safemt_client.providers.batch.base import BatchRefusedError
from safemt_client.providers.behind_litellm.client import LiteLLM
from safemt_client.providers.errors import TargetStoppedError
from safemt_client.providers.limits.limiter import Limits, StatedLimits
from safemt_client.providers.registry import build, build_batches, resolve
from safemt_client.providers.timeouts import Timeouts
from safemt_client.providers.transport import make_transport
from safemt_client.providers.types import Message, Reply, Request, Sampling
from safemt_client.providers.vendors import VENDORS

KEY = "sk-planted-4f2/9d+7c"
CLIENTS = "sk-planted-of-a-client-77"
HELLO = Request((Message("user", "hi"),), Sampling(max_tokens=5))
VARIABLES = sorted(
    {
        *(name for vendor in VENDORS for name in vendor.keys),
        *(name for vendor in VENDORS for name in vendor.further_keys),
        "SAFEMT_API_KEY",
    }
)
VARIABLE_OF = {vendor.name: next(iter(vendor.keys), "") for vendor in VENDORS}
PLANTED = {name: f"sk-planted-{name.lower()}-0123456789" for name in VARIABLES} | {"SAFEMT_API_KEY": KEY}


MARKS = [spelt for key in (*PLANTED.values(), CLIENTS) for spelt in spellings(key)]


def echo(key: str = KEY) -> Behaviour:
    """Every answer holds the key, each in another place and spelling."""
    said = " and ".join(
        [key, quote(key, safe=""), base64.b64encode(f"Bearer {key}".encode()).decode(), key.encode().hex()]
    )
    escaped = "".join(f"\\u{ord(letter):04x}" for letter in key)
    kinds = [
        answer(f"hello {said}", reasoning_content=f"I think of {said}"),
        error(400, "content_filter", f"blocked: {said}"),
        answer(f"cut {said}", "length"),
        error(500, "server_error", "x" * 280 + key),
        response(302, f"moved {said}", location=f"http://127.0.0.1:9/?key={key}"),
        response(
            200,
            '{"id": "ID", "model": "ID", "choices": [{"message": {"content": "ID"}, "finish_reason": "ID"}]}'.replace(
                "ID", escaped
            ),
        ),
        error(400, key, said, x_echo=key, retry_after=key),
        response(200, f"<html>{said}</html>", content_type="text/html"),
        response(422, {"detail": {"input": said}, key: key}),
    ]
    at = -1

    async def behave(writer: Any) -> None:
        nonlocal at
        at += 1
        await kinds[at % len(kinds)](writer)

    return behave


def safemt(folder: Path, *words: str, without: Sequence[str] = ()) -> str:
    """Run the program in the folder, in a process of its own; what it says is kept there too."""
    env = {
        **{name: value for name, value in os.environ.items() if not name.startswith("COV")},
        **PLANTED,
        "PYTHONPATH": str(ROOT),
        "HOME": str(folder),
        "XDG_STATE_HOME": str(folder / "state"),
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    }
    for name in without:
        env.pop(name)
    done = subprocess.run(
        [sys.executable, "-m", "safemt_client", *words],
        cwd=folder,
        env=env,
        capture_output=True,
        timeout=120,
        check=False,
    )
    return _kept(folder, words, done.returncode, (done.stdout + done.stderr).decode(), (0, 1, 2))


def safemt_at_once(folder: Path, *words: str, status: Sequence[int] = (0, 1, 2)) -> str:
    """The same in this process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for name, value in {**PLANTED, "HOME": str(folder), "XDG_STATE_HOME": str(folder / "state")}.items():
            patch.setenv(name, value)
        done = at_once(*words)
    return _kept(folder, words, done.returncode, done.stdout + done.stderr, status)


def _kept(folder: Path, words: Sequence[str], ended: int, said: str, status: Sequence[int]) -> str:
    assert ended in status, said
    assert "Traceback" not in said
    with (folder / "said.txt").open("a") as file:
        file.write(f"$ {' '.join(words)}\n{said}")
    return said


def assert_clean(folder: Path) -> list[str]:
    """That no file below holds a key; the names of the files."""
    return clean_files(folder, MARKS)


def test_the_search_finds_what_it_looks_for(tmp_path: Path) -> None:
    pyarrow.parquet.write_table(pyarrow.table({"a": [KEY]}), tmp_path / "a.parquet", compression="zstd")
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("b", KEY * 10)
    with duckdb.connect(str(tmp_path / "a.duckdb")) as store:
        store.execute("CREATE TABLE t AS SELECT ? AS a FROM range(5000)", [KEY])
    (tmp_path / "a.txt").write_bytes(base64.b64encode(f"Bearer {KEY}".encode()))
    for path in tmp_path.iterdir():
        assert any(mark in text for text in texts(path) for mark in MARKS), path


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with all that the commands wrote about endpoints that send the key back."""
    folder = tmp_path_factory.mktemp("secrets")

    with (
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(serve([], echo())) as endpoint,
    ):
        at = f"@{endpoint.url}"
        run = ["--provider", f"m{at}", "--data", "sample", "--judge", f"j{at}", "--turns", "1,2"]
        run += ["--limit", "5", "--max-wait", "0", "--max-concurrency", "1"]
        guards = ["--moderator", "none", "--moderator", f"llama-guard-4+output=g{at}"]
        guards += ["--moderator", f"openai-moderation+block=o{at}"]
        safemt(folder, *run, *guards, "--log", "a.log", "--log-level", "debug", "--log-texts")
        safemt_at_once(folder, *run, *guards)
        safemt_at_once(folder, "judge", "--judge", f"k{at}", "--max-wait", "0")
        safemt_at_once(folder, "run", *run, "--batch", "--db", "b.duckdb")
        safemt_at_once(folder, "doctor", "--provider", f"m{at}")
        safemt_at_once(folder, "doctor", "--db", "safemt.duckdb", status=[0])
        assert len(endpoint.requests) > 30
        assert {one.headers.get("authorization") for one in endpoint.requests} == {f"Bearer {KEY}"}
    return folder


def test_run_resume_judge_doctor_report_and_export(written: Path) -> None:
    safemt_at_once(written, "report", status=[0])
    safemt_at_once(written, "report", "--json", status=[0])
    safemt_at_once(written, "report", "--md", "r.md", "--latex", "r.tex", status=[0])
    safemt_at_once(written, "report", "--html", "r.html", status=[0, 2])
    for form in ("reference", "parquet", "csv", "jsonl", "inspect", "huggingface"):
        safemt_at_once(written, "export", "--format", form, "--out", f"out-{form}", status=[0])
    for table in ("turns", "verdicts", "assessments", "run_targets", "run_judges", "runs", "run_events"):
        safemt_at_once(written, "sql", f"FROM {table}", "--format", "json", status=[0])
    safemt_at_once(written, "runs", status=[0])
    safemt_at_once(written, "compare", status=[0, 2])
    files = assert_clean(written)
    assert {"safemt.duckdb", "said.txt", "r.md", "r.tex"} <= set(files)
    assert sum(name.startswith("out-") for name in files) > 12
    # It was there to be found.
    assert "[key]" in (written / "said.txt").read_text()


def test_every_variable_is_planted() -> None:
    assert {"OPENAI_API_KEY", "ANTHROPIC_API_KEY", "SAFEMT_API_KEY", "AWS_SECRET_ACCESS_KEY"} <= set(
        VARIABLES
    )


@asynccontextmanager
async def beside(url: str, *words: str, folder: Path) -> AsyncIterator[tuple[str, subprocess.Popen[str]]]:
    """A command that serves; the first address that it prints."""
    with subprocess.Popen(
        [sys.executable, "-m", "safemt_client", *words],
        cwd=folder,
        env=os.environ | PLANTED | {"PYTHONPATH": str(ROOT), "HOME": str(folder)},
        stdout=subprocess.PIPE,
        stderr=(folder / f"{words[0]}.err").open("w"),
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            line = await anyio.to_thread.run_sync(process.stdout.readline)
            yield re.findall(r"http://\S+", line)[0], process
        finally:
            process.terminate()
            rest = process.communicate(timeout=30)[0]
            (folder / f"{words[0]}.out").write_text(rest)


def test_the_proxy_logs_no_key_of_anybodys(tmp_path: Path) -> None:
    async def main() -> None:
        async with serve([], echo(CLIENTS)) as upstream, serve([], echo()) as guard:
            words = [
                "moderate",
                "--upstream",
                upstream.url,
                "--moderator",
                f"llama-guard-4+block+output=g@{guard.url}",
            ]
            words += ["--port", "0", "--guard-timeout", "1", "--on-guard-error", "pass"]
            words += ["--log", "decisions.jsonl", "--log-texts"]
            async with beside(upstream.url, *words, folder=tmp_path) as (address, _):
                for n in range(12):
                    asked = {"model": "m", "messages": [{"role": "user", "content": f"hello {n}"}]}

                    def post(asked: dict[str, Any] = asked) -> None:
                        request = urllib.request.Request(
                            f"{address}/chat/completions", json.dumps(asked).encode()
                        )
                        request.add_header("Content-Type", "application/json")
                        request.add_header("Authorization", f"Bearer {CLIENTS}")
                        with suppress(OSError):
                            urllib.request.build_opener(urllib.request.ProxyHandler({})).open(
                                request, timeout=20
                            ).read()

                    await anyio.to_thread.run_sync(post)
            assert any(one.headers["authorization"] == f"Bearer {CLIENTS}" for one in upstream.requests)
            assert {one.headers["authorization"] for one in guard.requests} == {f"Bearer {KEY}"}

    anyio.run(main)
    assert (tmp_path / "decisions.jsonl").stat().st_mode & 0o777 == 0o600
    assert "hello" in (tmp_path / "decisions.jsonl").read_text()
    assert_clean(tmp_path)


def test_the_viewer_shows_none(written: Path, tmp_path: Path) -> None:
    pytest.importorskip("uvicorn")

    async def main() -> str:
        words = ["view", "--db", str(written / "safemt.duckdb"), "--no-browser", "--port", "0"]
        async with beside("", *words, folder=tmp_path) as (address, _):

            def pages() -> str:
                import http.cookiejar

                jar = urllib.request.HTTPCookieProcessor(http.cookiejar.CookieJar())
                opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), jar)
                text = opener.open(address).read().decode()
                base = address.partition("/?")[0]
                run = re.findall(r"/run\?run=(\w+)", text)
                for link in [f"/run?run={run[0]}"] if run else []:
                    text += opener.open(base + link).read().decode()
                for link in re.findall(r'href="(/conversation[^"]+)"', text)[:20]:
                    text += opener.open(base + link.replace("&amp;", "&")).read().decode()
                return text

            return await anyio.to_thread.run_sync(pages)

    text = anyio.run(main)
    assert len(text) > 1000
    assert not [mark for mark in MARKS if mark in text]


def asked(
    spec_of: Callable[[str], Any], then: Behaviour, times: int = 9
) -> tuple[list[Reply | TargetStoppedError], Endpoint]:
    """What a provider says to an endpoint in the vendor's place."""

    async def main() -> tuple[list[Reply | TargetStoppedError], Endpoint]:
        found: list[Reply | TargetStoppedError] = []
        async with serve([], then) as endpoint, make_transport() as transport:
            for _ in range(times):
                provider = build(
                    spec_of(endpoint.url),
                    transport=transport,
                    limits=Limits(StatedLimits(None, None, 4), {}),
                    timeouts=Timeouts(max_wait_s=0, attempt_s=20, turn_s=20),
                )
                try:
                    found.append(await provider.ask(HELLO))
                except TargetStoppedError as problem:
                    found.append(problem)
            return found, endpoint

    return anyio.run(main)


@pytest.mark.parametrize("vendor", [vendor.name for vendor in VENDORS if vendor.kind == "openai"])
def test_each_compatible_vendor(vendor: str) -> None:
    spec = resolve(f"{vendor}/m", None, PLANTED)
    key = PLANTED[VARIABLE_OF[vendor]]
    found, endpoint = asked(lambda url: replace(spec, base_url=url), echo(key))
    said = repr(found) + "".join(repr(getattr(one, "reply", "")) for one in found)
    assert "[key]" in said
    assert not [mark for mark in MARKS if mark in said]
    assert {one.headers["authorization"] for one in endpoint.requests} == {f"Bearer {key}"}


@pytest.mark.parametrize(
    ("name", "base"),
    [
        ("anthropic/claude-3-5-haiku", "ANTHROPIC_API_BASE"),
        ("gemini/gemini-1.5-pro", "GEMINI_API_BASE"),
        ("azure/gpt-4o", "AZURE_API_BASE"),
        ("cohere/command-r", "COHERE_API_BASE"),
    ],
)
def test_each_translated_vendor(
    name: str, base: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    key = PLANTED[VARIABLE_OF[name.partition("/")[0]]]
    monkeypatch.setenv("AZURE_API_VERSION", "2024-02-01")

    def spec_of(url: str) -> Any:
        monkeypatch.setenv(base, url.removesuffix("/v1"))
        return resolve(name, None, PLANTED | {base: url.removesuffix("/v1")})

    found, endpoint = asked(spec_of, echo(key), times=3)
    said = (
        repr(found) + "".join(repr(getattr(one, "reply", "")) for one in found) + "".join(capfd.readouterr())
    )
    assert not [mark for mark in MARKS if mark in said]
    assert endpoint.requests


def test_a_key_goes_to_litellm_from_a_file_too() -> None:
    spec = resolve("anthropic/claude-x", None, PLANTED)
    provider = build(
        spec,
        transport=make_transport(),
        limits=Limits(StatedLimits(None, None, 1), {}),
        timeouts=Timeouts(max_wait_s=0, attempt_s=1, turn_s=1),
    )
    assert isinstance(provider, LiteLLM)
    assert provider._api_key == PLANTED["ANTHROPIC_API_KEY"]


REDIRECTED = [
    *("openai/m", "groq/m", "m@URL", "anthropic/claude-3-5-haiku", "gemini/gemini-1.5-pro"),
    *("azure/gpt-4o", "cohere/command-r"),
]


@pytest.mark.parametrize("name", REDIRECTED)
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_followed_nowhere(name: str, status: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """To another port, and to another name of this machine."""
    monkeypatch.setenv("AZURE_API_VERSION", "2024-02-01")

    async def main() -> None:
        async with serve([], answer()) as other:
            for where in (other.url, other.url.replace("127.0.0.1", "localhost")):
                async with (
                    serve([], response(status, "", location=f"{where}/chat/completions")) as endpoint,
                    make_transport() as transport,
                ):
                    bases = ("ANTHROPIC_API_BASE", "GEMINI_API_BASE", "AZURE_API_BASE", "COHERE_API_BASE")
                    moved = dict.fromkeys(bases, endpoint.url.removesuffix("/v1"))
                    for base, url in moved.items():
                        monkeypatch.setenv(base, url)
                    spec = resolve(name.replace("URL", endpoint.url), None, PLANTED | moved)
                    if spec.kind == "openai":
                        spec = replace(spec, base_url=endpoint.url)
                    provider = build(
                        spec,
                        transport=transport,
                        limits=Limits(StatedLimits(None, None, 4), {}),
                        timeouts=Timeouts(max_wait_s=0, attempt_s=20, turn_s=20),
                    )
                    try:
                        reply = await provider.ask(HELLO)
                        assert not reply.outcome.observed
                    except TargetStoppedError:
                        pass
                    batches = build_batches(
                        replace(spec, base_url=endpoint.url), provider, transport=transport, max_wait_s=0
                    )
                    if batches is not None:
                        with pytest.raises((BatchRefusedError, TargetStoppedError)):
                            await batches.state("b")
                    assert endpoint.requests
            assert other.requests == []

    anyio.run(main)


HOSTS = [
    *("--provider", "m@http://models.invalid/v1", "--base-url", "http://models.invalid/v1"),
    *("--judge", "j", "--judge-base-url", "http://judges.invalid/v1", "--data", "sample", "--limit", "1"),
    *("--moderator", "llama-guard-4=g@http://guards.invalid/v1", "--dry-run"),
]


def test_one_key_is_not_sent_to_several_hosts(tmp_path: Path) -> None:
    said = safemt_at_once(tmp_path, *HOSTS, status=[2])
    assert re.search(r"SAFEMT_API_KEY: .*http://judges\.invalid:80.*api_key_env", said)
    assert_clean(tmp_path)


def test_plain_http_to_elsewhere_is_said(tmp_path: Path) -> None:
    # A process says it once.
    said = safemt(tmp_path, *HOSTS, without=["SAFEMT_API_KEY"])
    for host in ("models", "judges", "guards"):
        assert (
            said.count(f"safemt: {host}.invalid is reached over http: keys and texts are sent unencrypted")
            == 1
        )


def test_a_key_file_that_others_can_read_stops_the_run(tmp_path: Path) -> None:
    (tmp_path / "key").write_text(KEY)
    (tmp_path / "key").chmod(0o644)
    env = {name: value for name, value in os.environ.items() if name not in PLANTED}
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "safemt_client",
            "--provider",
            "gpt-4o",
            "--data",
            "sample",
            "--judge",
            "none",
            "--dry-run",
        ],
        env=env | {"PYTHONPATH": str(ROOT), "OPENAI_API_KEY_FILE": str(tmp_path / "key")},
        cwd=tmp_path,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.decode().splitlines() == [
        f"safemt: OPENAI_API_KEY_FILE: {tmp_path / 'key'}: others can read it: chmod 600 {tmp_path / 'key'}"
    ]
    assert threading.active_count() < 50
