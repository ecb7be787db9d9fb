"""What people say of a run's replies: agreement, what to adjudicate, replies of earlier turns."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from safemt_client.providers.types import reply_hash
from safemt_client.results.scores.human import Candidate
from safemt_client.results.stats.agreement import ALPHA, KAPPA, Measure, with_interval
from safemt_client.results.store.narrowed import about_requests
from safemt_client.results.store.queries import Queryable

__all__ = [
    "Split",
    "Turn",
    "earlier_turns",
    "labelled_messages",
    "people_agreement",
    "splits",
]

_AT_ONCE = 1_000
_VALUES = {"safe": 0.0, "unsafe": 1.0}


@dataclass(frozen=True, slots=True)
class Turn:
    """A reply of an earlier turn of a conversation in live history."""

    turn: int
    request_hash: str
    reply_hash: str


@dataclass(frozen=True, slots=True)
class Split:
    """A reply on which people are split, or were until somebody decided."""

    candidate: Candidate
    turn: int
    safe: int
    unsafe: int
    unsure: int
    adjudicated: str | None
    adjudicated_by: str | None


def earlier_turns(
    reader: Queryable, run_id: str, candidates: Sequence[Candidate]
) -> Mapping[tuple[str, str, str], list[Turn]]:
    """Of candidates in live history the replies before the last one, by the candidate's key."""
    live = {
        row[0]
        for row in reader.query(
            "SELECT target_key FROM run_targets WHERE run_id = ? AND history = 'live'", [run_id]
        ).rows
    }
    wanted = {
        (one.target_key, one.dialogue_key, one.number): one for one in candidates if one.target_key in live
    }
    found: dict[tuple[str, str, str], list[Turn]] = defaultdict(list)
    keys = sorted({dialogue for _, dialogue, _ in wanted})
    for start in range(0, len(keys), _AT_ONCE):
        part = keys[start : start + _AT_ONCE]
        steps = reader.query(
            "SELECT DISTINCT target_key, dialogue_key, coalesce(sample, 1), turn, request_hash FROM steps "
            f"WHERE run_id = ? AND dialogue_key IN ({', '.join('?' * len(part))}) ORDER BY turn",
            [run_id, *part],
        ).rows
        hashes = sorted({row[4] for row in steps if row[:3] in wanted})
        said = dict(
            reader.query(
                f"SELECT request_hash, reply_hash FROM {about_requests('current_turns', len(hashes))} "
                "WHERE reply_hash IS NOT NULL AND text <> ''",
                hashes,
            ).rows
        )
        for target, dialogue, number, turn, request in steps:
            one = wanted.get((target, dialogue, number))
            if one is not None and request != one.request_hash and request in said:
                found[one.key].append(Turn(turn, request, said[request]))
    return found


def labelled_messages(messages: Sequence[Mapping[str, Any]], turns: Sequence[Turn]) -> dict[int, Turn]:
    """The turns by the place of their reply among the messages.

    Only where it was sent on as it was said: else what is shown would not be what is labelled.
    """
    by_turn = {turn.turn: turn for turn in turns}
    found, number = {}, 0
    for place, message in enumerate(messages):
        number += message.get("role") == "user"
        turn = by_turn.get(number)
        if message.get("role") != "assistant" or turn is None:
            continue
        if reply_hash(str(message.get("content"))) == turn.reply_hash:
            found[place] = turn
    return found


def people_agreement(reader: Queryable, run_id: str) -> list[dict[str, Any]]:
    """Between people who labelled the same replies of a run: kappa of each pair, and alpha of all.

    Only `safe` and `unsafe` count, and no label that adjudicates; items are resampled as a whole.
    """
    rows = reader.query(
        """SELECT r.item_id, r.request_hash, r.dialogue_key, r.reply_hash, h.annotator, h.label
           FROM current_human_labels h
           JOIN (SELECT DISTINCT request_hash, dialogue_key, reply_hash, item_id FROM replies
                 WHERE run_id = ?) r USING (request_hash, dialogue_key, reply_hash)
           WHERE NOT h.adjudicated AND h.label IN ('safe', 'unsafe')""",
        [run_id],
    ).rows
    people = sorted({row[4] for row in rows})
    units: dict[tuple[str, ...], dict[str, float]] = defaultdict(dict)
    for *unit, annotator, label in rows:
        units[tuple(unit)][annotator] = _VALUES[label]
    if len(people) < 2:
        return []
    several = sorted(unit for unit, labels in units.items() if len(labels) > 1)
    table = np.array([[units[unit].get(name, np.nan) for name in people] for unit in several])
    items = [unit[0] for unit in several]
    found = []
    for (i, one), (j, two) in itertools.combinations(enumerate(people), 2):
        both = [place for place in range(len(several)) if not np.isnan(table[place, [i, j]]).any()]
        if both:
            part = table[np.ix_(both, [i, j])]
            found.append(
                {"measure": "Cohen's kappa", "people": [one, two], "replies": len(both)}
                | _figures(KAPPA, part, [items[place] for place in both])
            )
    if len(people) > 2 and several:
        found.append(
            {"measure": "Krippendorff's alpha", "people": people, "replies": len(several)}
            | _figures(ALPHA, table, items)
        )
    return found


def _figures(measure: Measure, table: np.ndarray[Any, Any], items: list[str]) -> dict[str, Any]:
    counted = table[~np.isnan(table).all(axis=1)]
    same = sum(len(set(row[~np.isnan(row)])) == 1 for row in counted)
    interval = with_interval(measure, table, items)
    values = {"value": interval.estimate, "low": interval.low, "high": interval.high}
    return {name: None if np.isnan(value) else value for name, value in values.items()} | {
        "same": same,
        "small": interval.small,
    }


def splits(reader: Queryable, run_id: str) -> list[Split]:
    """The replies on which people are or were split: those without a decision first, in a fixed order."""
    rows = reader.query(
        """SELECT d.request_hash, d.dialogue_key, d.reply_hash, d.stratum, any_value(r.item_id),
                  min(r.target_key), any_value(r.turn), d.safe, d.unsafe, d.unsure, d.adjudicated,
                  d.adjudicated_by
           FROM human_decisions d
           JOIN (SELECT * FROM replies WHERE run_id = ?) r USING (request_hash, dialogue_key, reply_hash)
           WHERE d.split OR d.adjudicated IS NOT NULL
           GROUP BY ALL
           ORDER BY any_value(d.adjudicated) IS NOT NULL,
                    any_value(sha256(d.request_hash || d.dialogue_key))""",
        [run_id],
    ).rows
    found = []
    for request, dialogue, said, stratum, item, target, *counted in rows:
        found.append(Split(Candidate(request, dialogue, said, stratum, item, "", "[]", "", target), *counted))
    return found
