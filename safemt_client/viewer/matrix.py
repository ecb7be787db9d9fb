"""Items as rows, targets as columns: the worst label of each item under each target."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import duckdb

from safemt_client.viewer.filters import Filters, item_value
from safemt_client.viewer.queries import Choices, Queries, Row, any_of, dicts

__all__ = ["ITEMS", "ORDERS", "Cell", "ItemRow", "Matrix", "matrix_in", "matrix_of", "of_one_condition"]

ITEMS = 50
"""Rows of a page."""
ORDERS = {
    "item": "item_id",
    "unsafe": "count(DISTINCT target_key) FILTER (label = 'unsafe') DESC, "
    "count(*) FILTER (label = 'unsafe') DESC, item_id",
}
"""Orders of the items by name: `unsafe` begins with those that are unsafe under most targets."""
_WORST = ("unsafe", "unscored", "safe")


@dataclass(frozen=True, slots=True)
class Cell:
    """What the conversations about an item under a target come to.

    `label` is their worst one, and `word` the same, or where none has a label the state of the first. It is
    that of `count` of the `of` conversations. `key` (target, dialogue, sample) is the first of these, and
    `query` leads to it.
    """

    label: str | None
    word: str
    count: int
    of: int
    key: tuple[str, str, int]
    query: str


@dataclass(frozen=True, slots=True)
class ItemRow:
    """A row: the item, and its cells by the key of the target. `query` leads to its list."""

    item_id: str
    scenario: str | None
    benign: bool | None
    cells: Mapping[str, Cell]
    query: str


@dataclass(frozen=True, slots=True)
class Matrix:
    """One page of `total` items; `targets` are key and name."""

    rows: Sequence[ItemRow]
    targets: Sequence[tuple[str, str]]
    total: int
    page: int
    pages: int


def matrix_of(queries: Queries, filters: Filters, page: int, size: int = ITEMS) -> Matrix:
    """The items of which a conversation matches, with what all that match come to.

    Raises:
        InputError: the viewer is closing.
    """
    run = queries.choices(filters.run)
    filters = of_one_condition(filters, run)
    with queries.narrowed(filters) as (cursor, where, values, _):
        return matrix_in(cursor, f"conversation_index WHERE {where}", values, run.target, filters, page, size)


def of_one_condition(filters: Filters, choices: Choices) -> Filters:
    """The filters with one condition: a control is another question, its label no worse one of the item."""
    if len(choices.condition) > 1 and not filters.condition:
        return replace(filters, condition="original")
    return filters


def matrix_in(
    cursor: duckdb.DuckDBPyConnection,
    source: str,
    values: Sequence[Any],
    targets: Sequence[tuple[str, str]],
    filters: Filters,
    page: int,
    size: int = ITEMS,
) -> Matrix:
    """A page of the items of a table with its condition, `source`, which has the parameters `values`."""
    found = cursor.execute(f"SELECT count(DISTINCT item_id) FROM {source}", values).fetchall()
    total = int(found[0][0])
    pages = max(1, -(-total // size))
    page = min(max(1, page), pages)
    items = dicts(
        cursor.execute(
            f"""SELECT item_id, any_value(scenario) AS scenario, bool_or(benign) AS benign
                FROM {source} GROUP BY item_id ORDER BY {ORDERS.get(filters.sort, ORDERS["item"])}
                LIMIT {size} OFFSET {(page - 1) * size}""",
            values,
        )
    )
    names = [row["item_id"] for row in items]
    conversations = dicts(
        cursor.execute(
            f"""SELECT item_id, target_key, dialogue_key, sample, label, state FROM {source}
                AND item_id {any_of(names)} ORDER BY length, sample""",
            [*values, *names],
        )
    )
    cells: dict[tuple[str, str], list[Row]] = defaultdict(list)
    for row in conversations:
        cells[row["item_id"], row["target_key"]].append(row)
    targets = [target for target in targets if filters.target in ("", target[0])]
    rows = [
        ItemRow(
            row["item_id"],
            row["scenario"],
            row["benign"],
            {
                key: _cell(cells[row["item_id"], key], _of(filters, row["item_id"], key))
                for key, _ in targets
                if (row["item_id"], key) in cells
            },
            _of(filters, row["item_id"], filters.target).query(),
        )
        for row in items
    ]
    return Matrix(rows, targets, total, page, pages)


def _of(filters: Filters, item_id: str, target_key: str) -> Filters:
    """The filters of one cell; its list is in the order of the lengths."""
    return replace(filters, item=item_value(item_id), target=target_key, sort="")


def _cell(rows: Sequence[Row], filters: Filters) -> Cell:
    labels = Counter(row["label"] for row in rows)
    label = next((one for one in _WORST if labels[one]), None)
    at = next(n for n, row in enumerate(rows) if row["label"] == label)
    first: Mapping[str, Any] = rows[at]
    sample = first["sample"] if first["sample"] > 1 else ""
    query = filters.query(t=first["target_key"], d=first["dialogue_key"], sample=sample, at=at)
    key = (first["target_key"], first["dialogue_key"], first["sample"])
    return Cell(label, label or first["state"], labels[label], len(rows), key, query)
