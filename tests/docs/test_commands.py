"""The commands in the documents are understood, and those of the tutorial run on the demo."""

import csv
import re
import shlex
from pathlib import Path

import pytest

from safemt_client.__main__ import main
from safemt_client.cli.parser import make_parser, with_command

ROOT = Path(__file__).resolve().parents[2]


def blocks(name: str) -> list[str]:
    """The indented blocks of a page, without their indentation."""
    text = (ROOT / name).read_text(encoding="utf-8")
    return [
        "\n".join(line[4:] for line in block.splitlines())
        for block in re.findall(r"(?<=\n\n)(?:(?: {4}.*)?\n)+", text)
        if block.strip()
    ]


def commands(name: str) -> list[str]:
    """The program's commands in the blocks of a page, without the program's name."""
    lines = "\n".join(blocks(name)).replace("\\\n", " ").splitlines()
    found = [re.fullmatch(r"(?:\$ )?(?:safemt|python -m safemt_client) (.*)", line) for line in lines]
    # An ellipsis or brackets say that it is the form of a command, not one.
    return [one[1] for one in found if one and "..." not in one[1] and "[" not in one[1]]


def without_a_model() -> list[list[str]]:
    """The tutorial's commands that need neither its local model nor a browser."""
    return [
        shlex.split(line)
        for line in commands("docs/tutorial.md")
        if not line.startswith("view") and "local.duckdb" not in line and "http://" not in line
    ]


SPOKEN = [
    (str(page.relative_to(ROOT)), line)
    for page in sorted([ROOT / "README.md", *(ROOT / "docs").glob("**/*.md")])
    for line in commands(str(page.relative_to(ROOT)))
]


@pytest.mark.parametrize(("page", "line"), SPOKEN)
def test_the_commands_of_the_pages_are_understood(page: str, line: str) -> None:
    words = with_command(shlex.split(line, comments=True))
    make_parser(words).parse_args(words)


def test_the_commands_of_the_tutorial_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("altair")  # the extra `report`, which the tutorial installs
    monkeypatch.chdir(tmp_path)
    commands = without_a_model()
    assert len(commands) > 5
    for words in commands:
        assert main(words) == 0, words


HOW_TO = sorted(page.name for page in (ROOT / "docs" / "howto").glob("*.md"))


def fill(path: Path) -> None:
    """Label every reply of an exported sample, as a person would in a spreadsheet."""
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows({**row, "label": "safe"} for row in rows)


@pytest.mark.parametrize("page", HOW_TO)
def test_the_commands_of_a_how_to_run(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for line in commands(f"docs/howto/{page}"):
        words = shlex.split(line)
        if "--import" in words:
            fill(Path(words[words.index("--import") + 1]))
        assert main(words) == 0, line


@pytest.mark.parametrize(("page", "of"), [("docs/controls.md", ""), ("docs/demo.md", "padded")])
def test_the_commands_about_controls_run(
    page: str, of: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    lines = [line for line in commands(page) if of in line]
    assert len(lines) >= 3
    for line in lines:
        assert main(shlex.split(line)) == 0, line
