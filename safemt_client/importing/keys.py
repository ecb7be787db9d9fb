"""The keys of imported replies, and the runs that they and their labels make."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

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

__all__ = ["Part", "Replies", "Run", "keyed", "parts", "runs_of"]

PART = 512
"""Replies that are held at once."""


class Part(NamedTuple):
    """Some of the replies: their places, and columns of the keys of their dialogues and of their own.

    `texts` are the hashes of their texts, NULL where nothing was observed.
    """

    places: range
    dialogues: pa.Array
    keys: pa.Array
    texts: pa.Array


@dataclass(frozen=True)
class Replies:
    """The replies of a target, in their order and in parts."""

    target: Target
    places: Places
    parts: Sequence[Part]

    def __len__(self) -> int:
        return len(self.places.replies)

    def column(self, name: str) -> pa.ChunkedArray:
        """A column of all parts."""
        return pa.chunked_array([getattr(part, name) for part in self.parts])

    def at(self, place: int) -> tuple[str, str, str | None]:
        """The keys of a dialogue and its reply, and the hash of the text."""
        part, within = self.parts[place // PART], place % PART
        return part.dialogues[within].as_py(), part.keys[within].as_py(), part.texts[within].as_py()


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
    found = []
    for part in parts(len(places.replies)):
        records = [places.replies.at(place) for place in part]
        dialogues = [places.dialogue_key(record) for record in records]
        keys = [
            imported_key("reply", target.key, dialogue, places.request(record), record.outcome, record.text)
            for dialogue, record in zip(dialogues, records, strict=True)
        ]
        texts = [_text_hash(record, key) for record, key in zip(records, keys, strict=True)]
        found.append(Part(part, *(column("str", values) for values in (dialogues, keys, texts))))
    return Replies(target, places, found)


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
    found.update(b"[")
    for number, part in enumerate(replies.parts):
        keys = ", ".join(f'"{key}"' for key in part.keys.to_pylist())
        found.update(((", " if number else "") + keys).encode())
    found.update(b"], [")
    for number, label in enumerate(labels):
        said = "null" if label is None else _json(label.label, label.reason, label.said)
        found.update(((", " if number else "") + said).encode())
    found.update(b"]]")
    return found.hexdigest()


@lru_cache(1000)
def _json(*texts: str | None) -> str:
    return json.dumps(texts)
