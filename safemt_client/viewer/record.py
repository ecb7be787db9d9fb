"""A conversation as the store has it, as one JSON document."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from safemt_client.viewer.conversation import Conversation, Turn
from safemt_client.viewer.queries import Queries

__all__ = ["as_json", "record_of"]

Row = dict[str, Any]
_NESTED = {
    *("settings", "sampling", "prices", "messages", "extra", "request", "parameters", "categories"),
    "scenarios",
}
"""Columns of JSON; `raw` is not among them: it is what was received, to the letter."""
_OF_RUN = ("run_targets", "run_judges", "run_moderators")


def record_of(queries: Queries, conversation: Conversation, comments: Sequence[Row] = ()) -> Row:
    """Run, settings, dialogue, every attempt of each turn, and what judges, people and guards said.

    Rows have the columns of the tables that they are from (`docs/sql.md`). Texts are those of
    `conversation`: of one without texts the record has none.
    """
    head = conversation.head
    run = queries.run(head["run_id"])
    of_run = {
        table: queries.local(f"SELECT * FROM {table} WHERE run_id = ?", [head["run_id"]]) for table in _OF_RUN
    }
    target = next(row for row in of_run["run_targets"] if row["target_key"] == head["target_key"])
    guarded = target["moderator"] is not None
    dialogue = ("dialogue_key", "item_id", "length", "scenario", "source", "method", "benign", "condition")
    return {
        "run": _plain(run or {}),
        "target": _plain(target),
        "judges": [_plain(row) for row in of_run["run_judges"]],
        "moderators": [_plain(row) for row in of_run["run_moderators"] if guarded],
        "dialogue": _plain({n: head.get(n) for n in (*dialogue, "question", "messages", "extra")}),
        "sample": head["sample"],
        "judge": head["judge"],
        "label": head["label"],
        "state": head["state"],
        "turns": [_turn(turn) for turn in conversation.turns],
        "comments": [_plain(row) for row in comments],
    }


def as_json(record: Row) -> bytes:
    """The document in ASCII: what would act on a screen stands in it as a code, and reads back as it was."""
    return (json.dumps(record, indent=2, default=str) + "\n").encode("ascii")


def _turn(turn: Turn) -> Row:
    return {
        "turn": turn.number,
        "reply": _plain(turn.reply),
        "attempts": [_plain(row) for row in turn.attempts],
        "model_attempts": [_plain(row) for row in turn.model_attempts],
        "verdicts": [_plain(row) for row in turn.verdicts],
        "human_labels": [_plain(row) for row in turn.people],
        "assessments": [_plain(row) for row in turn.assessments],
    }


def _plain(row: Row) -> Row:
    return {name: _value(name, value) for name, value in row.items()}


def _value(name: str, value: Any) -> Any:
    if isinstance(value, datetime):
        return f"{value.isoformat()}Z"  # the store's times are UTC, and do not say so
    if name in _NESTED and isinstance(value, str):
        try:
            return json.loads(value)
        except (ValueError, RecursionError):
            return value
    return value
