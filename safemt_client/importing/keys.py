"""The keys of imported replies, and the runs that they and their labels make."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

import pyarrow as pa

from safemt_client.importing.found import Found, Label
from safemt_client.importing.labelling import judge_key
from safemt_client.importing.placing import Places
from safemt_client.importing.spool import Kept
from safemt_client.planning.target import Target
from safemt_client.providers.types import Outcome, reply_hash
from safemt_client.results.store.columns import column
from safemt_client.results.store.imported import IDENTITY, imported_key, unknown_reply_hash
from safemt_client.results.store.rows import JudgeRow

__all__ = ["PART", "Replies", "Run", "keyed", "parts", "runs_of"]

PART = 2048
"""Replies that are held at once."""


@dataclass(frozen=True)
class Replies:
    """The replies of a target, in their order: columns of the keys of dialogues and replies, and of texts.

    Of a text it is the hash, NULL where nothing was observed.
    """

    target: Target
    places: Places
    dialogues: pa.Array
    keys: pa.Array
    texts: pa.Array

    def __len__(self) -> int:
        return len(self.keys)


@dataclass(frozen=True)
class Run:
    """The run of one judge's labels, or of none; `labels` are those of the replies in their order."""

    run_id: str
    fingerprint: str
    judge: JudgeRow | None
    labels: Sequence[Label | None]


def parts(count: int) -> Iterator[range]:
    """The places of so many replies, in parts."""
    return (range(begin, min(count, begin + PART)) for begin in range(0, count, PART))


def keyed(places: Places, target: Target) -> Replies:
    """The keys of all replies if they are those of a target."""
    found: tuple[list[pa.Array], ...] = ([], [], [])
    records = iter(places.replies)
    while part := list(islice(records, PART)):
        dialogues = [places.dialogue_key(record) for record in part]
        keys = [
            imported_key("reply", target.key, dialogue, places.request(record), record.outcome, record.text)
            for dialogue, record in zip(dialogues, part, strict=True)
        ]
        texts = [_text_hash(record, key) for record, key in zip(part, keys, strict=True)]
        found[0].append(column("str", dialogues))
        found[1].append(column("str", keys))
        found[2].append(column("str", texts))
    return Replies(target, places, *(pa.concat_arrays(columns) for columns in found))


def _text_hash(record: Kept, key: str) -> str | None:
    if not Outcome(record.outcome).observed:
        return None
    return unknown_reply_hash(key) if record.text is None else reply_hash(record.text)


def runs_of(replies: Replies, found: Found, judges: Mapping[str, Sequence[Label | None]]) -> list[Run]:
    """A run for the labels of each judge, or one without labels."""
    runs = []
    for name, labels in judges.items() or ((None, [None] * len(replies)),):
        fingerprint = _fingerprint(replies, name, labels)
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
        runs.append(Run(fingerprint[:12], fingerprint, judge, labels))
    return runs


def _fingerprint(replies: Replies, name: str | None, labels: Sequence[Label | None]) -> str:
    """SHA-256 of the JSON of what makes a run, of which no more than a part is held."""
    # The keys say which dialogues they are of.
    head = json.dumps(["imported", replies.places.digest, replies.target.key, name])
    found = hashlib.sha256(f"{head[:-1]}, ".encode())
    keys = (
        f'"{key}"' for part in parts(len(replies)) for key in replies.keys[part.start : part.stop].to_pylist()
    )
    said = (
        "null" if label is None else json.dumps([label.label, label.reason, label.said]) for label in labels
    )
    for values, end in ((keys, ", "), (said, "]")):
        found.update(b"[")
        for number, chunk in enumerate(_chunks(values)):
            found.update(((", " if number else "") + ", ".join(chunk)).encode())
        found.update(f"]{end}".encode())
    return found.hexdigest()


def _chunks(values: Iterable[str]) -> Iterator[list[str]]:
    values = iter(values)
    while chunk := list(islice(values, PART)):
        yield chunk
