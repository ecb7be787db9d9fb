"""The records that are about one reply, brought together."""

from __future__ import annotations

import sys
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from safemt_client.importing.found import Key, Label
from safemt_client.importing.spool import Kept, Spool
from safemt_client.providers.errors import InputError

__all__ = ["Joined", "joined"]


@dataclass(frozen=True)
class Joined:
    """Replies, one for each item, length and condition: where each is in the spool, and what is short of it.

    `labels` are those of all records about the reply; `texts` is 1 where its text is known and not empty.
    """

    spool: Spool
    numbers: array[int]
    lengths: array[int]
    outcomes: list[str]
    labels: list[tuple[Label, ...]]
    texts: bytearray

    def __len__(self) -> int:
        return len(self.numbers)

    def __iter__(self) -> Iterator[Kept]:
        return map(self.spool.at, self.numbers)

    def at(self, place: int) -> Kept:
        """A reply, counted from 0."""
        return self.spool.at(self.numbers[place])

    def only(self, places: Sequence[int]) -> Joined:
        """Some of them, by their places here."""
        return Joined(
            self.spool,
            array("Q", (self.numbers[place] for place in places)),
            array("q", (self.lengths[place] for place in places)),
            [self.outcomes[place] for place in places],
            [self.labels[place] for place in places],
            bytearray(self.texts[place] for place in places),
        )


def joined(spool: Spool, model: str | None = None) -> Joined:
    """One reply for each item, length and condition, of the records of a model, or of all.

    Raises:
        InputError: two records give different replies, or different labels of one judge.
    """
    places: dict[Key, int] = {}
    found = Joined(spool, array("Q"), array("q"), [], [], bytearray())
    several: dict[int, dict[tuple[str | None, bool], Label]] = {}
    for number in range(len(spool)):
        record = spool.at(number)
        if model is not None and record.model != model:
            continue
        labels = _labels(record.labels)
        place = places.setdefault(record.key, len(found))
        if place == len(found):
            found.numbers.append(number)
            found.lengths.append(record.length)
            found.outcomes.append(sys.intern(record.outcome))
            found.labels.append(labels)
            found.texts.append(bool(record.text))
            continue
        first = spool.at(found.numbers[place])
        if not _one_reply(first, record):
            raise InputError(
                f"{record.where}: another reply of {record.item_id!r} with {record.length} turns than in "
                f"{first.where}: keep one, or import the other under another --target"
            )
        if first.text is None and record.text is not None:
            found.numbers[place], found.lengths[place] = number, record.length
            found.outcomes[place], found.texts[place] = sys.intern(record.outcome), bool(record.text)
        if place not in several:
            several[place] = {(label.by, label.person): label for label in found.labels[place]}
        _add(several[place], record.where, labels)
    for place, by_whom in several.items():
        found.labels[place] = tuple(by_whom.values())
    return found


@lru_cache(1000)
def _labels(labels: tuple[Any, ...]) -> tuple[Label, ...]:
    """Labels, of which most are those of others too; of texts that differ only these are held anew."""
    return tuple(
        Label(sys.intern(label), by and sys.intern(by), person, reason, said)
        for label, by, person, reason, said in labels
    )


def _one_reply(first: Kept, other: Kept) -> bool:
    if first.text is None or other.text is None:
        return True
    return (first.text, first.outcome) == (other.text, other.outcome)


def _add(known: dict[tuple[str | None, bool], Label], where: str, labels: Iterable[Label]) -> None:
    for label in labels:
        key = label.by, label.person
        before = known.get(key)
        if before is None or before.reason == "no_label":
            known[key] = label
        elif label.reason != "no_label" and label != before:
            raise InputError(
                f"{where}: has the label {label.label}, and another record of the same reply "
                f"{before.label}: keep one, or name who gave each in the column judge or annotator"
            )
