"""docs/sql.md, made from the schema: `python -m safemt_client.results.sql.docs > docs/sql.md`.

With `--views` it prints the views and their columns as JSON, which a test pins.
"""

from __future__ import annotations

import json
import re
import sys
from importlib import resources

import duckdb

from safemt_client.results.store.migrations import MIGRATIONS, migrate
from safemt_client.results.store.views import create_views

__all__ = ["QUESTIONS_FILE", "document", "questions", "views"]

QUESTIONS_FILE = "questions.sql"
_HEAD = """# SQL

`python -m safemt_client sql "..."` answers one read-only DuckDB statement (`--format csv` or `json`,
`--max-rows N`), even while a run is going on. On a terminal without a statement it opens a shell with history
and completion of names: `.views`, `.tables`, `.schema NAME`, `.help`, `.quit`; a statement ends with `;`, and
Ctrl-C stops it. Statements that arrive through a pipe are executed one after another.

This page is generated from the schema by `python -m safemt_client.results.sql.docs`; `.schema NAME` shows the
same.

## What stays stable

Queries and programs may rely on the views. Before version 1 any change to them is listed in the release
notes; from version 1 on, within a major version:

- a view keeps its name, and a column its name, type and meaning; what a row represents stays the same;
- views and columns may be added, columns in any position: name the ones you want instead of using `SELECT *`;
- columns with words (`state`, `outcome`, `reason`, `action`, ...) may get additional words;
- rows come in no particular order unless `ORDER BY` gives one;
- the contents of a view may change where they were wrong; the release notes say so.

Tables are how the program stores its rows. They are documented and never rewritten, but may change with the
schema (currently {version}; `schema_migrations` has the history). Text in them comes from models and data:
treat it as untrusted.

## Questions
"""
_VIEWS = """## Views

The current state.
"""
_TABLES = """## Tables

Every attempt; rows are only ever appended. Columns that may be NULL are marked.
"""
_BOOKKEEPING = {
    "schema_migrations": (
        "a change of the schema",
        {
            "version": "counted from 1",
            "name": "what it did",
            "applied_at": "UTC",
            "program_version": "of the program that did it",
        },
    )
}


def questions() -> list[tuple[str, str]]:
    """The example questions, each with its query."""
    text = resources.files("safemt_client.results.sql").joinpath(QUESTIONS_FILE).read_text(encoding="utf-8")
    return [
        (found[1].strip(), found[2].strip())
        for found in re.finditer(r"^-- (.*)\n((?:(?!--).+\n?)+)", text, re.M)
    ]


def views() -> dict[str, dict[str, str]]:
    """Every view with its columns and their types, in order."""
    with _schema() as connection:
        return {
            name: {column: kind for column, kind, _, _ in _columns(connection, name)}
            for name, _ in _listed(connection, "view")
        }


def document() -> str:
    """The text of docs/sql.md."""
    parts = [_HEAD.replace("{version}", str(len(MIGRATIONS)))]
    for question, query in questions():
        parts += [f"{question}\n", "\n".join(f"    {line}" for line in query.splitlines()) + "\n"]
    with _schema() as connection:
        for intro, kind in ((_VIEWS, "view"), (_TABLES, "table")):
            parts.append(intro)
            for name, comment in _listed(connection, kind):
                about, known = _BOOKKEEPING.get(name, (comment, {}))
                parts.append(
                    f"### `{name}`\n\n{_sentence(about)}\n\n| column | type | what it is |\n|---|---|---|"
                )
                parts += [
                    f"| `{column}` | {type_}{', or NULL' if nullable and kind == 'table' else ''} "
                    f"| {_cell(text or known.get(column, ''))} |"
                    for column, type_, nullable, text in _columns(connection, name)
                ]
                parts.append("")
    return "\n".join(parts)


def _schema() -> duckdb.DuckDBPyConnection:
    """An empty store in memory."""
    connection = duckdb.connect(":memory:")
    migrate(connection, "memory", "")
    create_views(connection)
    return connection


def _listed(connection: duckdb.DuckDBPyConnection, kind: str) -> list[tuple[str, str]]:
    rows = connection.execute(
        f"SELECT {kind}_name, coalesce(comment, '') FROM duckdb_{kind}s() "
        "WHERE database_name = current_database() AND NOT internal ORDER BY 1"
    ).fetchall()
    return [(name, comment) for name, comment in rows]


def _columns(connection: duckdb.DuckDBPyConnection, name: str) -> list[tuple[str, str, bool, str | None]]:
    rows = connection.execute(
        "SELECT column_name, data_type, is_nullable, comment FROM duckdb_columns() "
        "WHERE database_name = current_database() AND NOT internal AND table_name = ? ORDER BY column_index",
        [name],
    ).fetchall()
    return [(column, kind, nullable, comment) for column, kind, nullable, comment in rows]


def _sentence(text: str) -> str:
    text = text.strip()
    return (text[:1].upper() + text[1:]).rstrip(".") + "."


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def main() -> None:
    """Print the document, or with `--views` the views."""
    if "--views" in sys.argv[1:]:
        json.dump(views(), sys.stdout, indent=1)
        sys.stdout.write("\n")
    else:
        sys.stdout.write(document())


if __name__ == "__main__":
    main()
