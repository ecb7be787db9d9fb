"""The queries in the documents run, on the demo's store."""

import re
from pathlib import Path

import pytest

from safemt_client.__main__ import main
from safemt_client.results.store.reader import open_reader

ROOT = Path(__file__).resolve().parents[2]


def queries(name: str) -> list[str]:
    text = (ROOT / name).read_text()
    found = re.findall(r"^    ((?:SELECT|FROM|WITH)\b.*?;)", text, re.MULTILINE | re.DOTALL)
    return [" ".join(query.split()) for query in found]


@pytest.mark.parametrize("query", [*queries("README.md"), *queries("docs/sql.md")])
def test_queries_of_the_documents(query: str, demo_run: Path) -> None:
    with open_reader(demo_run) as reader:
        assert reader.query(query).columns


def test_there_are_ten_in_the_readme() -> None:
    assert len(queries("README.md")) == 10


def test_the_session_of_the_readme_is_what_is_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--provider", "demo"]
    text = (ROOT / "README.md").read_text()
    session = text.split(f"    $ python -m safemt_client {' '.join(words)}\n")[1].split("\n## ")[0]
    shown = [line.removeprefix("    ").rstrip() for line in session.strip("\n").splitlines()]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["safemt", *words])
    assert main(words) == 0
    printed = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    gap = shown.index("...")
    assert shown[:gap] == printed[:gap]
    assert shown[gap + 1 :] == printed[gap + 1 - len(shown) :]


def test_every_table_and_view_is_described(demo_run: Path) -> None:
    text = (ROOT / "docs" / "sql.md").read_text()
    with open_reader(demo_run) as reader:
        names = reader.query(
            "SELECT table_name FROM duckdb_tables() WHERE database_name = 'store' "
            "UNION ALL SELECT view_name FROM duckdb_views() WHERE database_name = 'store' AND NOT internal"
        ).rows
    assert names
    assert [name for (name,) in names if f"`{name}`" not in text] == []
