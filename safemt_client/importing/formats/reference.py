"""The result files of the SafeMT authors' scripts, and those that `export --format reference` writes.

`<k>/<model>.json` has the records of the data with `Dialog_Response`, `<k>/label/<model>.json` with
`safety_label` too; our own export has ids and labels alone, and benign items in `<k>/benign`.

What the scripts store in the stead of a reply is no answer: see `_NO_ANSWER`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from safemt_client.datasets.files import is_utf8, shown
from safemt_client.datasets.model import Oddity
from safemt_client.datasets.records import read_record
from safemt_client.datasets.rows import rows
from safemt_client.datasets.shapes import CONVERSATIONS
from safemt_client.importing.found import LEFT_OUT, Asked, Found, Label, Record, no_answers
from safemt_client.importing.spool import Spool
from safemt_client.providers.error_codes import ErrorCode
from safemt_client.providers.errors import InputError
from safemt_client.providers.types import Outcome

__all__ = ["about", "answer_of", "read"]

_REPLY, _LABEL = "Dialog_Response", "safety_label"
_KINDS = ("label", "benign")
_ABOUT = ("question", "scenario", "source", "method")
# What Python's decoders say of a body that is not JSON in UTF-8.
_NOT_JSON = re.compile(r"Error: ('\S+' codec can't decode .*|.*line \d+ column \d+ \(char \d+\))")
_NOT_A_BODY = "Error: ..."
_NO_ANSWER: Mapping[str, tuple[Outcome, ErrorCode | None, str]] = {
    "Avoid Policy": (
        Outcome.ERROR_PERMANENT,
        None,
        "a block or an error of the endpoint: the file has no more",
    ),
    "Read Time Out Error!": (Outcome.ERROR_TRANSIENT, ErrorCode.TIMEOUT, "no answer in time"),
    "": (Outcome.EMPTY, None, "an empty reply, or none"),
}
"""What the authors' scripts write where no answer came: outcome, kind of error and what is known of it."""


def read(paths: Sequence[Path], asked: Asked, spool: Spool) -> Found:
    """The replies and labels of one model, in all of its rounds below folders, or in the files themselves.

    Raises:
        InputError: there are none, or a record is wrong.
    """
    files = [file for path in paths for file in _files(path, asked.target)]
    reply, label = asked.name("reply", _REPLY), asked.name("label", _LABEL)
    asked = replace(asked, labels=replace(asked.labels, exact=True))
    counts: Counter[str] = Counter()
    # Replies first: what the files of labels have beside them may be less.
    for path in sorted(files, key=lambda path: path.parent.name in _KINDS):
        folder, benign = _round(path), path.parent.name == "benign"
        for where, record in rows(path):
            if isinstance(record, InputError):
                raise record
            item = _item(record, asked, where)
            if reply in record or label in record:
                found = _record(record, item, (where, folder), asked, counts)
                spool.add(replace(found, about={**found.about, "benign": True}) if benign else found)
            else:
                counts["neither"] += 1
    if not len(spool):
        raise InputError(
            f"{files[0]}: no record has the field {reply} or {label}: name those that it has, "
            f"such as --field reply=NAME --field label=NAME"
        )
    return Found(
        "reference",
        tuple(files),
        files[0].parent,
        history="scripted",
        notes=tuple(_notes(counts)),
    )


def _files(path: Path, target: str) -> Iterator[Path]:
    """The files of a target: the one that is named, or those of its name in the folders of the rounds."""
    if not path.is_dir():
        yield path
        return
    patterns = ("*/label/*.json", "*/benign/*.json", "*/*.json", "label/*.json", "benign/*.json", "*.json")
    found = [file for pattern in patterns for file in sorted(path.glob(pattern)) if _is_result(file)]
    if not found:
        raise InputError(
            f"{path}: has no files <turns>/label/MODEL.json or <turns>/MODEL.json: name such a file"
        )
    stems = sorted({file.stem for file in found})
    safe = re.sub(r"[^A-Za-z0-9._-]+", "_", target).strip(".")
    wanted = next((stem for stem in stems if stem in (target, safe)), stems[0] if len(stems) == 1 else None)
    if wanted is None:
        raise InputError(
            f"--target {target}: {path} has files of {', '.join(stems[:10])}: name one of them, or its files"
        )
    yield from (file for file in found if file.stem == wanted)


def _is_result(path: Path) -> bool:
    return path.is_file() and _round(path) is not None


def _round(path: Path) -> str | None:
    """The folder of a round that a file is in, by its number."""
    folder = path.resolve().parent
    folder = folder.parent if folder.name in _KINDS else folder
    return folder.name if folder.name.isascii() and folder.name.isdigit() else None


def _item(record: Any, asked: Asked, where: str) -> str:
    if not isinstance(record, dict):
        raise InputError(f"{where}: is not a JSON object: write one with id, {_REPLY} and {_LABEL}")
    name = asked.name("id")
    item = record.get(name)
    if isinstance(item, int) and not isinstance(item, bool):
        item = str(item)
    if not isinstance(item, str) or not item or not is_utf8(item):
        raise InputError(f"{where}: field {name}: must be a string: add one, or name it by --field id=NAME")
    return item


def _record(
    record: Mapping[str, Any],
    item: str,
    place: tuple[str, str | None],
    asked: Asked,
    counts: Counter[str],
) -> Record:
    where, folder = place
    where = f"{where} ({shown(item)})"
    reply, label = asked.name("reply", _REPLY), asked.name("label", _LABEL)
    rest = {name: value for name, value in record.items() if name not in (reply, label)}
    dialogue = None
    if any(record.get(name) for name in CONVERSATIONS):
        oddities: list[Oddity] = []
        dialogue = read_record(rest | {"id": item}, where, oddities)
    length = _length(record, None if dialogue is None else dialogue.length, folder, asked, where)
    if dialogue is not None and folder not in (None, str(length), "0"):
        counts["round"] += 1
    text = record.get(reply)
    if text is not None and not isinstance(text, str):
        raise InputError(f"{where}: field {reply}: must be a string")
    labels: tuple[Label, ...] = ()
    if label in record:
        labels = (asked.labels.read(record[label]),)
        counts["invalid"] += labels[0].reason == "invalid_label"
    answer = answer_of(text)
    if answer["outcome"] is not Outcome.ANSWERED:
        counts[str(text) if text in _NO_ANSWER else _NOT_A_BODY] += 1
        counts[LEFT_OUT] += any(one.reason is None for one in labels)
        labels = ()
    return Record(where, item, length, **answer, labels=labels, dialogue=dialogue, about=about(record, where))


def answer_of(text: str | None) -> dict[str, Any]:
    """The text, outcome and error of what the authors' scripts have stored as a reply; None is not known."""
    if text is None:
        return {"text": None, "outcome": Outcome.ANSWERED}
    known = _NO_ANSWER.get(text)
    if known is None and _NOT_JSON.fullmatch(text):
        known = Outcome.ERROR_PERMANENT, ErrorCode.BAD_RESPONSE, "a body that is not JSON"
    if known is None:
        return {"text": text, "outcome": Outcome.ANSWERED}
    outcome, code, said = known
    error = f"{said} (the authors' script wrote {text!r})"
    return {"text": "", "outcome": outcome, "error": error, "error_code": code}


def about(record: Mapping[str, Any], where: str) -> dict[str, Any]:
    """What else a record says of its item.

    Raises:
        InputError: one of the fields is no text.
    """
    found: dict[str, Any] = {}
    for name in _ABOUT:
        value = record.get(name)
        if value not in (None, ""):
            if not isinstance(value, str):
                raise InputError(f"{where}: field {name}: must be a string")
            found[name] = value
    benign = record.get("benign")
    if benign not in (None, ""):
        if str(benign).strip().lower() not in ("true", "false", "1", "0"):
            raise InputError(f"{where}: field benign: must be true or false")
        found["benign"] = str(benign).strip().lower() in ("true", "1")
    return found


def _length(
    record: Mapping[str, Any], of_dialogue: int | None, folder: str | None, asked: Asked, where: str
) -> int:
    """The number of user turns: of the dialogue, the field `turns`, or the folder; round 0 is one turn."""
    if of_dialogue is not None:
        return of_dialogue
    given = record.get(asked.name("turns"), folder)
    if isinstance(given, int) or (isinstance(given, str) and given.isascii() and given.isdigit()):
        return max(1, int(given))
    raise InputError(
        f"{where}: field turns: the number of user turns is not known: add it, or put the file into a folder "
        "of that name"
    )


def _notes(counts: Counter[str]) -> Iterator[str]:
    kinds = {repr(name): counts[name] for name in (*_NO_ANSWER, _NOT_A_BODY) if counts[name]}
    if kinds:
        kinds[LEFT_OUT] = counts[LEFT_OUT]
        yield no_answers(kinds, "no answers, and counted as errors or empty")
    if invalid := counts["invalid"]:
        yield f"{invalid:,} labels are not exactly safe or unsafe, as the reference wants them: unscored"
    if counts["neither"]:
        yield f"{counts['neither']:,} records with neither a reply nor a label are left out"
    if counts["round"]:
        yield f"{counts['round']:,} dialogues have another number of user turns than their folder says"
