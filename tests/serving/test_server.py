"""Servers: started, known to be ours, and stopped; what a start that fails says."""

import socket
from pathlib import Path

import pytest
from support.serving import left, of_stand_in, record_of

from safemt_client.providers.errors import InputError
from safemt_client.serving import server as serving
from safemt_client.serving.keeper import Record, _Log
from safemt_client.serving.last_lines import last_line, last_words
from safemt_client.serving.metrics import Metrics
from safemt_client.serving.server import ServerSpec, serve

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def failure(spec: ServerSpec, folder: Path) -> str:
    """What a start says that fails, and leaves nothing but its log."""
    with pytest.raises(InputError) as caught:
        async with serve(spec, folder / "d.duckdb", print):
            pass
    assert [path.suffix for path in folder.iterdir()] == [".log"]
    return str(caught.value)


async def test_it_runs_until_the_end_of_the_block(tmp_path: Path) -> None:
    told: list[str] = []
    async with serve(of_stand_in("tell"), tmp_path / "d.duckdb", told.append) as server:
        await server.wait_ready()
        record = record_of(tmp_path)
        assert left(record) == {server.pid, record["keeper"]}
        assert server.key is not None
        for metrics in (Metrics(40, 10, 0), Metrics(0, 0, 0)):
            used = await server.use()
            assert used is not None
            assert (used.server, used.requests, used.metrics) == ("stand:in", 0, metrics)
        for pid in left(record):
            assert server.key.encode() not in Path(f"/proc/{pid}/cmdline").read_bytes()
        assert server.key not in "".join(path.read_text() for path in tmp_path.iterdir())
    assert left(record) == set()
    assert [path.name for path in tmp_path.iterdir()] == ["d.duckdb.stand-in.log"]
    said = server.log.read_text()
    assert said.count("[key]") == 2
    assert server.key[:12] not in said
    assert server.key[-12:] not in said
    assert server.log.stat().st_mode & 0o077 == 0
    assert [line.rstrip("0123456789 s") for line in told] == ["stand:in: starting", "stand:in: ready after"]


async def test_each_of_two_at_once_has_its_own_log_and_key(tmp_path: Path) -> None:
    db, name = tmp_path / "d.duckdb", f"stand:{'x/' * 40}in.gguf"
    async with (
        serve(of_stand_in(name=name), db, print) as first,
        serve(of_stand_in(name=name), db, print) as second,
    ):
        assert first.key != second.key
        assert first.base_url != second.base_url
    names = {"d.duckdb.stand-in.gguf.log", "d.duckdb.stand-in.gguf-2.log"}
    assert {path.name for path in tmp_path.iterdir()} == names


def test_a_key_in_pieces_of_an_endless_line_does_not_reach_the_log(capfd: pytest.CaptureFixture[str]) -> None:
    log = _Log(["a-secret-key"])
    log.write(b"x" * 70_000 + b"a-secret")
    log.write(b"-key" + b"y" * 70_000 + b"a-secret-ke")
    log.write(b"y\ra-secret-key\nthe end")
    log.close()
    assert capfd.readouterr().err.strip("x").replace("y" * 70_000, "") == "[key][key]\r[key]\nthe end\n"


async def test_an_exception_of_the_block_comes_through_as_it_is(tmp_path: Path) -> None:
    async def fails() -> None:
        async with serve(of_stand_in(), tmp_path / "d.duckdb", print):
            found.append(record_of(tmp_path))
            raise ZeroDivisionError

    found: list[Record] = []
    with pytest.raises(ZeroDivisionError):
        await fails()
    assert left(found[0]) == set()


async def test_a_start_that_fails_says_the_servers_last_lines_and_what_to_change(tmp_path: Path) -> None:
    advice = (("cold", "warm it"), ("little memory", "choose a smaller model"))
    said = await failure(of_stand_in("fail", advice=advice), tmp_path)
    assert said.startswith("stand:in: the server ended as it started (exit status 3, after ")
    assert "; choose a smaller model; it said: RuntimeError: too little memory; its log is " in said


def test_the_line_with_the_reason_is_said_first(tmp_path: Path) -> None:
    log, errors = tmp_path / "log", [f"error {number}" for number in range(5)]
    log.write_text("\n".join(["unknown kind: kite", "loading", *errors, "bye"]))
    said = "it said: {}; its log is " + str(log)
    assert last_words(log, [("cold", "warm it"), ("unknown kind", "update it")]) == (
        "update it; " + said.format("unknown kind: kite | error 3 | error 4")
    )
    assert last_words(log, [("cold", "warm it")]) == said.format("error 2 | error 3 | error 4")
    log.write_text(
        "Traceback\nraise ValueError(\n(EngineCore pid=7) ERROR 11-27 20:46:37 [x.py:1] ValueError: kite\n"
    )
    assert last_words(log, ()) == said.format("ValueError: kite")


def test_a_line_is_shown_without_what_stands_before_its_words(tmp_path: Path) -> None:
    log = tmp_path / "log"
    assert last_line(log) == ""
    log.write_text("one\n(APIServer pid=7) WARNING 11-27 20:46:37 [system_utils.py:255] Found ulimit\n")
    assert last_line(log) == "Found ulimit"
    log.write_text("x" * 100)
    assert len(last_line(log)) == 70


async def test_a_command_that_does_not_exist(tmp_path: Path) -> None:
    said = await failure(of_stand_in(command=("no-such-engine", "{port}")), tmp_path)
    assert said == "stand:in: no-such-engine cannot be run: No such file or directory"


async def test_a_start_that_takes_too_long(tmp_path: Path) -> None:
    said = await failure(of_stand_in("wait=never", start_s=0.1), tmp_path)
    assert said.startswith("stand:in: not ready after 0.1 s; ")


async def test_its_last_line_is_shown_as_it_starts(tmp_path: Path) -> None:
    progress: list[str] = []

    def show(text: str) -> None:
        progress.append(text)
        if "GREETING" in text:
            go.touch()

    go = tmp_path / "go"
    spec = of_stand_in(f"wait={go}", "env=GREETING", environment={"GREETING": "hello"})
    async with serve(spec, tmp_path / "d.duckdb", print, show):
        assert progress[-1].startswith("stand:in: starting, ")
        assert progress[-1].endswith(" s: GREETING = hello")


@pytest.mark.parametrize(
    ("words", "changed", "why"),
    [
        (["keyless"], {}, "it answers without its key: something else may have taken its port"),
        ([], {"model": "other"}, "it serves other models than other"),
        ([], {"environment": {"STAND_IN_KEY": ""}, "key_variable": "ANOTHER"}, "it refuses its key"),
    ],
)
async def test_what_is_not_ours_is_not_asked(
    words: list[str], changed: dict[str, object], why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serving, "_FOREIGN_S", 0.0)
    assert f"stand:in: {why}" in await failure(of_stand_in(*words, **changed), tmp_path)


async def test_a_server_without_keys_and_names(tmp_path: Path) -> None:
    spec = of_stand_in("keyless", key_variable=None, model=None)
    async with serve(spec, tmp_path / "d.duckdb", print) as server:
        assert server.key is None


async def test_a_port_that_is_taken_meanwhile_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = serving.free_port
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = other.getsockname()[1]
        ports = iter([taken, free()])
        monkeypatch.setattr(serving, "free_port", lambda: next(ports))
        async with serve(of_stand_in(), tmp_path / "d.duckdb", print) as server:
            assert str(taken) not in server.base_url
        monkeypatch.setattr(serving, "free_port", lambda: taken)
        assert await failure(of_stand_in(), tmp_path) == "stand:in: other programs take every free port"


@pytest.mark.parametrize(
    ("name", "value", "changed"),
    [
        ("VLLM_PORT", "None", {"unset": frozenset({"VLLM_*"})}),
        ("VLLM_PORT", "None", {"unset": frozenset({"VLLM_PORT"})}),
        ("VLLM_PORT", "1", {}),
        ("VLLM_PORT", "2", {"unset": frozenset({"VLLM_*"}), "environment": {"VLLM_PORT": "2"}}),
        ("OPENAI_API_KEY", "None", {}),
        ("HF_TOKEN", "[key]", {}),
        ("CUDA_VISIBLE_DEVICES", "0,3", {"gpus": ("0", "3")}),
        ("CUDA_VISIBLE_DEVICES", "", {"gpus": ()}),
        ("CUDA_VISIBLE_DEVICES", "5", {}),
    ],
)
async def test_its_environment(
    name: str, value: str, changed: dict[str, object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VLLM_PORT", "1")
    monkeypatch.setenv("OPENAI_API_KEY", "planted-vendor-key")
    monkeypatch.setenv("HF_TOKEN", "planted-hub-token")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5")
    async with serve(of_stand_in(f"env={name}", **changed), tmp_path / "d.duckdb", print) as server:
        pass
    assert f"{name} = {value}\n" in server.log.read_text()
