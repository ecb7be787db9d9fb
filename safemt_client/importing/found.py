"""What a file says of replies and labels, whatever its format."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from safemt_client.datasets.model import Dialogue
from safemt_client.providers.error_codes import ErrorCode
from safemt_client.providers.types import Outcome

__all__ = ["LEFT_OUT", "Asked", "Found", "Key", "Label", "Labels", "Record", "no_answers"]

_SHORT = 40
"""Characters of labels that are kept as read: there are few of them."""

Key = tuple[str, int, str | None]
"""What tells dialogues apart: item, number of user turns and condition.

A control has a condition, and the number of user turns of its original.
"""


@dataclass(frozen=True, slots=True)
class Label:
    """What somebody said of a reply. `by` is None where the file does not name who it was.

    `reason` says why it is unscored: `no_label` or `invalid_label`; `said` is what stands in the file then,
    else why the label was given.
    """

    label: str
    by: str | None = None
    person: bool = False
    reason: str | None = None
    said: str | None = None


@dataclass(frozen=True, slots=True)
class Record:
    """A reply at `where` in a file. Its `text` is None where the file has only labels of it.

    `dialogue` has the messages before the reply, None where the file does not have them; `model` is what the
    file says who answered.
    """

    where: str
    item_id: str
    length: int
    text: str | None
    outcome: Outcome = Outcome.ANSWERED
    error: str | None = None
    error_code: ErrorCode | None = None
    labels: tuple[Label, ...] = ()
    dialogue: Dialogue | None = None
    about: Mapping[str, Any] = field(default_factory=dict)
    """`question`, `scenario`, `source`, `method` and `benign`, as far as the file has them."""
    model: str | None = None

    @property
    def key(self) -> Key:
        """What tells dialogues apart."""
        if self.dialogue is None or self.dialogue.condition is None:
            return self.item_id, self.length, None
        return self.item_id, self.dialogue.paired_length, self.dialogue.condition


@dataclass(frozen=True)
class Found:
    """What the files of a format say beside their records. `folder` is where their pictures' paths begin.

    `model` is the one whose records count, None if all do. `notes` are sentences about what was left out or
    read in a special way; `decides` names whose labels count where there are several judges, if the files say
    so.
    """

    form: str
    files: tuple[Path, ...]
    folder: Path
    history: str = "unknown"
    model: str | None = None
    notes: tuple[str, ...] = ()
    decides: str | None = None

    @property
    def source(self) -> str:
        """The format and the names of the files, without their folders."""
        names = list(dict.fromkeys(path.name for path in self.files))
        more = f" and {len(self.files) - 1} more" if len(self.files) > 1 else ""
        return f"{self.form} {names[0]}{more}"


@dataclass(frozen=True)
class Labels:
    """Which words of a file mean safe and unsafe.

    `exact` is how the reference compares them: `Safe` is none of its labels. Otherwise cases and white space
    around a word do not count.
    """

    safe: tuple[str, ...] = ("safe",)
    unsafe: tuple[str, ...] = ("unsafe",)
    exact: bool = False

    def read(self, value: Any) -> Label:
        """The label of a value, which need not be a text."""
        return _read(self, value) if isinstance(value, str) and len(value) < _SHORT else self._read(value)

    def _read(self, value: Any) -> Label:
        if value is None or value == "":
            return Label("unscored", reason="no_label")
        said = _text(value)
        word = said if self.exact else said.strip().lower()
        for label, words in (("safe", self.safe), ("unsafe", self.unsafe)):
            if word in words or (not self.exact and word in map(str.lower, words)):
                return Label(label)
        if word in ("unscored", "unjudged"):
            return Label("unscored", reason="no_label")
        return Label("unscored", reason="invalid_label", said=said[:200])


@dataclass(frozen=True)
class Asked:
    """What the user says of an import: the `target` that answered, and how the files are to be read.

    `fields` maps this program's names of fields to the file's; `label_by` is the judge whose labels they are,
    or that decides where a file has several; `people` is the person, where a person gave them.
    """

    target: str
    labels: Labels = Labels()
    fields: Mapping[str, str] = field(default_factory=dict)
    label_by: str | None = None
    people: str | None = None

    def name(self, field_: str, default: str | None = None) -> str:
        """The file's name of a field."""
        return self.fields.get(field_, default or field_) if self.fields else default or field_


@lru_cache(1000)
def _read(labels: Labels, value: str) -> Label:
    return labels._read(value)


def _text(value: Any) -> str:
    """A value as a user would write it: a number without needless digits, JSON's words for the rest."""
    if isinstance(value, str):
        return value
    if isinstance(value, float):
        return f"{value:g}"
    return json.dumps(value, ensure_ascii=False)


LEFT_OUT = "labels"
"""Under this name the labels of what is no answer are counted."""


def no_answers(counts: Mapping[str, int], said: str = "no answers") -> str:
    """A sentence about replies that are none, by their kind, and the labels that they had."""
    listed = ", ".join(f"{n:,} {name}" for name, n in counts.items() if name != LEFT_OUT and n)
    left = counts.get(LEFT_OUT, 0)
    return f"{said}: {listed}" + (f"; {left:,} labels of these are left out" if left else "")
