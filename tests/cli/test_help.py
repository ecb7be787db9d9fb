"""Help, errors of the command line, the words about the program, and what a shell completes."""

import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest
from support.program import at_once

from safemt_client.cli.completion import script
from safemt_client.cli.parser import COMMANDS, make_parser
from safemt_client.cli.settings_file import settings_file
from safemt_client.loading import load_settings
from safemt_client.settings import RunSettings, options


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("reprot", "safemt: reprot: no such command; did you mean report or export? See: safemt --help"),
        ("zzz", "safemt: zzz: no such command; see: safemt --help"),
        (
            "--provider demo --max-cst 3",
            "safemt: --max-cst: safemt run has no such option; did you mean --max-cost or --max-wait? "
            "See: safemt run --help",
        ),
        ("report x", "safemt: x: safemt report takes no such word; see: safemt report --help"),
        ("gate", "safemt: --rule: is missing; see: safemt gate --help"),
        ("--limit x --provider demo", "safemt: --limit: 'x' is not a whole number; see: safemt run --help"),
        ("--provider", "safemt: --provider: needs a value; see: safemt run --help"),
        (
            "data chek",
            "safemt: invalid choice: 'chek' (choose from check, maps, convert, build); did you mean check? "
            "See: safemt data --help",
        ),
        ("help gat", "safemt: help gat: no such command; did you mean gate?"),
        ("", "safemt: nothing to do: try --provider demo, or --help"),
    ],
)
def test_an_error_is_one_line_that_says_what_may_have_been_meant(line: str, said: str) -> None:
    done = at_once(*line.split())
    assert (done.returncode, done.stdout, done.stderr) == (2, "", f"{said}\n")


def test_an_unknown_option_does_not_show_what_follows_it() -> None:
    done = at_once("--provider", "demo", "--api-kye", "sk-planted-42", "--apikey=sk-planted-43")
    assert "--api-kye: safemt run has no such option" in done.stderr
    assert "planted" not in done.stderr


def test_an_unknown_setting_of_a_file_says_what_may_have_been_meant() -> None:
    Path("a.toml").write_text('provider = "demo"\nmax_cots = 3\n')
    assert (
        "--max-cots: there is no such setting; did you mean max-cost?" in at_once("--config", "a.toml").stderr
    )


def test_every_example_is_understood_and_every_list_is_there_once() -> None:
    for command in COMMANDS.values():
        for example in command.examples:
            words = [word.strip('"') for word in re.findall(r'"[^"]*"|[^ ]+', example.partition(" >")[0])]
            words = words if words[0] in COMMANDS else ["run", *words]
            make_parser(words).parse_args(words)
    assert at_once("data", "--help").stdout.count("check | maps") == 1
    assert at_once("help", "data", "check").stdout.startswith("usage: safemt data check [-h]")
    assert at_once("help").stdout == at_once("--help").stdout
    assert at_once("help", "gate").stdout == at_once("gate", "--help").stdout
    assert "examples:\n  safemt gate --rule" in at_once("help", "gate").stdout
    assert at_once("version").stdout == at_once("--version").stdout


def test_init_writes_a_file_that_works_and_explains_every_option() -> None:
    done = at_once("init")
    assert done.returncode == 0
    assert done.stdout.endswith("next:  safemt --config safemt.toml\n")
    text = Path("safemt.toml").read_text()
    assert "demo: 75 calls to make" in at_once("--config", "safemt.toml", "--dry-run").stdout
    for name in options("run"):
        assert f"\n# {name.replace('_', '-')} = " in text, name
    again = at_once("init")
    assert again.returncode == 2
    assert "safemt.toml: is there already" in again.stderr
    assert Path("safemt.toml").read_text() == text


def test_the_values_that_the_file_shows_are_the_defaults() -> None:
    text = settings_file("x.toml")
    for line in re.findall(
        r"^# ([a-z][a-z-]+ = .*)$", text.split("# --- Tables")[0].split("instead:")[1], re.M
    ):
        try:
            [(name, value)] = tomllib.loads(line).items()
        except tomllib.TOMLDecodeError:
            continue  # a placeholder
        if name in ("provider", "data"):
            continue
        made = load_settings({"provider": ["demo"], name.replace("-", "_"): value}, None)
        field = name.replace("-", "_")
        assert getattr(made, field) == getattr(RunSettings(provider=["demo"]), field), name


def test_a_plan_needs_no_key_and_says_whose_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    words = ("--provider", "gpt-4o", "--data", "sample")
    plan = at_once(*words, "--dry-run")
    assert plan.returncode == 0
    assert "at most 75 verdicts" in plan.stdout
    for whose in ("the judge gpt-4o-mini, default; change with --judge", "the target gpt-4o"):
        assert f"{whose}: no key yet: set the environment variable OPENAI_API_KEY" in plan.stdout
    run = at_once(*words)
    assert (run.returncode, run.stderr) == (
        2,
        "safemt: the judge gpt-4o-mini, default; change with --judge: no key: set the environment variable "
        "OPENAI_API_KEY\n",
    )
    assert "the judge gpt-4o: no key" in at_once(*words, "--judge", "gpt-4o").stderr
    assert not Path("safemt.duckdb").exists()


def completed(*words: str) -> list[str]:
    line = " ".join(f"'{word}'" for word in words)
    ask = f'COMP_WORDS=({line}); COMP_CWORD={len(words) - 1}; _safemt; echo "${{COMPREPLY[@]}}"'
    done = subprocess.run(
        ["bash", "-c", f"{script('bash')}\n{ask}"], capture_output=True, text=True, check=True
    )
    return done.stdout.split()


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not here")
def test_bash_completes_commands_options_and_their_values() -> None:
    assert completed("safemt", "") == list(COMMANDS)
    assert completed("safemt", "rep") == ["report"]
    assert completed("safemt", "--prov") == ["--provider"]
    assert completed("safemt", "--history", "") == ["scripted", "live", "none"]
    assert completed("safemt", "report", "--analysis", "tu") == ["turns"]
    assert completed("safemt", "data", "che") == ["check"]
    assert completed("safemt", "help", "ga") == ["gate"]
    assert completed("safemt", "run", "--db", "") == []


def test_other_shells_know_every_command_and_option() -> None:
    assert script("bash") in script("zsh")
    fish = script("fish")
    for command in COMMANDS:
        assert f" -a {command} " in fish
    assert "-l judge " in fish
    assert fish.count("'") % 2 == fish.count("\\'") % 2
