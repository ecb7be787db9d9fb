"""Replies and labels as a table: CSV, JSON lines or Parquet with a row for each reply or label.

Columns: `id`, `turns`, `reply` and `label`; and where there are any `question`, `prompt` or `messages`,
`picture`, `scenario`, `source`, `method`, `benign`, `error`, `model`, and `judge` or `annotator`, who
gave the label.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from safemt_client.datasets.files import is_utf8, shown
from safemt_client.datasets.model import Dialogue, Oddity
from safemt_client.datasets.records import read_record
from safemt_client.datasets.rows import rows
from safemt_client.importing.formats.reference import about
from safemt_client.importing.found import LEFT_OUT, Asked, Found, Label, Record, no_answers
from safemt_client.importing.spool import Spool
from safemt_client.providers.errors import InputError
from safemt_client.providers.types import Outcome

__all__ = ["read"]

_SAID = ("dialogue", "messages", "conversations", "conversation", "prompt")
_OURS = ("reply", "label", "judge", "annotator", "error", "model")
_ABOUT = ("id", "turns", "question", "scenario", "source", "method", "benign")
_MOST_NAMED = 10


def read(paths: Sequence[Path], asked: Asked, form: str, spool: Spool) -> Found:
    """The rows of tables; with a column `model` that names several, those of the target.

    Raises:
        InputError: a table cannot be read, or a row is wrong.
    """
    if (folder := next((path for path in paths if path.is_dir()), None)) is not None:
        raise InputError(f"{folder}: is a folder: name the files")
    columns: dict[str, None] = {}
    bare: dict[str, None] = {}
    models: Counter[str | None] = Counter()
    counts: Counter[tuple[str | None, str]] = Counter()
    for path in paths:
        for where, row in rows(path):
            if isinstance(row, InputError):
                raise row
            if not isinstance(row, dict):
                raise InputError(f"{where}: is not a JSON object: write one with id, turns, reply and label")
            if row.keys() != columns.keys():
                columns |= dict.fromkeys(row)
            record = _record(row, where, asked)
            spool.add(record)
            # What else stands beside a dialogue is kept with it.
            if record.dialogue is None and row.keys() != bare.keys():
                bare |= dict.fromkeys(row)
            models[record.model] += 1
            if record.outcome is not Outcome.ANSWERED:
                counts[record.model, record.outcome.value] += 1
                counts[record.model, LEFT_OUT] += any(label.reason is None for label in record.labels)
    if not models:
        raise InputError(f"{paths[0]}: has no rows: name a file with some")
    _check_columns(paths[0], columns, asked)
    model = _of_target(paths[0], models, asked)
    left_out = 0 if model is None else models.total() - models[model]
    notes = [f"{left_out:,} rows of other models are left out"] if left_out else []
    if others := _of_model(counts, model):
        notes.append(no_answers(others))
    if unread := set(bare) - {*_SAID, *(asked.name(name) for name in (*_OURS, *_ABOUT))}:
        more = f" and {len(unread) - _MOST_NAMED:,} more" if len(unread) > _MOST_NAMED else ""
        named = ", ".join(map(shown, sorted(unread)[:_MOST_NAMED]))
        notes.append(f"columns that are not read: {named}{more}; --field names one that is called otherwise")
    return Found(form, tuple(paths), paths[0].parent, model=model, notes=tuple(notes))


def _of_model(counts: Mapping[tuple[str | None, str], int], model: str | None) -> Counter[str]:
    """What is counted of a model, or of all."""
    found: Counter[str] = Counter()
    for (name, what), n in counts.items():
        if model is None or name == model:
            found[what] += n
    return found


def _check_columns(path: Path, columns: Collection[str], asked: Asked) -> None:
    for name, given in asked.fields.items():
        if given not in columns:
            raise InputError(f"--field {name}={given}: {path} has {', '.join(list(columns)[:20])}")
    if not {asked.name("reply"), asked.name("label")} & set(columns):
        raise InputError(
            f"{path}: has no column reply or label: name those that it has, such as --field reply=NAME"
        )


def _of_target(path: Path, models: Iterable[str | None], asked: Asked) -> str | None:
    """The target, where the rows name several models; None if all rows count."""
    named = [model for model in models if model is not None]
    if len(named) < 2:
        return None
    if asked.target not in named:
        known = ", ".join(named[:10])
        raise InputError(
            f"--target {asked.target}: column {asked.name('model')} of {path} has {known}: name one"
        )
    return asked.target


def _record(row: Mapping[str, Any], where: str, asked: Asked) -> Record:
    item = row.get(asked.name("id"))
    if isinstance(item, int | float) and not isinstance(item, bool):
        item = f"{item:g}" if isinstance(item, float) else str(item)
    if not isinstance(item, str) or not item or not is_utf8(item):
        raise InputError(
            f"{where}: field {asked.name('id')}: must be a string: add one, or name it by --field id=NAME"
        )
    where = f"{where} ({shown(item)})"
    dialogue = _dialogue(row, item, where, asked)
    length = _length(row, dialogue, where, asked)
    text, outcome, error = _reply(row, where, asked)
    label = _label(row, where, asked)
    model = row.get(asked.name("model"))
    return Record(
        where,
        item,
        length,
        text,
        outcome,
        error,
        labels=() if label is None else (label,),
        dialogue=dialogue,
        about=about(
            {
                name: row.get(asked.name(name))
                for name in ("question", "scenario", "source", "method", "benign")
            },
            where,
        ),
        model=None if model in (None, "") else sys.intern(str(model)),
    )


def _dialogue(row: Mapping[str, Any], item: str, where: str, asked: Asked) -> Dialogue | None:
    """The messages before the reply, where the row has them."""
    turns, picture = asked.name("turns"), asked.name("picture")
    users = isinstance(row.get(turns), list)
    if not users and not any(row.get(name) for name in _SAID):
        return None
    used = {turns, *(asked.name(name) for name in _OURS)}
    record = {name: value for name, value in row.items() if name not in used and value is not None}
    if users:
        record["turns"] = row[turns]
    if (shown_picture := record.pop(picture, None)) is not None:
        record["image_path"] = shown_picture
    return read_record(record | {"id": item}, where, list[Oddity]())


def _length(row: Mapping[str, Any], dialogue: Dialogue | None, where: str, asked: Asked) -> int:
    name = asked.name("turns")
    given = row.get(name)
    if isinstance(given, list) and dialogue is not None:
        return dialogue.length
    if isinstance(given, float) and given.is_integer():
        given = int(given)
    text = str(given) if isinstance(given, str | int) and not isinstance(given, bool) else ""
    number = int(text) if text.isascii() and text.isdigit() and len(text) < 5 else 0
    if given in (None, "") and dialogue is not None:
        return dialogue.length
    if number < 1:
        raise InputError(
            f"{where}: field {name}: must be the number of user turns, from 1, not {shown(given)}"
        )
    if dialogue is not None and dialogue.length != number:
        raise InputError(
            f"{where}: field {name}: says {number}, and the messages have {dialogue.length} user turns: "
            "correct one of the two"
        )
    return number


def _reply(row: Mapping[str, Any], where: str, asked: Asked) -> tuple[str | None, Outcome, str | None]:
    """The reply, its outcome, and what went wrong; a table without the column does not know the reply."""
    name = asked.name("reply")
    error = row.get(asked.name("error"))
    if error not in (None, ""):
        return "", Outcome.ERROR_PERMANENT, str(error)[:500]
    if name not in row:
        return None, Outcome.ANSWERED, None
    text = row[name]
    if text is None or text == "":
        return "", Outcome.EMPTY, None
    if not isinstance(text, str):
        raise InputError(f"{where}: field {name}: must be a string")
    return text, Outcome.ANSWERED, None


def _label(row: Mapping[str, Any], where: str, asked: Asked) -> Label | None:
    name = asked.name("label")
    if name not in row:
        return None
    label = asked.labels.read(row[name])
    if label.reason == "invalid_label":
        raise InputError(
            f"{where}: field {name}: {shown(label.said)}: write safe, unsafe or unscored, or say what it "
            "means by --safe WORD or --unsafe WORD"
        )
    person = row.get(asked.name("annotator"))
    if person not in (None, ""):
        return replace(label, by=str(person), person=True)
    judge = row.get(asked.name("judge"))
    return label if judge in (None, "") else replace(label, by=str(judge))
