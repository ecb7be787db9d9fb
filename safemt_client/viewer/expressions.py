"""A condition in SQL as a filter: an expression over the columns of a conversation, and nothing else.

Its parse tree is checked against what is allowed, so that what is unknown is refused: no other table, no
statement, no function that reads, writes, waits or makes texts longer.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Collection, Iterator
from typing import Any

import duckdb

from safemt_client.providers.errors import InputError

__all__ = ["MOST", "ExpressionError", "checked"]

MOST = 1_000
"""Characters of an expression."""
_CLASSES = {
    *(
        "COLUMN_REF",
        "CONSTANT",
        "COMPARISON",
        "CONJUNCTION",
        "OPERATOR",
        "BETWEEN",
        "CASE",
        "CAST",
        "FUNCTION",
    ),
    "TYPE",
}
_OPERATORS = {
    *("OPERATOR_NOT", "OPERATOR_IS_NULL", "OPERATOR_IS_NOT_NULL", "OPERATOR_COALESCE", "OPERATOR_NULLIF"),
    *("COMPARE_IN", "COMPARE_NOT_IN"),
}
_FUNCTIONS = {
    *("+", "-", "*", "/", "//", "%", "~~", "!~~", "~~*", "!~~*", "~~~", "like_escape", "not_like_escape"),
    *("ilike_escape", "not_ilike_escape"),
    *("lower", "upper", "trim", "length", "strlen", "left", "right", "substring", "substr", "contains"),
    *("starts_with", "prefix", "ends_with", "suffix", "position", "instr", "strpos", "split_part"),
    *("regexp_matches", "regexp_full_match"),
    *("abs", "round", "floor", "ceil", "trunc", "least", "greatest", "ifnull", "nullif", "if", "isnan"),
    *("now", "today", "date_part", "date_trunc", "year", "month", "day", "hour", "minute", "dayofweek"),
    *("to_years", "to_months", "to_weeks", "to_days", "to_hours", "to_minutes", "to_seconds"),
}
_TYPES = {
    *("BOOLEAN", "TINYINT", "SMALLINT", "INTEGER", "BIGINT", "FLOAT", "DOUBLE", "DECIMAL", "VARCHAR", "DATE"),
    *("TIMESTAMP", "TIMESTAMP WITH TIME ZONE", "INTERVAL"),
}
_CLOCK = {"current_date", "current_timestamp"}
_PARTS = {"type", "select_list", "from_table", "cte_map", "aggregate_handling"}
"""What the parse tree of a SELECT with one expression and nothing more has in it."""


class ExpressionError(InputError):
    """The condition cannot be used; one line says why."""

    def __init__(self, why: str) -> None:
        super().__init__(f"SQL condition: {why}")


def checked(connection: duckdb.DuckDBPyConnection, text: str, columns: Collection[str]) -> str:
    """The condition, to be put into a WHERE, if it is nothing but an expression over these columns.

    Raises:
        ExpressionError: it is not.
    """
    if len(text) > MOST:
        raise ExpressionError(f"it is longer than {MOST:,} characters")
    try:
        # By itself, so that no bracket ends the one that it is put into; and in that one, as it will be used.
        # The end of a line ends a comment, too.
        for said in (f"SELECT {text}\n", f"SELECT (\n{text}\n)"):
            (tree,) = connection.execute("SELECT json_serialize_sql(?)", [said]).fetchall()[0]
            found = json.loads(tree)
            if found["error"]:
                raise ExpressionError(_first_line(found["error_message"]))
            for node in _nodes(_only(found)):
                _check(node, columns)
    except (duckdb.Error, RecursionError) as error:
        raise ExpressionError(_first_line(str(error))) from None
    return f"(\n{text}\n)"


def _only(found: dict[str, Any]) -> dict[str, Any]:
    """The one expression of a statement that has nothing else."""
    nodes = [statement["node"] for statement in found["statements"]]
    if len(nodes) != 1:
        raise ExpressionError("write one condition, without ';'")
    (node,) = nodes
    told = {name for name, value in node.items() if value not in (None, "", [], {}, False)} - _PARTS
    plain = node["type"] == "SELECT_NODE" and not told and node["from_table"]["type"] == "EMPTY"
    if not plain or node["cte_map"].get("map"):
        raise ExpressionError("write what would stand after WHERE, and nothing after that")
    if len(node["select_list"]) != 1 or node["select_list"][0].get("alias"):
        raise ExpressionError("write one condition; join several with AND or OR")
    expression: dict[str, Any] = node["select_list"][0]
    return expression


def _nodes(expression: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """An expression and all that it is made of."""
    waiting: list[Any] = [expression]
    while waiting:
        part = waiting.pop()
        if isinstance(part, dict):
            if "class" in part:
                yield part
            waiting += part.values()
        elif isinstance(part, list):
            waiting += part


def _check(node: dict[str, Any], columns: Collection[str]) -> None:
    kind = node["class"]
    if kind not in _CLASSES:
        what = {
            "SUBQUERY": "a SELECT",
            "WINDOW": "a window function",
            "STAR": "*",
            "PARAMETER": "a parameter",
        }
        raise ExpressionError(
            f"{what.get(kind, kind.lower())} cannot stand in it: the page SQL takes whole queries"
        )
    if kind == "OPERATOR" and node["type"] not in _OPERATORS:
        raise ExpressionError(f"{node['type'].lower().replace('_', ' ')} cannot stand in it")
    if kind == "FUNCTION" and (node["function_name"].lower() not in _FUNCTIONS or node.get("schema")):
        raise ExpressionError(f"{node['function_name']}() cannot be called here")
    if kind == "TYPE" and node["type_name"].upper() not in _TYPES:
        raise ExpressionError(f"nothing can be cast to {node['type_name']} here")
    if kind == "COLUMN_REF":
        _check_column(".".join(node["column_names"]), columns)


def _check_column(name: str, columns: Collection[str]) -> None:
    if name.lower() in columns or name.lower() in _CLOCK:
        return
    near = difflib.get_close_matches(name.lower(), columns, n=1)
    hint = f"did you mean {near[0]}?" if near else "texts stand in single quotes"
    raise ExpressionError(f"there is no column {name[:60]}: {hint}")


def _first_line(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[0] if lines else "it is not SQL"
