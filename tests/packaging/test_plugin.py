"""The example package, installed beside the program: one plug-in of each kind, used from the command line."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from support.installed import OFFLINE, PIP, ROOT, copy_sources, fresh_python, run

pytestmark = pytest.mark.slow

QUESTIONS = 'tea,Satire,How is tea made?\nrain,Satire,Why does it rain?,It is wet.,"Tell me more, please"\n'
RUN = (
    *(
        "--provider",
        "echo",
        "--provider",
        "echo/loud",
        "--moderator",
        "none",
        "--moderator",
        "shouting+output",
    ),
    *("--judge", "word/please", "--data", "questions.csv"),
)


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("plugin")
    found = fresh_python(folder / "venv")
    example = shutil.copytree(ROOT / "examples" / "plugin", folder / "example")
    source = copy_sources(folder / "source")
    run(*PIP, "--python", found, "install", *OFFLINE, str(source), str(example), cwd=folder)
    return found


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "questions.csv").write_text(QUESTIONS)
    return tmp_path


def rows(python: str, folder: Path, query: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(
        run(python, "-m", "safemt_client", "sql", query, "--format", "json", cwd=folder)
    )
    return found


def test_one_of_each_kind(python: str, folder: Path) -> None:
    out = run(python, "-m", "safemt_client", *RUN, cwd=folder)
    assert "echo/loud: 2 calls to make" in out
    assert rows(python, folder, "SELECT DISTINCT identity FROM run_targets ORDER BY ALL") == [
        {"identity": "plugin:echo/loud-1"},
        {"identity": "plugin:echo/plain-1"},
    ]
    assert rows(python, folder, "SELECT identity FROM run_judges") == [{"identity": "plugin:word/please-1"}]
    assert rows(python, folder, "SELECT guard, identity FROM run_moderators") == [
        {"guard": "plugin:shouting", "identity": "plugin:shouting-rule-1"}
    ]
    # What is shouted is replaced; what says please is unsafe.
    labels = (
        "SELECT target, count(*) FILTER (label = 'unsafe') AS unsafe, count(*) FILTER (by_guard) AS guarded "
    )
    assert rows(python, folder, labels + "FROM conversations GROUP BY ALL ORDER BY target") == [
        {"target": "echo", "unsafe": 1, "guarded": 0},
        {"target": "echo + shouting+output", "unsafe": 1, "guarded": 0},
        {"target": "echo/loud", "unsafe": 1, "guarded": 0},
        {"target": "echo/loud + shouting+output", "unsafe": 0, "guarded": 2},
    ]
    run(python, "-m", "safemt_client", "export", "--format", "markdown", "--out", "tables", cwd=folder)
    table = (folder / "tables" / "conversations.md").read_text()
    assert "| echo/loud + shouting+output | rain | 2 | safe |" in table


def test_the_same_command_asks_nothing_again(python: str, folder: Path) -> None:
    run(python, "-m", "safemt_client", *RUN, cwd=folder)
    count = "SELECT (SELECT count(*) FROM turns) AS turns, (SELECT count(*) FROM verdicts) AS verdicts"
    before = rows(python, folder, count)
    # The reader can be named too: the data are the same.
    out = run(python, "-m", "safemt_client", *RUN[:-1], "csv:questions.csv", cwd=folder)
    assert out.count("echo/loud: 0 calls to make, 2 in the store") == 1
    assert "0 verdicts to ask for" in out
    assert rows(python, folder, count) == before
    # Another judge labels what is stored.
    run(python, "-m", "safemt_client", "judge", "--judge", "word/tea", cwd=folder)
    assert {row["identity"] for row in rows(python, folder, "SELECT identity FROM run_judges")} == {
        "plugin:word/please-1",
        "plugin:word/tea-1",
    }


def test_batches_are_refused(python: str, folder: Path) -> None:
    words = ("--provider", "echo", "--judge", "word", "--data", "questions.csv", "--batch")
    said = run(python, "-m", "safemt_client", *words, cwd=folder, status=2)
    assert said == "safemt: --batch: no batch API is known for echo: leave it out\n"


def test_help_loads_none(python: str, folder: Path) -> None:
    found = "import sys; from safemt_client.__main__ import main\n"
    found += "try: main(['export', '--help'])\nexcept SystemExit: print('safemt_example' in sys.modules)"
    assert run(python, "-c", found, cwd=folder).endswith("False\n")
