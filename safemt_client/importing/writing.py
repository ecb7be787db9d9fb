"""The rows of an import, written in one transaction: a kill leaves all of them or none."""

from __future__ import annotations

import hashlib
import json
import uuid
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from safemt_client import __version__
from safemt_client.importing.earlier import Contents, check_unchanged, earlier_import
from safemt_client.importing.found import Asked, Found, Label
from safemt_client.importing.labelling import by_judge, judge_key, label_counts, of_people, said_of
from safemt_client.importing.placing import Placed, Places
from safemt_client.judges.refusal import refusal_of
from safemt_client.planning.target import Target, digest_of
from safemt_client.providers.errors import InputError
from safemt_client.providers.types import Sampling, reply_hash
from safemt_client.results.store.imported import IDENTITY, imported_key, unknown_reply_hash
from safemt_client.results.store.rows import (
    EventRow,
    HumanLabelRow,
    ImageRow,
    JudgeRow,
    Row,
    RunDialogueRow,
    RunRow,
    StepRow,
    TurnRow,
    VerdictRow,
)
from safemt_client.results.store.store import Store

__all__ = ["Imported", "save"]


_UNKNOWN_OF_A_REPLY: Mapping[str, Any] = dict.fromkeys(
    (
        *("reasoning", "finish_reason", "status_code", "response_id", "prompt_tokens", "completion_tokens"),
        *("reasoning_tokens", "cached_tokens", "cost_usd", "latency_s", "raw", "batch_key"),
    )
)
_UNKNOWN_OF_A_LABEL: Mapping[str, Any] = dict.fromkeys(
    (
        *("refusal", "raw", "prompt_tokens", "completion_tokens", "cost_usd", "latency_s", "cached_tokens"),
        *("rubric", "refusal_kind", "category", "severity", "specificity", "confidence", "batch_key"),
    )
)
"""The columns that nobody knows of what was imported: NULL, and never 0."""


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
class _Run:
    """The run of one judge's labels, or of none; `labels` are those of the replies in their order."""

    run_id: str
    fingerprint: str
    judge: JudgeRow | None
    labels: Sequence[Label | None]


def save(store: Store, found: Found, places: Places, asked: Asked, *, new_run: bool = False) -> Imported:
    """Write what was read as runs of an imported target.

    Raises:
        InputError: the store has another version of the replies, and no new run was asked for.
        StoreError: the store cannot be written.
    """
    now = datetime.now(UTC)
    judges = by_judge(places.placed, found, asked)
    earlier = earlier_import(store, asked.target)
    existing = store.known_keys("runs", "run_id")
    sample = max(0, earlier.sample)
    for known in range(sample, -1, -1):
        replies = _replies(places.placed, _target(found, asked, known, now))
        runs = _runs(places, replies, found, judges)
        if all(run.run_id in existing for run in runs):
            break
    else:
        replies = _replies(places.placed, _target(found, asked, sample, now))
        try:
            check_unchanged(earlier, _contents(replies, judges), asked.target, str(found.files[0]))
        except InputError:
            if not new_run:
                raise
            replies = _replies(places.placed, _target(found, asked, sample + 1, now))
        runs = _runs(places, replies, found, judges)
    rows = [
        row
        for place, run in enumerate(runs)
        if run.run_id not in existing
        for row in _rows_of_run(run, places, replies, found, now + timedelta(microseconds=2 * place))
    ]
    fresh = [*rows, *_people(store, replies, asked, found, now)]
    if rows:
        fresh += _turns(store, places, replies, runs[0].run_id, found, now)
    if fresh:
        store.save_now(*fresh)
    return Imported(
        tuple(run.run_id for run in runs),
        asked.target,
        found.source,
        len(places.placed),
        Counter(one.record.length for one in places.placed),
        Counter(one.record.outcome.value for one in places.placed),
        label_counts(places.placed, judges, asked),
        (*found.notes, *places.notes),
        texts=sum(bool(one.record.text) for one in places.placed),
        nothing_new=not fresh,
    )


def _target(found: Found, asked: Asked, sample: int, now: datetime) -> Target:
    return Target(
        asked.target,
        IDENTITY + asked.target,
        "scripted" if found.history == "scripted" else "none" if found.history == "none" else "unknown",
        "unknown",
        Sampling(temperature=None),
        sample,
        imported_from=found.source,
        imported_at=now,
    )


@dataclass(frozen=True)
class _Replies:
    """The replies of a target, each with its key and the hash of its text, None where none was observed."""

    target: Target
    placed: Sequence[Placed]
    keys: Sequence[str]
    texts: Sequence[str | None]

    def __iter__(self) -> Iterator[tuple[Placed, str, str | None]]:
        return zip(self.placed, self.keys, self.texts, strict=True)


def _replies(placed: Sequence[Placed], target: Target) -> _Replies:
    keys = [
        imported_key(
            *("reply", target.key, one.dialogue.dialogue_key),
            *(one.request, one.record.outcome.value, one.record.text),
        )
        for one in placed
    ]
    return _Replies(target, placed, keys, [_text_hash(*pair) for pair in zip(placed, keys, strict=True)])


def _runs(
    places: Places, replies: _Replies, found: Found, judges: Mapping[str, Sequence[Label | None]]
) -> list[_Run]:
    runs = []
    for name, labels in judges.items() or ((None, [None] * len(replies.keys)),):
        said = [label and [label.label, label.reason, label.said] for label in labels]
        # The keys say which dialogues they are of.
        fingerprint = digest_of(["imported", places.digest, replies.target.key, name, replies.keys, said])
        judge = None
        if name is not None:
            judge = JudgeRow(
                *(
                    fingerprint[:12],
                    judge_key(name),
                    name,
                    IDENTITY + name,
                    "unknown",
                    "unknown",
                    "{}",
                    None,
                ),
                role="decides",
                position=0,
                imported_from=found.source,
            )
        runs.append(_Run(fingerprint[:12], fingerprint, judge, labels))
    return runs


def _text_hash(one: Placed, request_hash: str) -> str | None:
    if not one.record.outcome.observed:
        return None
    return unknown_reply_hash(request_hash) if one.record.text is None else reply_hash(one.record.text)


def _contents(found: _Replies, judges: Mapping[str, Sequence[Label | None]]) -> Contents:
    places = [one.record.key for one in found.placed]
    replies = {
        place: (one.record.outcome.value, None if one.record.text is None else said)
        for place, (one, _, said) in zip(places, found, strict=True)
    }
    labels = {
        (place, judge_key(name)): (said.label, said.reason)
        for name, given in judges.items()
        for place, one, label in zip(places, found.placed, given, strict=True)
        if (said := said_of(one, label)) is not None
    }
    return Contents(replies, labels)


def _rows_of_run(run: _Run, places: Places, replies: _Replies, found: Found, now: datetime) -> Iterator[Row]:
    """What is of the run itself: its settings, targets, judge, dialogues, steps and verdicts."""
    files = [{"name": path.name, "sha256": _digest(path.read_bytes())} for path in found.files]
    settings = {"imported": {"format": found.form, "files": files}}
    yield RunRow(
        run.run_id,
        run.fingerprint,
        now,
        __version__,
        *(places.name, places.digest, places.path, places.licence),
        json.dumps(settings, sort_keys=True),
    )
    yield replies.target.row(run.run_id)
    if run.judge is not None:
        yield run.judge
    session_id = uuid.uuid4().hex[:12]
    detail = json.dumps(settings)
    yield EventRow(run.run_id, session_id, now, "started", detail)
    yield EventRow(run.run_id, session_id, now + timedelta(microseconds=1), "finished", detail)
    for (one, key, text_hash), label in zip(replies, run.labels, strict=True):
        dialogue_key = one.dialogue.dialogue_key
        yield RunDialogueRow(run.run_id, dialogue_key, None)
        yield StepRow(run.run_id, replies.target.key, dialogue_key, one.record.length, key)
        said = said_of(one, label)
        if run.judge is not None and said is not None:
            yield VerdictRow(
                verdict_hash=imported_key("verdict", run.judge.judge_key, key, said.label, said.reason),
                judge_key=run.judge.judge_key,
                request_hash=key,
                dialogue_key=dialogue_key,
                run_id=run.run_id,
                session_id=session_id,
                label=said.label,
                reason=said.reason,
                explanation=said.said,
                recorded_at=now,
                reply_hash=text_hash,
                imported_from=found.source,
                **_UNKNOWN_OF_A_LABEL,
            )


def _turns(
    store: Store, places: Places, replies: _Replies, run_id: str, found: Found, now: datetime
) -> Iterator[Row]:
    """The replies, dialogues and pictures that the store does not have yet."""
    turns = {
        key for (key,) in store.query("SELECT request_hash FROM turns WHERE imported_from IS NOT NULL").rows
    }
    dialogues = store.known_keys("dialogues", "dialogue_key")
    images = store.known_keys("images", "sha256")
    for path, image in places.images.items():
        if image.size and image.sha256 not in images:
            images.add(image.sha256)
            yield ImageRow(
                *(image.sha256, image.media_type, image.size, image.width, image.height),
                path,
                image.preparation,
            )
    session_id = uuid.uuid4().hex[:12]
    for one, key, text_hash in replies:
        record = one.record
        if one.dialogue.dialogue_key not in dialogues:
            yield one.dialogue
        if key not in turns:
            yield TurnRow(
                request_hash=key,
                attempt=1,
                run_id=run_id,
                session_id=session_id,
                target_key=replies.target.key,
                outcome=record.outcome.value,
                text=record.text,
                error=record.error,
                resolved_model=record.model,
                started_at=now,
                request=one.request,
                refusal_rule=refusal_of(record.text) if record.text and record.outcome.observed else None,
                error_code=record.error_code,
                reply_hash=text_hash,
                imported_from=found.source,
                **_UNKNOWN_OF_A_REPLY,
            )


def _people(
    store: Store, replies: _Replies, asked: Asked, found: Found, now: datetime
) -> Iterator[HumanLabelRow]:
    """The labels of people that the store does not have yet."""
    known = {
        tuple(row)
        for row in store.query(
            """SELECT request_hash, dialogue_key, annotator, arg_max(label, recorded_at) FROM human_labels
               GROUP BY ALL"""
        ).rows
    }
    for one, key, text_hash in replies:
        for name, label in of_people(one, asked):
            about = (key, one.dialogue.dialogue_key)
            if (*about, name, label) not in known:
                yield HumanLabelRow(*about, "", name, label, now, text_hash, found.source)


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
