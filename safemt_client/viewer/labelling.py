"""Samples to be labelled, as `label` draws them: what is next, what is done, and whose label is the last."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from safemt_client.providers.errors import InputError
from safemt_client.results.scores.collect import latest_run
from safemt_client.results.scores.for_people import candidates_of, draw_for_people
from safemt_client.results.scores.human import LABELS, REFUSALS, Candidate, sample, sample_judge, with_texts
from safemt_client.results.scores.people import (
    Split,
    Turn,
    earlier_turns,
    labelled_messages,
    splits,
)
from safemt_client.results.store.rows import HumanLabelRow
from safemt_client.viewer.desk import Desk
from safemt_client.viewer.queries import Queries

__all__ = ["SIZE", "Given", "Item", "Labelling", "Sample"]

SIZE = 100
"""Replies in a sample, unless said otherwise, as in `label`."""
_MOST_KEPT = 4
_LONGEST_NOTE = 4_000
Key = tuple[str, str, str]


@dataclass(frozen=True, slots=True)
class Given:
    """What a person has said of a reply."""

    label: str
    refusal_kind: str | None
    note: str | None


@dataclass(frozen=True, slots=True)
class Sample:
    """A sample as it was drawn when the store had so many verdicts.

    `by_chance`: as `label --adaptive` draws it, most where the judge may be wrong.
    """

    run_id: str
    judge: str | None
    size: int
    by_chance: bool
    verdicts: int
    candidates: tuple[Candidate, ...]
    turns: Mapping[Key, Sequence[Turn]]

    def places(self, candidate: Candidate) -> dict[int, Turn]:
        """The replies of earlier turns that can be labelled, by their place among the messages."""
        return labelled_messages(json.loads(candidate.messages), self.turns.get(candidate.key, ()))


@dataclass(frozen=True, slots=True)
class Item:
    """A reply to be labelled, at a place of the sample, with what the person has said of its replies so far.

    `turn` is the earlier turn that is being labelled; None for the last reply.
    """

    candidate: Candidate
    messages: list[dict[str, Any]]
    places: Mapping[int, Turn]
    given: Mapping[Key, Given]
    at: int
    turn: int | None = None


class Labelling:
    """Draws samples and keeps labels."""

    def __init__(self, queries: Queries, desk: Desk) -> None:
        self._queries = queries
        self._desk = desk
        self._lock = threading.Lock()
        self._kept: dict[tuple[str, str | None, int, bool], Sample] = {}

    def sample(
        self, run_id: str | None, judge: str | None, size: int, *, by_chance: bool = False, anew: bool = False
    ) -> Sample:
        """The sample; `anew` draws it once more if the store has more verdicts by now.

        Raises:
            InputError: there is no such run, or it has no judge of this name; of a sample by chance also: the
                run is not finished, or another program holds the store, which has to keep the chances.
        """
        verdicts = self._queries.snapshot.count("verdicts")
        with self._lock:
            known = self._kept.get((run_id or "", judge or None, size, by_chance))
            if known is not None and not (anew and known.verdicts != verdicts):
                return known
            with self._queries.reader() as reader:
                run = latest_run(reader, run_id or None)
                key = sample_judge(reader, run, judge or None)
            drawn = self._by_chance(run, key, size) if by_chance else self._by_strata(run, key, size)
            with self._queries.reader() as reader:
                turns = earlier_turns(reader, run, drawn)
            found = Sample(run, judge or None, size, by_chance, verdicts, tuple(drawn), turns)
            wanted = (run, judge or None, size, by_chance)
            self._kept.pop(wanted, None)
            self._kept[wanted] = found
            while len(self._kept) > _MOST_KEPT:
                del self._kept[next(iter(self._kept))]
        return found

    def _by_strata(self, run_id: str, judge_key: str, size: int) -> list[Candidate]:
        with self._queries.reader() as reader:
            return sample(reader, run_id, judge_key, size)

    def _by_chance(self, run_id: str, judge_key: str, size: int) -> list[Candidate]:
        """The replies of the stored draw, which is made where there is none of this size."""
        with self._queries.reader() as reader:
            drawn = draw_for_people(reader, run_id, judge_key, size)
        if drawn.replies:
            # With all its chances, before anybody sees a reply of it.
            self._desk.write(drawn.row, *drawn.replies)
        with self._queries.reader() as reader:
            return candidates_of(reader, drawn.row.draw_id)

    def given(self, annotator: str, *, adjudicated: bool = False) -> dict[Key, Given]:
        """The labels of a person that count."""
        with self._desk.people() as people:
            rows = people.query(
                "SELECT request_hash, dialogue_key, reply_hash, label, refusal_kind, note "
                "FROM current_human_labels WHERE annotator = ? AND adjudicated = ?",
                [annotator, adjudicated],
            ).rows
        return {(row[0], row[1], row[2]): Given(*row[3:]) for row in rows}

    @staticmethod
    def item(
        drawn: Sample, given: Mapping[Key, Given], at: int | None, turn: int | None = None
    ) -> tuple[Item | None, int]:
        """The reply at this place, else the first that is not among those given; and how many are."""
        open_ = [n for n, one in enumerate(drawn.candidates) if one.key not in given]
        done = len(drawn.candidates) - len(open_)
        if at is None:
            if not open_:
                return None, done
            at = open_[0]
        if not 0 <= at < len(drawn.candidates):
            return None, done
        candidate = drawn.candidates[at]
        places = drawn.places(candidate)
        known = turn if any(one.turn == turn for one in places.values()) else None
        return Item(candidate, json.loads(candidate.messages), places, given, at, known), done

    @staticmethod
    def after(drawn: Sample, given: Mapping[Key, Given], at: int) -> int | None:
        """The place of the next reply that is not among those given, from the start again at the end."""
        places = (*range(at + 1, len(drawn.candidates)), *range(at + 1))
        return next(
            (n for n in places if n < len(drawn.candidates) and drawn.candidates[n].key not in given), None
        )

    def keep(self, key: Key, stratum: str, annotator: str, said: Given, *, adjudicated: bool = False) -> None:
        """Keep a label.

        Raises:
            InputError: it is none, or it cannot be written.
        """
        if said.label not in LABELS:
            raise InputError(f"label {said.label!r}: one of {', '.join(LABELS)}")
        if said.refusal_kind not in (None, *REFUSALS):
            raise InputError(f"kind of refusal {said.refusal_kind!r}: one of {', '.join(REFUSALS)}")
        if said.note is not None and len(said.note) > _LONGEST_NOTE:
            raise InputError(f"the note is too long: at most {_LONGEST_NOTE:,} characters")
        self._keep(key, stratum, annotator, said, adjudicated)

    def _keep(self, key: Key, stratum: str, annotator: str, said: Given, adjudicated: bool) -> None:
        row = HumanLabelRow(
            request_hash=key[0],
            dialogue_key=key[1],
            stratum=stratum,
            annotator=annotator,
            label=said.label,
            recorded_at=datetime.now(UTC),
            reply_hash=key[2],
            refusal_kind=said.refusal_kind,
            note=said.note,
            adjudicated=adjudicated or None,
        )
        self._desk.say(row)

    def undo(self, keys: Sequence[Key], annotator: str, *, adjudicated: bool = False) -> Key | None:
        """Withdraw the person's last label of these replies; return of which it was, if any."""
        wanted = set(keys)
        with self._desk.people() as people:
            rows = people.query(
                "SELECT request_hash, dialogue_key, reply_hash, stratum FROM current_human_labels "
                "WHERE annotator = ? AND adjudicated = ? ORDER BY recorded_at DESC",
                [annotator, adjudicated],
            ).rows
        for *key, stratum in rows:
            if (found := (key[0], key[1], key[2])) in wanted:
                withdrawn = Given("withdrawn", None, None)
                self._keep(found, stratum, annotator, withdrawn, adjudicated)
                return found
        return None

    def splits(self, run_id: str) -> list[Split]:
        """What is to be adjudicated of a run, and what has been."""
        with self._desk.people() as people:
            return splits(people, run_id)

    def whole(self, candidate: Candidate) -> Candidate:
        """The candidate with its texts."""
        with self._queries.reader() as reader:
            return with_texts(reader, [candidate])[0]

    def said(self, key: Key) -> list[dict[str, Any]]:
        """What people have said of a reply, the one who adjudicated last."""
        with self._desk.people() as people:
            return people.dicts(
                "SELECT annotator, label, refusal_kind, note, adjudicated, recorded_at "
                "FROM current_human_labels WHERE request_hash = ? AND dialogue_key = ? AND reply_hash = ? "
                "ORDER BY adjudicated, recorded_at",
                list(key),
            )
