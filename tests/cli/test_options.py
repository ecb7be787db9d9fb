"""The one list of options: flags, help, settings file and docs/options.md say the same."""

import argparse
import re
from importlib import import_module
from pathlib import Path
from typing import Literal, get_args, get_origin

import pytest

from safemt_client.__main__ import main
from safemt_client.cli.flags import FEW_NEED, flag_of
from safemt_client.cli.options import document, keywords
from safemt_client.cli.parser import COMMANDS, make_parser, with_command
from safemt_client.datasets import images
from safemt_client.judges.panel import PanelMode
from safemt_client.judges.rubric import Sees
from safemt_client.loading import load_settings
from safemt_client.moderator.moderator import OnGuardError, PolicyPlace
from safemt_client.planning.messages import History
from safemt_client.providers.errors import InputError
from safemt_client.settings import RunSettings, default_of, kind_of, options

ROOT = Path(__file__).resolve().parents[2]
# What these commands have besides the settings.
OWN = {
    "run": {"help", "config"},
    "judge": {"help", "run", "config", "adaptive", "anchor", "judge-samples", "dry-run", "json"},
    "moderate": {
        "help",
        "upstream",
        "moderator",
        "port",
        "host",
        "allow-remote",
        "guard-timeout",
        "log",
        "log-texts",
        "config",
    },
}


# Flags of other programs that the documents name.
FOREIGN = {
    *("--no-deps", "--require-hashes", "--no-prefill-assistant", "--user", "--signal", "--now"),
    *("--device", "--repeat", "--repeats", "--arch", "--model", "--list", "--write", "--seed"),
    *(
        "--head",
        "--node-ip-address",
        "--port",
        "--include-dashboard",
        "--nodes",
        "--exclude",
        "--address",
        "--block",
    ),
    *("--ip-address", "--ntasks-per-node", "--cpus-per-task"),
    *("--from", "--build-arg", "--rm", "--network", "--max-model-len", "--dialogues", "--targets"),
}


def flags_of(parser: argparse.ArgumentParser) -> set[str]:
    found = set()
    for action in parser._actions:
        found |= set(action.option_strings)
        if isinstance(action, argparse._SubParsersAction):
            found |= set().union(*map(flags_of, action.choices.values()))
    return found


def help_of(command: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit) as ended:
        main([*command.split(), "--help"])
    assert ended.value.code == 0
    return capsys.readouterr().out


def test_the_page_is_up_to_date() -> None:
    made = "python -m safemt_client.cli.options"
    assert (ROOT / "docs" / "options.md").read_text(encoding="utf-8") == document(), (
        f"{made} > docs/options.md"
    )


def test_the_keywords_of_the_api_are_up_to_date() -> None:
    made = "python -m safemt_client.cli.options --keywords"
    assert (ROOT / "safemt_client" / "keywords.py").read_text(encoding="utf-8") == keywords(), (
        f"{made} > safemt_client/keywords.py"
    )


def test_every_setting_is_an_option_and_all_but_the_tables_a_flag_of_run() -> None:
    assert options().keys() == RunSettings.model_fields.keys()
    assert options().keys() - options("run").keys() == {"accounts", "providers"}


@pytest.mark.parametrize("command", sorted(OWN))
def test_the_flags_of_a_command_are_its_settings(
    command: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    text = help_of(command, capsys, monkeypatch)
    flags = set(re.findall(r"^  (?:-h, )?--([a-z-]+)", text, re.M))
    assert flags == {flag_of(name)[2:] for name in options(command)} | OWN[command]


def test_help_shows_groups_defaults_and_choices(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    text = help_of("run", capsys, monkeypatch)
    words = " ".join(text.split())
    groups = ["What to ask", "Judge", "Moderator", "Limits and money", "Output", "Advanced"]
    assert re.findall(r"^([A-Z].*):$", text, re.M) == groups
    assert options("run").keys() >= FEW_NEED
    for name, option in options("run").items():
        assert ("\nAdvanced:" in re.split(rf"\n  {flag_of(name)}(?![\w-])", text)[0]) == (name in FEW_NEED), (
            name
        )
        assert option.help in words, name
        assert default_of(name) is None or f"(default: {default_of(name)})" in words, name
        if get_origin(kind_of(name)) is Literal:
            choices = get_args(kind_of(name))
            if option.metavar:
                assert [choice for choice in choices if choice not in option.help] == [], name
            else:
                assert f"{flag_of(name)} {{{','.join(choices)}}}" in words


@pytest.mark.parametrize("command", ["", *COMMANDS, "data check", "data maps"])
def test_help_fits_80_columns(
    command: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert [line for line in help_of(command, capsys, monkeypatch).splitlines() if len(line) > 80] == []


def test_every_command_is_listed_and_can_be_run(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    text = help_of("", capsys, monkeypatch)
    for command in COMMANDS.values():
        assert re.search(rf"^  {command.name} +{re.escape(command.help)}$", text, re.M)
        module, function = command.runs.split(":")
        assert callable(getattr(import_module(f"safemt_client.cli.{module}"), function))


def test_run_is_the_default_command() -> None:
    assert with_command(["--provider", "demo"]) == ["run", "--provider", "demo"]
    assert with_command(["report"]) == ["report"]
    assert with_command(["--help"]) == ["--help"]
    assert with_command([]) == []


def test_a_word_that_is_no_choice_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (
        ["--history", "past"],
        ["judge", "--panel", "past"],
        ["moderate", "--controversial", "past"],
    ):
        with pytest.raises(SystemExit) as ended:
            main(words)
        assert ended.value.code == 2
        assert "invalid choice: 'past'" in capsys.readouterr().err


def test_one_text_stands_for_a_list_in_the_file(tmp_path: Path) -> None:
    file = tmp_path / "night.toml"
    file.write_text(
        'provider = "a@http://127.0.0.1:9/v1"\nscenario = "Satire"\nturns = "1, 2"\nprice = "a=1/2"\n'
    )
    settings = load_settings({"provider": None}, file)
    assert settings.provider == ["a@http://127.0.0.1:9/v1"]
    assert (settings.scenario, settings.turns) == (["Satire"], [1, 2])
    assert settings.prices == {"a": {"input": 1e-6, "output": 2e-6}}
    file.write_text('provider = "demo"\nturns = "1, x"\n')
    with pytest.raises(InputError, match=r"night\.toml: --turns 'x': "):
        load_settings({}, file)


def test_what_a_store_keeps_of_a_run() -> None:
    settings = RunSettings(provider=["demo"], max_cost=3, rpm=5, panel="chain", log="none")
    assert settings.deciding.keys() == {name for name, option in options().items() if option.decides}
    assert settings.deciding["judge"] == ["demo-judge"]
    assert settings.deciding_labels == {
        "judge": ["demo-judge"],
        "panel": "chain",
        "rubric": "paper",
        "judge_sees": None,
        "judge_logprobs": False,
        "judge_temperature": 0.6,
    }
    for kept, same in (
        ({}, True),
        ({"accounts": {"demo": {"rpm": 1}}}, True),
        ({"panel": "majority"}, False),
    ):
        assert settings.decide_as({"provider": ["demo"], "panel": "chain", "of_later": 1} | kept) is same


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("history", History),
        ("panel", PanelMode),
        ("judge_sees", Sees),
        ("policy_place", PolicyPlace),
        ("on_guard_error", OnGuardError),
    ],
)
def test_a_setting_takes_the_words_that_the_program_knows(name: str, words: object) -> None:
    assert get_args(kind_of(name)) == get_args(words)


def test_defaults_in_words_are_those_that_hold() -> None:
    assert default_of("image_max_edge") == str(images.DEFAULT_MAX_EDGE)
    assert default_of("image_max_bytes") == str(images.DEFAULT_MAX_BYTES)
    assert RunSettings(provider=["gpt-4o"]).judge_names == [default_of("judge")]


def test_a_flag_that_is_not_given_leaves_the_file_alone(tmp_path: Path) -> None:
    arguments: argparse.Namespace = make_parser(["run"]).parse_args(["run"])
    assert {getattr(arguments, name) for name in options("run")} == {None}


@pytest.mark.parametrize(
    "page", ["README.md", *sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))]
)
def test_the_flags_that_a_document_names_exist(page: str) -> None:
    known = FOREIGN.union(*(flags_of(make_parser([command])) for command in COMMANDS))
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", (ROOT / page).read_text(encoding="utf-8")))
    assert named - known == set()


def test_the_help_of_data_lists_what_it_does(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        make_parser(["data"]).parse_args(["data", "--help"])
    lines = capsys.readouterr().out.splitlines()
    said = {words[0]: words[1:] for line in lines if line.startswith("    ") and (words := line.split())}
    assert all(said.get(action) for action in ("check", "maps", "convert", "build")), lines
