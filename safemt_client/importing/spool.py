"""Records on the disk between reading and writing: an import holds none of their texts in memory."""

from __future__ import annotations

import json
import marshal
import tempfile
from array import array
from collections.abc import Iterator
from typing import Any, BinaryIO, NamedTuple, cast

from safemt_client.importing.found import Key, Record
from safemt_client.providers.errors import InputError

__all__ = ["Content", "Kept", "Message", "Spool"]

Message = tuple[str, str, tuple[str, ...]]
"""Role, text and the paths of pictures."""


_WINDOW = 2**18
"""Bytes that are read at once, at most."""


class Content(NamedTuple):
    """What a record has of its dialogue besides the messages."""

    scenario: str | None
    source: str | None
    method: str | None
    benign: bool | None
    question: str | None


class Kept(NamedTuple):
    """A record as `Spool` has it: plain values alone. `messages` is None where the file does not have them.

    `paired` is the number of user turns by which it is found: of a control, those of its original.
    """

    where: str
    item_id: str
    length: int
    paired: int
    condition: str | None
    text: str | None
    outcome: str
    error: str | None
    error_code: str | None
    model: str | None
    labels: tuple[tuple[str, str | None, bool, str | None, str | None], ...]
    content: tuple[str | None, str | None, str | None, bool | None, str | None]
    """The fields of `Content`."""
    messages: tuple[Message, ...] | None
    scripted: bool
    extra: str

    @property
    def key(self) -> Key:
        """What tells dialogues apart."""
        return self.item_id, self.paired, self.condition


class Spool:
    """Records in a file without a name, in the order in which they came. Use as a context manager."""

    def __init__(self) -> None:
        try:
            self._file = cast(BinaryIO, tempfile.TemporaryFile(prefix="safemt-import-"))  # noqa: SIM115
        except OSError as error:
            raise _full(error) from None
        self._ends = array("Q", [0])
        self._window, self._begin = memoryview(b""), 0
        self._last = self._ahead = 0

    def __enter__(self) -> Spool:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def __len__(self) -> int:
        return len(self._ends) - 1

    def add(self, record: Record) -> None:
        """Append a record. All are added before the first is read.

        Raises:
            InputError: the disk is full.
        """
        data = marshal.dumps(tuple(_kept(record)))
        try:
            self._file.write(data)
        except OSError as error:
            raise _full(error) from None
        self._ends.append(self._ends[-1] + len(data))

    def at(self, number: int) -> Kept:
        """A record, counted from 0.

        Raises:
            InputError: the disk is full.
        """
        begin, end = self._ends[number], self._ends[number + 1]
        if begin < self._begin or end > self._begin + len(self._window):
            # One after the other they are read by more and more, else each by itself.
            self._ahead = min(_WINDOW, 2 * max(self._ahead, end - begin)) if begin == self._last else 0
            size = max(end - begin, self._ahead)
            try:
                self._file.seek(begin)
                self._window = memoryview(self._file.read(size))
            except OSError as error:
                raise _full(error) from None
            self._begin = begin
        self._last = end
        return Kept._make(marshal.loads(self._window[begin - self._begin : end - self._begin]))

    def most_bytes(self, count: int) -> int:
        """The most that so many records have, one after the other."""
        last = len(self._ends) - 1
        return max(self._ends[min(last, n + count)] - self._ends[n] for n in range(0, last + 1, count))

    def __iter__(self) -> Iterator[Kept]:
        return map(self.at, range(len(self)))


def _full(error: OSError) -> InputError:
    return InputError(
        f"{tempfile.gettempdir()}: {error.strerror}: free some space, or set TMPDIR to another folder"
    )


def _first(one: Any, other: Any) -> Any:
    return other if one is None else one


def _kept(record: Record) -> Kept:
    dialogue, get = record.dialogue, record.about.get
    named = get("scenario"), get("source"), get("method"), get("benign"), get("question")
    if dialogue is not None:
        of_dialogue = (
            *(dialogue.scenario, dialogue.source, dialogue.method),
            *(dialogue.benign, dialogue.question),
        )
        named = tuple(map(_first, named, of_dialogue))
    _, paired, condition = record.key
    return Kept(
        record.where,
        record.item_id,
        record.length,
        paired,
        condition,
        record.text,
        record.outcome.value,
        record.error,
        None if record.error_code is None else str(record.error_code),
        record.model,
        tuple((label.label, label.by, label.person, label.reason, label.said) for label in record.labels),
        named,
        None if dialogue is None else tuple((m.role, m.text, m.images) for m in dialogue.messages),
        dialogue is not None and dialogue.scripted,
        "{}"
        if dialogue is None or not dialogue.extra
        else json.dumps(dict(dialogue.extra), ensure_ascii=False, default=str),
    )
