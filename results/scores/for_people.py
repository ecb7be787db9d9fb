"""The samples that people label which are drawn by chance, and what they need to be of."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from safemt_client import __version__
from safemt_client.providers.errors import InputError
from safemt_client.results.scores.drawing import (
    Drawable,
    Errors,
    calibrated_errors,
    chances_of,
    drawables,
    drawn,
    draws_of,
    errors_seen,
    finished,
)
from safemt_client.results.scores.human import Candidate, unlabelled, with_texts
from safemt_client.results.scores.inclusion import DRAWN, Key
from safemt_client.results.store.queries import Queryable
from safemt_client.results.store.rows import DrawnReplyRow, DrawRow

__all__ = ["NewDraw", "candidates_of", "draw_for_people", "known_errors"]


@dataclass(frozen=True, slots=True)
class NewDraw:
    """A draw; its `replies` are empty where the store has them already."""

    row: DrawRow
    replies: tuple[DrawnReplyRow, ...] = ()


def known_errors(reader: Queryable, run_id: str, judge_key: str) -> tuple[list[Drawable], Errors]:
    """The replies that can be drawn for people, and how likely the judge's label of each is wrong.

    Raises:
        InputError: there are none.
    """
    replies = drawables(reader, run_id, judge_key)
    if not replies:
        raise InputError(f"run {run_id}: its judge has labelled no reply yet: judge it first")
    return replies, errors_seen(replies, _labels(reader), "people", calibrated_errors(reader, judge_key))


def draw_for_people(reader: Queryable, run_id: str, judge_key: str, size: int) -> NewDraw:
    """The smallest stored draw that asked for so many or more, or a new one that contains those before.

    Raises:
        InputError: the run is not finished, or has no reply with a label.
    """
    earlier = draws_of(reader, run_id, judge_key, None)
    if enough := [row for row in earlier if row.wanted >= size]:
        return NewDraw(min(enough, key=lambda row: row.wanted))
    finished(reader, run_id)
    replies, errors = known_errors(reader, run_id, judge_key)
    before = chances_of(reader, [row.draw_id for row in earlier])
    found = drawn(replies, errors, size, before, "people")
    mark = hashlib.sha256(json.dumps(["people", run_id, judge_key, size]).encode()).hexdigest()
    row = DrawRow(mark[:12], mark, datetime.now(UTC), __version__, run_id, judge_key, size, None, found.basis)
    return NewDraw(row, tuple(replace(one, draw_id=row.draw_id) for one in found.replies))


def candidates_of(reader: Queryable, draw_id: str, annotator: str | None = None) -> list[Candidate]:
    """The replies of a stored draw in its order, or what of them this annotator has not labelled yet."""
    rows = reader.query(
        """SELECT d.request_hash, d.dialogue_key, d.reply_hash, d.item_id, d.target_key,
                  (SELECT coalesce(min(s.sample), 1) FROM steps s
                   WHERE s.run_id = d.run_id AND s.target_key = d.target_key
                     AND s.dialogue_key = d.dialogue_key AND s.request_hash = d.request_hash)
           FROM drawn_labels d WHERE d.draw_id = ? ORDER BY d.place""",
        [draw_id],
    ).rows
    found = [
        Candidate(asked, dialogue, said, DRAWN + draw_id, item, "", "[]", "", target, number)
        for asked, dialogue, said, item, target, number in rows
    ]
    return with_texts(reader, found if annotator is None else unlabelled(reader, found, annotator))


def _labels(reader: Queryable) -> Mapping[Key, str]:
    rows = reader.query(
        "SELECT request_hash, dialogue_key, reply_hash, label FROM human_decisions WHERE label IS NOT NULL"
    ).rows
    return {(asked, dialogue, said): label for asked, dialogue, said, label in rows}
