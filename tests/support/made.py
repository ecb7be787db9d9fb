"""What can be read from the store of `everything`, by each way out of the program."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safemt_client.results.store.reader import open_reader

from . import everything
from .program import at_once
from .shown import Shown, html_tables, latex_tables, markdown_tables, terminal_tables

Row = dict[str, Any]


@dataclass
class Made:
    """The store, and what the program said of its latest run."""

    db: Path
    older: str
    run: str
    at_the_end: str
    report: str
    json: Row
    html: list[Shown]
    markdown: list[Shown]
    latex: list[Shown]

    @property
    def terminal(self) -> list[Shown]:
        return terminal_tables(self.report)

    def sql(self, query: str, *values: object) -> list[Row]:
        with open_reader(self.db) as reader:
            found = reader.query(query, list(values))
        return [dict(zip(found.columns, row, strict=True)) for row in found.rows]

    def told(self, *words: str) -> Any:
        done = at_once(*words, "--json", "--db", str(self.db))
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def said(self, *words: str) -> str:
        done = at_once(*words, "--db", str(self.db))
        assert done.returncode == 0, done.stderr
        return done.stdout


def make_and_read(folder: Path) -> Made:
    """Make the store in this folder, the current one, and every output of its latest run."""
    at_the_end = everything.make(folder)
    names = [word for form in ("html", "md", "latex") for word in (f"--{form}", f"r.{form}")]
    done = at_once("report", *names)
    assert done.returncode == 0, done.stderr
    texts = {form: (folder / f"r.{form}").read_text(encoding="utf-8") for form in ("html", "md", "latex")}
    with open_reader(folder / "safemt.duckdb") as reader:
        older, run = (row[0] for row in reader.query("SELECT run_id FROM runs ORDER BY created_at").rows)
    return Made(
        folder / "safemt.duckdb",
        older,
        run,
        at_the_end,
        at_once("report").stdout,
        json.loads(at_once("report", "--json").stdout),
        html_tables(texts["html"]),
        markdown_tables(texts["md"]),
        latex_tables(texts["latex"]),
    )
