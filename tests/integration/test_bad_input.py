"""Bad input of every kind: one line, status 2, and the folder as it was before; above all no empty store."""

import os
import shlex
import socket
import subprocess
import sys
from pathlib import Path

import duckdb
import pytest
from support.serving import as_vllm

import safemt_client
from safemt_client.__main__ import main
from safemt_client.providers.errors import InputError
from safemt_client.results.store.store import Store

pytestmark = pytest.mark.usefixtures("here")

FILES = {
    "bad.toml": "provider = [",
    "unknown.toml": 'provider = "demo"\nturn = 1\n',
    "header.toml": 'provider = "demo"\n[providers.demo]\nheaders = { "X-Api-Key" = "abc" }\n',
    "bad.jsonl": "{not json\n",
    "label.csv": "request_hash,dialogue_key,label\nx,y,safe\n",
    "open.key": "sk-planted-42",
}
OWN = "--provider m@http://127.0.0.1:9/v1 --data sample --judge none"
BAD = [
    "--moderator foo",
    "--moderator demo-guard+nothing",
    "--moderator llm=m@http://u:planted@127.0.0.1:9/v1",
    "--moderator llama-guard-4=local-model:/nowhere",
    "--moderator demo-guard --policies none.toml",
    "--moderator demo-guard --guard-template none.toml",
    "--provider nobody/x",
    "--provider m@http://u:planted@127.0.0.1:9/v1",
    "--provider m@http://127.0.0.1:9/v1?key=planted --data sample --judge none",
    "--provider demo --provider demo",
    "--provider gpt-4o --data sample --judge none",
    "--data nowhere",
    "--data nowhere.jsonl",
    "--data bad.jsonl",
    "--judge nobody/x",
    "--judge none --judge demo-judge",
    "--judge demo-judge --judge demo-judge",
    "--judge gpt-4o",
    "--rubric nobody",
    "--rubric none.toml",
    "--scenario nothing",
    "--turns 3",
    "--limit 0",
    "--temperature 9",
    "--batch --history live",
    "--max-cost 1 " + OWN,
    "--price x=1",
    "--price other=1/1",
    "--extra-body {",
    """--extra-body '{"a": "$NOT_SET_ANYWHERE"}'""",
    "--header X",
    "--header X-Api-Key=planted",
    "--header X-Route=$NOT_SET_ANYWHERE",
    "--system-prompt none.txt",
    "--on-finish '\"'",
    "--config none.toml",
    "--config bad.toml",
    "--config unknown.toml",
    "--config header.toml",
    "--log nowhere/run.log",
    "--db nowhere/d.duckdb",
    "--db .",
]


@pytest.fixture(autouse=True)
def files(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if "API_KEY" in name]:
        monkeypatch.delenv(name)
    for name, content in FILES.items():
        Path(name).write_text(content)
    Path("open.key").chmod(0o644)


def contents() -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in Path().rglob("*") if path.is_file()}


def refused(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """What is said of a command that is bad input: one line; nothing in the folder has changed."""
    before = contents()
    capsys.readouterr()
    try:
        status = main(words)
        lines = capsys.readouterr().err.splitlines()
        assert len(lines) == 1, lines
    except SystemExit as error:  # argparse's own, below the usage
        status = int(error.code or 0)
        lines = capsys.readouterr().err.splitlines()
    assert status == 2
    assert "planted" not in " ".join(lines)
    assert contents() == before
    return lines[-1]


@pytest.mark.parametrize("dry", [[], ["--dry-run"]], ids=["", "dry"])
@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("llama.cpp:bad.jsonl", "is not a GGUF file: name one that ends in .gguf"),
        ("vllm:small", "has no weights (*.safetensors): download them into it"),
    ],
)
def test_what_cannot_be_served_starts_nothing(
    name: str, why: str, dry: list[str], here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, *options = as_vllm(here, "fail")
    data = ("--data", "sample", "--judge", "none")
    (here / "small" / "model.safetensors").unlink()
    for words in (["--provider", name], ["--provider", "demo", "--moderator", f"llama-guard-3={name}"]):
        assert refused(capsys, *words, *data, *options, *dry) == f"safemt: {name}: {why}"


@pytest.mark.parametrize("dry", [[], ["--dry-run"]], ids=["", "dry"])
@pytest.mark.parametrize("bad", BAD)
def test_nothing_is_made_before_all_is_checked(
    bad: str, dry: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    if dry and "--log" in bad:
        pytest.skip("a dry run writes no log")
    if dry and "gpt-4o" in bad:
        pytest.skip("a dry run needs no key")
    refused(capsys, "--provider", "demo", "--limit", "1", *shlex.split(bad), *dry)


def test_wrong_keys_make_nothing(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name, said in (("open.key", "chmod 600"), ("no.key", "name a file"), ("d" * 300, "name a file")):
        monkeypatch.setenv("OPENAI_API_KEY_FILE", name)
        for words in ("--provider gpt-4o --data sample --judge none", "--provider demo --judge gpt-4o"):
            assert said in refused(capsys, *words.split())
    monkeypatch.delenv("OPENAI_API_KEY_FILE")
    monkeypatch.setenv("OPENAI_API_KEY", "planted key of two words")
    assert "OPENAI_API_KEY" in refused(capsys, "--provider", "gpt-4o", "--data", "sample", "--judge", "none")


def test_a_good_dry_run_makes_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    before = contents()
    assert main(["--provider", "demo", "--limit", "1", "--dry-run"]) == 0
    assert safemt_client.plan(provider="demo", limit=1)
    assert contents() == before


def test_traces_that_are_not_installed_make_nothing(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.resources", None)
    assert "safemt-client[otel]" in refused(capsys, "--provider", "demo", "--limit", "1", "--quiet", "--otel")


def test_the_python_api_makes_nothing() -> None:
    before = contents()
    for options in ({"moderator": "foo"}, {"data": "nowhere"}, {"judge": "nobody/x"}, {"turns": [3]}):
        with pytest.raises(InputError):
            safemt_client.run(provider="demo", limit=1, **options)
    for call in (safemt_client.rejudge, safemt_client.open):
        with pytest.raises(InputError, match="no such store"):
            call("no.duckdb")
    assert contents() == before


def test_the_moderator_makes_no_log(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["moderate", "--upstream", "demo", "--log", "decisions.jsonl", "--moderator"]
    refused(capsys, *words, "foo")
    refused(capsys, *words, "llm=m@http://u:planted@127.0.0.1:9/v1")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        refused(capsys, *words, "demo-guard", "--port", str(taken.getsockname()[1]))


ON_STORES = [
    "report",
    "report --html x.html",
    "report --json",
    "compare",
    "leaderboard",
    "runs",
    "view --no-browser",
    "export --format csv --out out",
    "sql 'SELECT 1'",
    "label",
    "label --export x.csv",
    "label --import label.csv",
    "judge --judge demo-judge",
    "judge --judge nobody/x",
    "doctor",
    "doctor --salvage new.duckdb",
]


@pytest.mark.parametrize("command", ON_STORES)
def test_a_store_that_is_missing_is_named_and_not_made(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    said = refused(capsys, *shlex.split(command), "--db", "no.duckdb")
    assert "no.duckdb: no such store: name one with --db" in said


@pytest.fixture(scope="module")
def others(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files of other programs; the one called `log` has a log beside it."""
    folder = tmp_path_factory.mktemp("others")
    (folder / "text").write_text("hello")
    (folder / "sqlite").write_bytes(b"SQLite format 3\0" + b"\0" * 9000)
    for name, made in {"view": "VIEW v AS SELECT 1", "table": "TABLE turns AS SELECT 1"}.items():
        with duckdb.connect(str(folder / name)) as other:
            other.execute(f"CREATE {made}")
    made = (
        "c.execute('CREATE TABLE t AS SELECT 1'); c.execute('CHECKPOINT'); c.execute('INSERT INTO t FROM t')"
    )
    program = f"import duckdb, os; c = duckdb.connect('log'); {made}; os._exit(0)"
    subprocess.run([sys.executable, "-c", program], cwd=folder, check=True)
    assert (folder / "log.wal").stat().st_size
    return folder


@pytest.mark.parametrize("name", ["text", "sqlite", "view", "table", "log"])
def test_files_of_other_programs_stay_as_they_are(
    name: str, others: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for file in others.glob(f"{name}*"):
        Path(file.name).write_bytes(file.read_bytes())
    for command in ("--provider demo --limit 1", *ON_STORES):
        said = refused(capsys, *shlex.split(command), "--db", name)
        assert name in said
        assert "name another one with --db" in said or "restore a copy" in said


def test_an_unreadable_log_of_another_program_stays_in_its_place(
    others: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("log").write_bytes((others / "log").read_bytes())
    Path("log.wal").write_bytes(b"\xff" * 9000)
    for command in ("--provider demo --limit 1", "judge --judge demo-judge"):
        assert "from another program" in refused(capsys, *command.split(), "--db", "log")


def test_an_empty_duckdb_file_is_filled_by_a_run_alone(capsys: pytest.CaptureFixture[str]) -> None:
    """A run that was killed as it made its store leaves one."""
    duckdb.connect("e.duckdb").close()
    for command in ON_STORES:
        assert "not a store of safemt_client" in refused(capsys, *shlex.split(command), "--db", "e.duckdb")
    assert main(["--provider", "demo", "--limit", "1", "--quiet", "--db", "e.duckdb"]) == 0


def test_a_store_that_another_made_meanwhile_is_not_filled_from_an_outdated_plan(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--provider", "demo", "--limit", "1", "--quiet", "--log", "none"]
    other = Path("other.duckdb")
    assert main([*words, "--db", str(other)]) == 0
    find = safemt_client.api.resolve_run

    async def overtaken(*given: object) -> object:
        Path("d.duckdb").write_bytes(other.read_bytes())
        return await find(*given)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(safemt_client.api, "resolve_run", overtaken)
        assert main([*words, "--db", "d.duckdb"]) == 2
    assert "run the same command again" in capsys.readouterr().err
    assert Path("d.duckdb").read_bytes() == other.read_bytes()
    assert main([*words, "--db", "d.duckdb"]) == 0
    with Store.open(Path("d.duckdb"), "store") as store:
        # Nothing was asked twice.
        assert store.query("SELECT count(*) - count(DISTINCT request_hash) FROM turns").rows == [(0,)]
