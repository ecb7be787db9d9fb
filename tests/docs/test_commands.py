"""What the documents show of the program: the README's session, and the tutorial's commands on the demo."""

import re
import shlex
from pathlib import Path

import pytest

from safemt_client.__main__ import main

ROOT = Path(__file__).resolve().parents[2]


def blocks(name: str) -> list[str]:
    """The indented blocks of a page, without their indentation."""
    text = (ROOT / name).read_text(encoding="utf-8")
    return [
        "\n".join(line[4:] for line in block.splitlines())
        for block in re.findall(r"(?<=\n\n)(?:(?: {4}.*)?\n)+", text)
        if block.strip()
    ]


def without_a_model() -> list[list[str]]:
    """The tutorial's commands that need neither its local model nor a browser."""
    lines = "\n".join(blocks("docs/tutorial.md")).replace("\\\n", " ").splitlines()
    commands = [shlex.split(line)[1:] for line in lines if line.startswith("safemt ")]
    return [
        words
        for words in commands
        if words[0] != "view" and "local.duckdb" not in words and "http://" not in " ".join(words)
    ]


def test_the_session_in_the_readme_is_what_the_program_prints(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (session,) = (block for block in blocks("README.md") if block.startswith("$ "))
    command, *lines = session.rstrip().splitlines()
    monkeypatch.chdir(tmp_path)
    assert main(shlex.split(command.removeprefix("$ python -m safemt_client "))) == 0
    captured = capsys.readouterr()
    printed = [line.rstrip() for line in (captured.err + captured.out).splitlines()]
    assert [line for line in lines if line != "..." and line.rstrip() not in printed] == []


def test_the_commands_of_the_tutorial_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("altair")  # the extra `report`, which the tutorial installs
    monkeypatch.chdir(tmp_path)
    commands = without_a_model()
    assert len(commands) > 5
    for words in commands:
        assert main(words) == 0, words
