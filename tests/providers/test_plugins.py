"""Plug-ins that are broken, or in the way of a built-in: one line names the package, and nobody else suffers."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import anyio
import pytest
from support.program import sql

from safemt_client.__main__ import main
from safemt_client.providers.errors import InputError
from safemt_client.providers.limits.limiter import AccountLimiter
from safemt_client.providers.plugins import adopt, find, plugins, say_hidden
from safemt_client.providers.provider import Observer
from safemt_client.providers.types import Message, Outcome, Reply, Request

MODULE = """
import anyio
from safemt_client.datasets.reader import Reader
from safemt_client.judges.types import Verdict
from safemt_client.moderator.guards.llm import CARD
from safemt_client.moderator.types import Assessment, GuardType
from safemt_client.providers.types import Outcome, Reply

class Fine:
    identity = "fine-1"
    def __init__(self, model): pass
    async def ask(self, request): return Reply(Outcome.ANSWERED, "It is " + request.messages[-1].text)
    async def judge(self, subject): return Verdict("safe", refusal="answer")

class Nameless(Fine):
    identity = " "

class Mute(Fine):
    ask = judge = None

class Failing(Fine):
    async def ask(self, request): raise ValueError("no such luck")
    async def judge(self, subject): raise ValueError("no such luck")

class Odd(Fine):
    async def ask(self, request): return "a text"
    async def judge(self, subject): return "safe"

def factory(model): raise RuntimeError("no key\\nmore")

class Guard:
    card = CARD
    key = "g"
    def request(self, messages, stage): raise KeyError("lost")
    def parse(self, reply, stage): return None

def keyless():
    guard = Guard()
    guard.key = ""
    return guard

async def load(): return Fine("")

GUARD = GuardType(CARD, Guard, runs_on="this process", load=load)
KEYLESS = GuardType(CARD, keyless, runs_on="this process", load=load)
UNLOADED = GuardType(CARD, Guard, runs_on="this process")

def unreadable(source): raise LookupError("not a table")

READER = Reader("r", "a .odd file", unreadable, lambda path: path.suffix == ".odd")
NOTHING = Reader("n", "a .none file", lambda source: None, lambda path: path.suffix == ".none")
def export(dump, folder): return "done"
"""

Declare = Callable[..., Path]


@pytest.fixture
def declare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Declare:
    """Installs a package with one entry point: its module is `MODULE`, its name that of the package."""
    monkeypatch.chdir(tmp_path)

    def package(group: str, name: str, value: str, distribution: str = "toys") -> Path:
        folder = tmp_path / f"site-{distribution}"
        info = folder / f"{distribution}-2.0.dist-info"
        info.mkdir(parents=True, exist_ok=True)
        (folder / f"module_{distribution}.py").write_text(MODULE)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 2.0\n")
        with (info / "entry_points.txt").open("a") as file:
            file.write(f"[safemt_client.{group}]\n{name} = {value}\n")
        if str(folder) not in sys.path:
            monkeypatch.syspath_prepend(folder)
        return folder

    yield package
    for name in [name for name in sys.modules if name.startswith("module_")]:
        del sys.modules[name]


def refused(capsys: pytest.CaptureFixture[str], words: str) -> str:
    capsys.readouterr()
    assert main(words.split()) == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


RUN = "--data sample --limit 1 --turns 1 --log none --quiet"


@pytest.mark.parametrize(
    ("group", "value", "words", "says"),
    [
        ("providers", "module_none:X", "--provider toy --judge none", "ModuleNotFoundError: No module named"),
        ("providers", "module_toys:Absent", "--provider toy --judge none", "AttributeError"),
        ("providers", "not a path", "--provider toy --judge none", "plug-in toys 2.0"),
        ("providers", "module_toys:GUARD", "--provider toy --judge none", "is not a factory but a GuardType"),
        ("providers", "module_toys:factory", "--provider toy/x --judge none", "RuntimeError: no key"),
        ("providers", "module_toys:Nameless", "--provider toy --judge none", "has no identity"),
        ("providers", "module_toys:Mute", "--provider toy --judge none", "async def ask(request) -> Reply"),
        ("judges", "module_toys:factory", "--provider demo --judge toy", "RuntimeError: no key"),
        ("judges", "module_toys:Nameless", "--provider demo --judge toy", "has no identity"),
        ("judges", "module_toys:Mute", "--provider demo --judge toy", "async def judge(subject) -> Verdict"),
        (
            "guards",
            "module_toys:Guard",
            "--provider demo --moderator toy",
            "is not a safemt_client.moderator",
        ),
        ("guards", "module_toys:KEYLESS", "--provider demo --moderator toy", "the guard needs a key"),
        ("guards", "module_toys:UNLOADED", "--provider demo --moderator toy", "needs `load`"),
    ],
)
def test_a_broken_one_is_named_in_one_line(
    group: str, value: str, words: str, says: str, declare: Declare, capsys: pytest.CaptureFixture[str]
) -> None:
    declare(group, "toy", value)
    line = refused(capsys, f"{words} {RUN}")
    assert f"plug-in toys 2.0 (entry point toy = {value} in safemt_client.{group})" in line
    assert says in line


@pytest.mark.parametrize(
    ("value", "name", "says"),
    [
        ("module_toys:READER", "a.odd", "LookupError: not a table"),
        ("module_toys:READER", "toy:a", "LookupError: not a table"),
        ("module_toys:NOTHING", "a.none", "returned NoneType instead of a Dataset"),
        ("module_toys:Absent", "a.odd", "no reader recognises this format"),
        ("module_toys:Absent", "toy:a.odd", "AttributeError"),
        ("module_toys:Fine", "a.odd", "is not a safemt_client.datasets.reader.Reader"),
    ],
)
def test_a_broken_reader_is_named_where_no_other_reads_the_file(
    value: str, name: str, says: str, declare: Declare, capsys: pytest.CaptureFixture[str]
) -> None:
    declare("datasets", "toy", value)
    Path(name).write_text("x")
    line = refused(capsys, f"data check {name}")
    assert "plug-in toys 2.0" in line
    assert says in line


def test_one_that_is_not_used_harms_nothing(declare: Declare, capsys: pytest.CaptureFixture[str]) -> None:
    folder = declare("providers", "toy", "module_none:X")
    for group in ("guards", "judges", "datasets", "exports"):
        declare(group, f"toy-{group}", "module_none:X")
    # A package whose metadata cannot be read at all.
    odd = folder / "odd-1.dist-info"
    odd.mkdir()
    (odd / "entry_points.txt").write_text("[safemt_client.providers\nno equals sign")
    assert main(["--provider", "demo", *RUN.split()]) == 0
    assert main(["export", "--format", "csv", "--out", "tables"]) == 0
    assert "plug-in" not in capsys.readouterr().err


def test_a_package_without_metadata_is_read_by_the_backport_too(declare: Declare) -> None:
    # litellm imports it, and it reads packages in the standard library's place from then on.
    pytest.importorskip("importlib_metadata")
    odd = declare("providers", "toy", "module_toys:Fine") / "odd-1.dist-info"
    odd.mkdir()
    (odd / "entry_points.txt").write_text("[safemt_client.providers]\nodd = module_toys:Fine")
    assert {plugin.name for plugin in plugins("providers")} >= {"toy", "odd"}


def test_a_built_in_wins_and_the_plug_in_is_named(
    declare: Declare, capsys: pytest.CaptureFixture[str]
) -> None:
    say_hidden.cache_clear()
    for group, name in (("providers", "demo"), ("guards", "llm"), ("datasets", "jsonl"), ("exports", "csv")):
        declare(group, name, "module_toys:Fine")
    assert main(["--provider", "demo", "--moderator", "llm+observe=demo", *RUN.split()]) == 0
    assert main(["export", "--format", "csv", "--out", "tables"]) == 0
    errors = capsys.readouterr().err
    for name in ("demo", "llm", "csv"):
        assert errors.count(f"is not used: {name} is built in") == 1, errors
    assert sql("SELECT identity FROM run_targets", capsys)[0]["identity"] == "demo/demo"


def test_two_packages_with_one_name_are_both_named(
    declare: Declare, capsys: pytest.CaptureFixture[str]
) -> None:
    declare("providers", "toy", "module_toys:Fine")
    declare("providers", "toy", "module_more:Fine", distribution="more")
    line = refused(capsys, f"--provider toy --judge none {RUN}")
    assert "toys 2.0" in line
    assert "more 2.0" in line


def test_batches_and_unknown_prices_are_refused(declare: Declare, capsys: pytest.CaptureFixture[str]) -> None:
    declare("providers", "toy", "module_toys:Fine")
    assert "--batch: no batch API is known for toy" in refused(
        capsys, f"--provider toy --judge none --batch {RUN}"
    )
    assert "the price of toy is not known" in refused(
        capsys, f"--provider toy --judge none --max-cost 1 {RUN}"
    )


@pytest.mark.parametrize(("name", "says"), [("Failing", "ValueError: no such luck"), ("Odd", "instead of a")])
def test_failures_while_it_runs_are_outcomes(
    name: str, says: str, declare: Declare, capsys: pytest.CaptureFixture[str]
) -> None:
    declare("providers", "toy", f"module_toys:{name}")
    declare("judges", "toy", f"module_toys:{name}")
    main(["--provider", "toy", "--judge", "none", "--db", "a.duckdb", *RUN.split()])
    assert main(["--provider", "demo", "--judge", "toy", "--db", "b.duckdb", *RUN.split()]) == 1
    capsys.readouterr()
    assert main(["sql", "SELECT outcome, error FROM turns", "--db", "a.duckdb", "--format", "json"]) == 0
    (turn,) = json.loads(capsys.readouterr().out)
    assert turn["outcome"] == "error_permanent"
    assert says in turn["error"]
    assert (
        main(["sql", "SELECT reason, explanation FROM verdicts", "--db", "b.duckdb", "--format", "json"]) == 0
    )
    (verdict,) = json.loads(capsys.readouterr().out)
    assert verdict["reason"] == "judge_error"
    assert says in verdict["explanation"]


def test_a_guard_that_fails_is_never_one_that_says_safe(
    declare: Declare, capsys: pytest.CaptureFixture[str]
) -> None:
    declare("guards", "toy", "module_toys:GUARD")
    assert main(["--provider", "demo", "--moderator", "toy+block", *RUN.split()]) == 1
    (row,) = sql("SELECT guard, verdict, error FROM assessments JOIN run_moderators ON true LIMIT 1", capsys)
    assert row["guard"] == "plugin:toy"
    assert row["verdict"] == "error"
    assert "the guard failed: KeyError" in row["error"]


def test_an_export_says_what_it_has_written(declare: Declare, capsys: pytest.CaptureFixture[str]) -> None:
    declare("exports", "toy", "module_toys:export")
    assert main(["--provider", "demo", *RUN.split()]) == 0
    assert "did not return a list of the paths" in refused(capsys, "export --format toy --out out")
    assert "choose one of csv, " in refused(capsys, "export --format nothing --out out")


def test_nothing_is_loaded_before_it_is_used(declare: Declare) -> None:
    declare("providers", "toy", "module_toys:Fine")
    assert find("providers", "toy") in plugins("providers")
    assert "module_toys" not in sys.modules
    assert find("providers", "none") is None


class Whole:
    """A client with permits and retries of its own."""

    identity = "whole"

    def __init__(self) -> None:
        self.limiter = AccountLimiter(concurrency=1)
        self.told: Observer | None = None

    async def ask(self, request: Request, on_retry: Observer | None = None) -> Reply:
        self.told = on_retry
        return Reply(Outcome.ANSWERED, "yes")


def test_a_whole_client_keeps_its_limiter_and_tells_of_retries() -> None:
    client = Whole()
    provider = adopt(client)
    assert (provider.identity, provider.limiter) == ("plugin:whole", client.limiter)

    def observe(reply: Reply, wait_s: float) -> None:
        pass

    assert anyio.run(provider.ask, Request((Message("user", "x"),)), observe).text == "yes"
    assert client.told is observe
    with pytest.raises(InputError, match="no identity"):
        adopt(object())
