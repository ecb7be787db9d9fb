"""Models that machines of a cluster serve: actors keep their servers, and everybody asks those."""

import gzip
import os
import platform
import shutil
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from cluster.said import rows, scores, turns
from cluster.threads import Nodes, on_threads
from multidict import CIMultiDict
from support.program import at_once
from support.serving import as_vllm, nothing_is_left
from yarl import URL

from safemt_client.cluster import versions
from safemt_client.providers.transport import ConnectionFailedError, HopelessError, fetch
from safemt_client.serving import elsewhere, engines, forwarded
from safemt_client.serving import server as serving
from safemt_client.serving.forwarded import Answered, Asked, EndedError, answer
from safemt_client.serving.names import Serving
from safemt_client.serving.rerouted import Rerouted

RUN = ("--data", "sample", "--images", "off", "--limit", "6", "--turns", "1,2", "--judge", "none")


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "GRACE_S", 0.2)


def of_actors(nodes: Nodes) -> list[bytes]:
    """All that went through the cluster."""
    return [message for handle in nodes.started for message in handle.messages]


def test_target_and_guard_are_those_of_one_process(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keys: list[str] = []
    monkeypatch.setattr(serving, "server_key", lambda name: keys.append(os.urandom(24).hex()) or keys[-1])
    model, *options = as_vllm(here, f"log={here / 'log'}", "says=safe")
    words = ["--provider", model, *options, *RUN]
    words += ["--moderator", "none", "--moderator", f"llama-guard-3+block+output={model}"]
    with on_threads(2) as nodes:
        done = at_once(*words, "--ray", "auto", "--db", "two.duckdb")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "is served by a machine of the cluster, with vllm 1+cpu, on no GPU: needs about " in " ".join(
        done.stdout.split()
    )
    assert done.stdout.count(f"{model}: ready after ") == 1
    assert nodes.given_gpus == [0]
    nothing_is_left(here)
    asked = len((here / "log").read_text().splitlines())
    # Each request is counted once, and so is the program's own.
    assert rows(here / "two.duckdb", "SELECT sum(requests), sum(prompt_tokens) FROM server_use") == [
        (asked + 1, 40)
    ]
    said = b"".join(of_actors(nodes))
    assert len(keys) == 1
    assert keys[0].encode() not in said
    assert b"messages" in said
    alone = at_once(*words, "--db", "one.duckdb")
    assert alone.returncode == 0, alone.stdout + alone.stderr
    assert scores(here / "two.duckdb") == scores(here / "one.duckdb")
    assert turns(here / "two.duckdb") == turns(here / "one.duckdb")
    assert len((here / "log").read_text().splitlines()) == 2 * asked


def test_calls_wait_for_a_server_that_is_started_once_more(here: Path) -> None:
    (here / "mortal").touch()
    model, *options = as_vllm(here, "die=4", f"mortal={here / 'mortal'}", f"log={here / 'log'}")
    with on_threads(2):
        done = at_once("--provider", model, *options, *RUN, "--ray", "auto")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count(f"{model}: ready after ") == 2
    assert "; it is started once more: " in " ".join(done.stdout.split())
    assert turns(here / "safemt.duckdb")[1:] == (12, 12)
    nothing_is_left(here)


@pytest.mark.slow
def test_one_that_dies_again_stops_what_asks_it(here: Path) -> None:
    model, *options = as_vllm(here, "die=3", f"log={here / 'log'}")
    with on_threads(2):
        done = at_once("--provider", model, *options, *RUN, "--max-concurrency", "1", "--ray", "auto")
    out = " ".join(done.stdout.split())
    assert f"cannot be asked any more: {model}: the server ended (SIGKILL: perhaps too little memory)" in out
    assert " a second time; it said: RuntimeError: the kettle is empty; " in out
    assert done.returncode == 1
    assert rows(
        here / "safemt.duckdb", "SELECT DISTINCT error_code FROM replies WHERE outcome LIKE 'e%'"
    ) == [("server_ended",)]
    nothing_is_left(here)


def refused(words: list[str], nodes: Nodes | None = None, **changed: Any) -> str:
    """The one line with which a run ends before anything is asked."""
    with on_threads(1) as found:
        for name, value in changed.items():
            setattr(found, name, value)
        done = at_once(*words, *RUN, "--ray", "auto")
    assert done.returncode == 2, done.stdout + done.stderr
    (line,) = done.stderr.strip().splitlines()
    return line


def test_what_a_machine_lacks_is_one_line(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, *options = as_vllm(here)
    words, folder = ["--provider", model, *options], here / "small"

    def elsewhere_with(change: Callable[[], None]) -> str:
        """What is said where the machine differs from this one."""
        with monkeypatch.context() as patch:
            found = elsewhere.served_here

            def served_here(order: elsewhere.Order) -> engines.Served:
                change()
                return found(order)

            patch.setattr("safemt_client.cluster.served.served_here", served_here)
            return refused(words)

    kept = here / "kept"
    assert f"{model}: {folder} is not on " in elsewhere_with(lambda: folder.rename(kept))
    kept.rename(folder)
    other = elsewhere_with(lambda: (folder / "model.safetensors").write_bytes(b"others") and None)
    assert f"{model}: is another model on " in other
    (folder / "model.safetensors").unlink()
    assert "has no weights (*.safetensors): download them into it (with --ray this machine needs" in refused(
        words
    )
    nothing_is_left(here)


def test_a_start_that_fails_says_the_last_words_of_the_server(here: Path) -> None:
    model, *options = as_vllm(here, "fail")
    line = refused(["--provider", model, *options])
    assert "the server ended as it started (exit status 3" in line
    assert "RuntimeError: too little memory; its log is " in line
    assert line.endswith(f".log, on {platform.node()}")
    nothing_is_left(here)


def test_one_that_heeds_no_grammar_is_refused(here: Path) -> None:
    model, *options = as_vllm(here, "deaf")
    assert "does not hold an answer to a grammar" in refused(["--provider", model, *options])
    nothing_is_left(here)


def test_gpus_that_the_cluster_does_not_have(here: Path) -> None:
    model, *options = as_vllm(here)
    words = ["--provider", model, *options, "--gpus", "0,1"]
    assert f"{model}: needs 2 GPUs on one machine, and none of the cluster has more than 1: " in refused(
        words, gpus=(1, 4)
    )
    other = here / "other"
    shutil.copytree(here / "small", other)
    (other / "model.safetensors").write_bytes(b"others")
    line = refused([*words, "--provider", f"vllm:{other}"], gpus=(2, 3))
    assert ": needs 2 GPUs beside the 2 of the other models, and the cluster has 3: " in line
    nothing_is_left(here)


def test_as_many_gpus_are_asked_for_as_are_named(here: Path) -> None:
    model, *options = as_vllm(here)
    with on_threads(1) as nodes:
        nodes.gpus = (4, 4)
        done = at_once("--provider", model, *options, *RUN, "--gpus", "5,7", "--ray", "auto")
    assert done.returncode == 0, done.stdout + done.stderr
    assert " serves it, with 2 GPUs\n" in done.stdout
    assert nodes.given_gpus == [2]


@pytest.mark.parametrize(
    ("name", "options", "gpus"),
    [
        ("vllm", {}, 1),
        ("vllm", {"tensor-parallel-size": "4", "data-parallel-size": "2"}, 8),
        ("vllm", {"tensor-parallel-size": "many"}, 1),
        ("llama.cpp", {}, None),
        ("llama.cpp", {"gpu-layers": "0"}, 0),
    ],
)
def test_how_many_gpus_a_server_takes(
    name: str, options: dict[str, str], gpus: int | None, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, *_ = as_vllm(here)
    monkeypatch.setattr(engines, "_version", lambda engine, python: "1")
    served, _, said = elsewhere.described(model, Serving(options=options, elsewhere=True))
    served = served if name == "vllm" else type(served)(**{**vars(served), "engine": name})
    assert elsewhere.gpus_of(served, said) == gpus


def test_another_version_is_refused(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, *options = as_vllm(here)
    monkeypatch.setattr(
        "safemt_client.cluster.served.versions", lambda: versions.versions() | {"python": "2"}
    )
    line = refused(["--provider", model, *options])
    assert "--ray: the process that serves a model has python 2, and this process " in line


def test_where_the_folder_of_the_store_is_missing_the_log_stands_in_the_cache(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(here / "cache"))
    assert elsewhere.db_here(here / "a.duckdb") == here / "a.duckdb"
    found = elsewhere.db_here(here / "none" / "a.duckdb")
    assert found.parent == here / "cache" / "safemt"
    assert found.name.endswith("-a.duckdb")
    assert found != elsewhere.db_here(here / "other" / "a.duckdb")


class _Remote:
    """A server of another machine that keeps what it is asked."""

    actor = "safemt-server-1"

    def __init__(self, answered: Answered) -> None:
        self.answered, self.asked = answered, list[Asked]()

    async def ask(self, asked: Asked) -> Answered:
        self.asked.append(asked)
        return self.answered

    async def use(self, *, last: bool = True) -> None:
        return None


def test_values_of_the_environment_do_not_go_through_the_cluster(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HEADER", "QUERY", "BODY"):
        monkeypatch.setenv(name, f"planted-{name}")
    model, *options = as_vllm(here, "says=safe", f"sessions={here / 'sessions'}")
    (here / "settings.toml").write_text(
        f'[providers."{model}"]\nsession-header = "X-Session-ID"\nquery = {{sig = "$QUERY", way = "blue"}}\n'
        'headers = {X-JWT = "Bearer $HEADER", X-Shown = "$$HEADER"}\n'
    )
    words = ["--config", "settings.toml", "--provider", model, *options]
    words += ["--moderator", "none", "--moderator", f"llama-guard-3+block+output={model}"]
    with on_threads(1) as nodes:
        done = at_once(*words, *RUN, "--header", "api-key=${HEADER}", "--ray", "auto")
    assert done.returncode == 0, done.stdout + done.stderr
    said = b"".join(of_actors(nodes))
    assert b"planted" not in said
    assert b"?way=blue" in said
    assert b"$HEADER" in said
    assert b"None" not in (here / "sessions").read_bytes()
    line = refused([*words, "--extra-body", '{"user": "$BODY"}'])
    assert "small: extra-body: with --ray the value of $BODY would go through Ray: leave it out" in line


SECRETS = {"Authorization": "Bearer x", "Cookie": "x"}


@pytest.mark.anyio
async def test_what_was_not_meant_for_it_stays_here_and_the_body_comes_as_it_was_sent() -> None:
    body = gzip.compress(b"an answer")
    remote = _Remote(Answered(200, ((b"Content-Encoding", b"gzip"),), body))
    way = Rerouted(
        {}, httpx.MockTransport(lambda request: httpx.Response(500)), {"served-1.localhost": remote}
    )
    headers = CIMultiDict(SECRETS | {"X-Session-Token": "7", "Content-Type": "application/json"})
    url = URL("http://served-1.localhost/v1/chat/completions")
    response = await fetch(way, "POST", url, headers=headers, content=b"{}", most=100)
    assert (response.status, response.body) == (200, b"an answer")
    (asked,) = remote.asked
    assert (asked.method, asked.url, asked.content) == ("POST", str(url), b"{}")
    assert dict(asked.headers) == {
        "x-session-token": "7",
        "content-type": "application/json",
        "content-length": "2",
    }


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("answered", "error"),
    [(Answered(failed="gone"), ConnectionFailedError), (Answered(ended="gone"), EndedError)],
)
async def test_no_answer_is_told_as_what_it_is(answered: Answered, error: type[Exception]) -> None:
    way = Rerouted({}, httpx.AsyncHTTPTransport(), {"served-1.localhost": _Remote(answered)})
    with pytest.raises(error, match="gone") as found:
        await fetch(way, "GET", URL("http://served-1.localhost/v1/models"), headers=CIMultiDict(), most=100)
    assert isinstance(found.value, HopelessError) == (answered.ended is not None)


@pytest.mark.anyio
async def test_a_body_is_read_no_further_than_anybody_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forwarded, "_MOST", 100)

    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield b"x" * 30

    def broken(request: httpx.Request) -> httpx.Response:
        raise httpx.ReadError("it broke off")

    asked = Asked("GET", "http://served-1.localhost/v1/models", (), b"")
    found = await answer(httpx.MockTransport(lambda request: httpx.Response(200, content=endless())), asked)
    assert (found.status, len(found.body)) == (200, 120)
    assert (await answer(httpx.MockTransport(broken), asked)).failed == "it broke off"
