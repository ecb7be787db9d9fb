"""SQL as a promise: the views are those that are pinned, and the page is what the schema says."""

import json
from pathlib import Path

import pytest

from safemt_client.results.sql.docs import document, questions, views
from safemt_client.results.sql.statements import Splitter
from safemt_client.results.store.reader import open_reader
from safemt_client.results.store.store import Store

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
MODULE = "python -m safemt_client.results.sql.docs"


def test_the_views_are_those_that_are_promised() -> None:
    promised = json.loads((HERE / "views.json").read_text())
    now = views()
    gone = [
        f"{view}.{column} {kind}"
        for view, columns in promised.items()
        for column, kind in columns.items()
        if now.get(view, {}).get(column) != kind
    ]
    assert gone == [], "gone or changed: this breaks users' queries (docs/sql.md, What stays stable)"
    assert now == promised, (
        f"something new is promised from now on: {MODULE} --views > tests/results/sql/views.json"
    )


def test_the_page_is_made_from_the_schema() -> None:
    assert (ROOT / "docs" / "sql.md").read_text() == document(), f"{MODULE} > docs/sql.md"


def test_twenty_questions_are_asked() -> None:
    asked = questions()
    assert len(asked) == len({question for question, _ in asked}) == 20
    assert all(question.endswith("?") and query.endswith(";") for question, query in asked)


def test_every_column_of_every_view_says_what_it_is(tmp_path: Path) -> None:
    # In a file, and as a reader sees it: comments outlive the program that made them.
    Store.open(tmp_path / "d.duckdb").close()
    with open_reader(tmp_path / "d.duckdb") as reader:
        found = reader.query(
            "SELECT table_name, column_name, comment FROM duckdb_columns() WHERE database_name = 'store' "
            "AND table_name IN (SELECT view_name FROM duckdb_views() WHERE NOT internal)"
        ).rows
    assert len(found) > 200
    assert [f"{view}.{column}" for view, column, comment in found if not comment] == []


@pytest.mark.parametrize(
    ("pieces", "statements", "rest"),
    [
        (["SELECT 1;"], ["SELECT 1"], ""),
        (["SELECT 1; SELECT 2;\n"], ["SELECT 1", "SELECT 2"], ""),
        (["SELECT\n", "1\n", ";\n"], ["SELECT\n1"], ""),
        (["SELECT 1"], [], "SELECT 1"),
        (["SELECT ';'", ";"], ["SELECT ';'"], ""),
        (["SELECT 'it''s;';"], ["SELECT 'it''s;'"], ""),
        (["SELECT 'a\n", "; b';"], ["SELECT 'a\n; b'"], ""),
        (["SELECT E'\\';';"], ["SELECT E'\\';'"], ""),
        (['SELECT 1 AS "a;""b";'], ['SELECT 1 AS "a;""b"'], ""),
        (["SELECT $$;$$, $x$;$$;$x$;"], ["SELECT $$;$$, $x$;$$;$x$"], ""),
        (["SELECT 1 -- no; end\n", ";"], ["SELECT 1 -- no; end"], ""),
        (["SELECT 1 /* ; /* ; */ ; */;"], ["SELECT 1 /* ; /* ; */ ; */"], ""),
        (["SELECT $1;"], ["SELECT $1"], ""),
        (["-- nothing\n", " ;;\n", "/* nothing */\n"], [], ""),
        (["SELECT 1 /* open"], [], "SELECT 1 /* open"),
        (["SELECT 'open;"], [], "SELECT 'open;"),
    ],
)
def test_where_statements_end(pieces: list[str], statements: list[str], rest: str) -> None:
    splitter = Splitter()
    assert [statement for piece in pieces for statement in splitter.feed(piece)] == statements
    assert splitter.rest() == rest
    assert splitter.empty
