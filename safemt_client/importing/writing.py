"""The rows of an import, written in parts and in one transaction: a kill leaves all of them or none."""

from __future__ import annotations

import hashlib
import json
import uuid
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import cast

import pyarrow as pa

from safemt_client import __version__
from safemt_client.importing.earlier import Now, check_unchanged, latest_import
from safemt_client.importing.found import Asked, Found, Label
from safemt_client.importing.keys import Part, Replies, Run, keyed, parts, runs_of
from safemt_client.importing.labelling import by_judge, label_counts, of_people, said_of
from safemt_client.importing.placing import Places
from safemt_client.judges.refusal import refusal_of
from safemt_client.planning.messages import HistoryOfTarget
from safemt_client.planning.target import Target
from safemt_client.providers.errors import InputError
from safemt_client.providers.types import Outcome, Sampling
from safemt_client.results.store.batches import arrow_rows, batch_of
from safemt_client.results.store.imported import IDENTITY, imported_key
from safemt_client.results.store.rows import (
    DialogueRow,
    EventRow,
    HumanLabelRow,
    ImageRow,
    Row,
    RunDialogueRow,
    RunRow,
    StepRow,
    TurnRow,
    VerdictRow,
)
from safemt_client.results.store.store import Store

__all__ = ["Imported", "save"]

_Batches = Iterator[pa.RecordBatch]


@dataclass(frozen=True)
class Imported:
    """What came of an import. `runs` are one for each judge, the one that decides last.

    `nothing_new` says that the store had all of it. `labels` counts the labels of each judge or person, and
    `texts` the replies whose text the files have: others cannot be judged again.
    """

    runs: tuple[str, ...]
    target: str
    source: str
    replies: int
    lengths: Mapping[int, int]
    outcomes: Mapping[str, int]
    labels: Mapping[str, Mapping[str, int]]
    notes: tuple[str, ...]
    texts: int = 0
    nothing_new: bool = False


@dataclass(frozen=True)
class _Import:
    """What is imported, when, and what the labels of each judge are."""

    found: Found
    places: Places
    asked: Asked
    judges: Mapping[str, Sequence[Label | None]]
    now: datetime

    def replies(self, sample: int) -> Replies:
        """The replies under a sample index of their target."""
        history = self.found.history if self.found.history in ("scripted", "none") else "unknown"
        target = Target(
            self.asked.target,
            IDENTITY + self.asked.target,
            cast(HistoryOfTarget, history),
            "unknown",
            Sampling(temperature=None),
            sample,
            imported_from=self.found.source,
            imported_at=self.now,
        )
        return keyed(self.places, target)

    def runs(self, replies: Replies) -> list[Run]:
        """The runs of the labels of these replies."""
        return runs_of(replies, self.found, self.judges)


def save(store: Store, found: Found, places: Places, asked: Asked, *, new_run: bool = False) -> Imported:
    """Write what was read as runs of an imported target.

    Raises:
        InputError: the store has another version of the replies, and no new run was asked for.
        StoreError: the store cannot be written.
    """
    judges = by_judge(places.replies, found, asked)
    what = _Import(found, places, asked, judges, datetime.now(UTC))
    existing = store.known_keys("runs", "run_id")
    replies, runs = _as_known(store, what, existing, new_run)
    fresh = [
        (run, what.now + timedelta(microseconds=2 * place), uuid.uuid4().hex[:12])
        for place, run in enumerate(runs)
        if run.run_id not in existing
    ]
    people = _people(store, replies, asked)
    if fresh or people:
        store.save_batches(
            *_heads(store, fresh, replies, found),
            *(rows for one in fresh for rows in _of_run(*one, replies, found)),
            *(_turns(store, replies, runs[0].run_id, what) if fresh else ()),
            (HumanLabelRow, _people_rows(people, replies, what)),
        )
    return Imported(
        tuple(run.run_id for run in runs),
        asked.target,
        found.source,
        len(replies),
        Counter(places.replies.lengths),
        Counter(places.replies.outcomes),
        label_counts(places.replies, judges, asked),
        (*found.notes, *places.notes),
        texts=sum(places.replies.texts),
        nothing_new=not (fresh or people),
    )


def _as_known(store: Store, what: _Import, existing: set[str], new_run: bool) -> tuple[Replies, list[Run]]:
    """The replies and runs under the sample index that the store has them under, else under the next.

    Raises:
        InputError: the store has another version of the replies, and no new run was asked for.
    """
    earlier = latest_import(store, what.asked.target)
    for sample in range(max(0, earlier.sample), -1, -1):
        replies = what.replies(sample)
        runs = what.runs(replies)
        if earlier.sample < 0 or all(run.run_id in existing for run in runs):
            return replies, runs
    try:
        check_unchanged(
            store,
            earlier,
            Now(what.places.replies, what.judges),
            target=what.asked.target,
            source=str(what.found.files[0]),
        )
        sample = earlier.sample
    except InputError:
        if not new_run:
            raise
        sample = earlier.sample + 1
    replies = what.replies(sample) if sample else replies
    return replies, what.runs(replies)


def _heads(
    store: Store, fresh: Sequence[tuple[Run, datetime, str]], replies: Replies, found: Found
) -> Iterator[tuple[type, _Batches]]:
    """What is of the runs themselves: their settings, targets, judges and events, and the pictures."""
    files = [{"name": path.name, "sha256": _digest(path)} for path in found.files]
    settings = {"imported": {"format": found.form, "files": files}}
    places = replies.places
    rows: list[Row] = []
    for run, now, session_id in fresh:
        rows.append(
            RunRow(
                run.run_id,
                run.fingerprint,
                now,
                __version__,
                *(places.name, places.digest, places.path, places.licence),
                json.dumps(settings, sort_keys=True),
            )
        )
        rows.append(replies.target.row(run.run_id))
        if run.judge is not None:
            rows.append(run.judge)
        detail = json.dumps(settings)
        rows.append(EventRow(run.run_id, session_id, now, "started", detail))
        rows.append(EventRow(run.run_id, session_id, now + timedelta(microseconds=1), "finished", detail))
    known = store.known_keys("images", "sha256")
    for path, image in places.images.items() if fresh else ():
        if image.size and image.sha256 not in known:
            known.add(image.sha256)
            rows.append(
                ImageRow(
                    *(image.sha256, image.media_type, image.size, image.width, image.height),
                    path,
                    image.preparation,
                )
            )
    for kind in dict.fromkeys(map(type, rows)):
        yield kind, iter(arrow_rows(kind, [row for row in rows if type(row) is kind]).to_batches())


def _of_run(
    run: Run, now: datetime, session_id: str, replies: Replies, found: Found
) -> Iterator[tuple[type, _Batches]]:
    """The dialogues, steps and verdicts of a run."""
    lengths = replies.places.replies.lengths
    yield (
        RunDialogueRow,
        (
            batch_of(RunDialogueRow, len(part.places), {"run_id": run.run_id, "dialogue_key": part.dialogues})
            for part in replies.parts
        ),
    )
    yield (
        StepRow,
        (
            batch_of(
                StepRow,
                len(part.places),
                {
                    "run_id": run.run_id,
                    "target_key": replies.target.key,
                    "dialogue_key": part.dialogues,
                    "turn": list(lengths[part.places.start : part.places.stop]),
                    "request_hash": part.keys,
                },
            )
            for part in replies.parts
        ),
    )
    if run.judge is not None:
        yield VerdictRow, _verdicts(run, now, session_id, replies, found)


def _verdicts(run: Run, now: datetime, session_id: str, replies: Replies, found: Found) -> _Batches:
    """The labels of a run. What nobody knows of them is NULL, and never 0."""
    judge = "" if run.judge is None else run.judge.judge_key
    outcomes = replies.places.replies.outcomes
    for part in replies.parts:
        given = [
            (label, dialogue, key, text)
            for place, dialogue, key, text in _rows(part)
            if (label := said_of(outcomes[place], run.labels[place])) is not None
        ]
        yield batch_of(
            VerdictRow,
            len(given),
            {
                "verdict_hash": [
                    imported_key("verdict", judge, key, label.label, label.reason)
                    for label, _, key, _ in given
                ],
                "judge_key": judge,
                "request_hash": [key for _, _, key, _ in given],
                "dialogue_key": [dialogue for _, dialogue, _, _ in given],
                "run_id": run.run_id,
                "session_id": session_id,
                "label": [label.label for label, *_ in given],
                "reason": [label.reason for label, *_ in given],
                "explanation": [label.said for label, *_ in given],
                "recorded_at": now,
                "reply_hash": [text for *_, text in given],
                "imported_from": found.source,
            },
        )


def _rows(part: Part) -> Iterator[tuple[int, str, str, str | None]]:
    """Place, key of the dialogue, key of the reply and hash of the text."""
    columns = (part.dialogues, part.keys, part.texts)
    return zip(part.places, *(values.to_pylist() for values in columns), strict=True)


def _turns(store: Store, replies: Replies, run_id: str, what: _Import) -> Iterator[tuple[type, _Batches]]:
    """The dialogues and replies that the store does not have yet."""
    places = replies.places
    known = store.known_of("dialogues", "dialogue_key", replies.column("dialogues"))
    turns = store.known_of("turns", "request_hash", replies.column("keys"))
    yield DialogueRow, _dialogues(places, known)
    yield TurnRow, _replies(replies, turns, run_id, what)


def _dialogues(places: Places, known: set[str]) -> _Batches:
    for part in parts(len(places.replies)):
        rows = [places.dialogue(places.replies.at(place)) for place in part]
        yield from arrow_rows(
            DialogueRow, [row for row in rows if row.dialogue_key not in known]
        ).to_batches()


def _replies(replies: Replies, known: set[str], run_id: str, what: _Import) -> _Batches:
    """What nobody knows of them is NULL, and never 0."""
    places = replies.places
    session_id = uuid.uuid4().hex[:12]
    for part in replies.parts:
        new = [
            (places.replies.at(place), key, text) for place, _, key, text in _rows(part) if key not in known
        ]
        records = [record for record, _, _ in new]
        yield batch_of(
            TurnRow,
            len(new),
            {
                "request_hash": [key for _, key, _ in new],
                "attempt": 1,
                "run_id": run_id,
                "session_id": session_id,
                "target_key": replies.target.key,
                "outcome": [one.outcome for one in records],
                "text": [one.text for one in records],
                "error": [one.error for one in records],
                "resolved_model": [one.model for one in records],
                "started_at": what.now,
                "request": [places.request(one) for one in records],
                "refusal_rule": [
                    refusal_of(one.text) if one.text and Outcome(one.outcome).observed else None
                    for one in records
                ],
                "error_code": [one.error_code for one in records],
                "reply_hash": [text for _, _, text in new],
                "imported_from": what.found.source,
            },
        )


def _people(store: Store, replies: Replies, asked: Asked) -> list[tuple[int, str, str]]:
    """The labels of people that the store does not have yet: place of the reply, person and label."""
    of_replies = replies.places.replies
    given = [
        (place, name, label)
        for place, (outcome, labels) in enumerate(zip(of_replies.outcomes, of_replies.labels, strict=True))
        for name, label in of_people(outcome, labels, asked)
    ]
    if not given:
        return []
    known = {
        tuple(row)
        for row in store.query(
            """SELECT request_hash, dialogue_key, annotator, arg_max(label, recorded_at) FROM human_labels
               GROUP BY ALL"""
        ).rows
    }
    return [
        (place, name, label)
        for place, name, label in given
        if (*_about(replies, place), name, label) not in known
    ]


def _people_rows(people: Sequence[tuple[int, str, str]], replies: Replies, what: _Import) -> _Batches:
    for part in parts(len(people)):
        some = people[part.start : part.stop]
        rows = [
            HumanLabelRow(
                *(*_about(replies, place), "", name, label),
                *(what.now, replies.at(place)[2], what.found.source),
            )
            for place, name, label in some
        ]
        yield from arrow_rows(HumanLabelRow, rows).to_batches()


def _about(replies: Replies, place: int) -> tuple[str, str]:
    dialogue, key, _ = replies.at(place)
    return key, dialogue


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
