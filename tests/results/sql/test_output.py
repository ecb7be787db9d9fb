"""Rows on the screen and in files: text from a model stays text."""

import csv
import io
import json

import pytest

from safemt_client.results.sanitize import plain
from safemt_client.results.sql.output import print_result
from safemt_client.results.store.queries import Result

HOSTILE = [
    "=1+1",
    "+1",
    "-1",
    "@x",
    "\tx",
    "\x1b[31mred",
    "[bold]x[/]",
    "\u202eabc",
    "a\nb",
    "nul\x00",
    "<script>",
]
RESULT = Result(["text", "n"], [(text, None) for text in HOSTILE])


def printed(form: str) -> str:
    out = io.StringIO()
    print_result(RESULT, form, out)
    return out.getvalue()


def test_a_table_holds_no_control_character() -> None:
    text = printed("table")
    assert not set(text) & {"\x1b", "\u202e", "\x00", "\r"}
    assert "[bold]x[/]" in text
    assert "\\x1b[31mred" in text


def test_a_table_wider_than_the_screen_becomes_a_list(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    out = io.StringIO()
    print_result(
        Result([f"column_{n}" for n in range(15)], [(f"value {n}",) * 15 for n in range(2)]), "table", out
    )
    assert "column_14  value 1" in out.getvalue()
    assert all(len(line) <= 60 for line in out.getvalue().splitlines())


def test_csv_holds_no_formula() -> None:
    rows = list(csv.reader(io.StringIO(printed("csv"))))[1:]
    assert len(rows) == len(HOSTILE)
    assert not [row for row in rows if row[0][:1] in "=+-@\t\r"]
    assert rows[5][1] == ""


def test_json_is_exact() -> None:
    assert [row["text"] for row in json.loads(printed("json"))] == HOSTILE


@pytest.mark.parametrize("text", ["a\x1bb", "a\rb", "a\u2066b", "a\x7fb", "a\u200bb"])
def test_plain(text: str) -> None:
    assert plain(text) == f"a\\x{ord(text[1]):02x}b"
