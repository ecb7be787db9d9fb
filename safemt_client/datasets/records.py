"""Turn one record of a file into one dialogue: fields are checked here, oddities are noted and kept."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Mapping
from typing import Any

from safemt_client.datasets import embedded, pictures_in, shapes
from safemt_client.datasets.files import is_utf8, shown
from safemt_client.datasets.marks import Said, marks_in, place, without_marks
from safemt_client.datasets.model import Dialogue, Oddity, ScriptedMessage
from safemt_client.providers.errors import InputError

__all__ = ["LABELLED", "SOURCES", "read_record"]

LABELLED = "_labelled"
"""The field of a reply that people have labelled: nothing in it is sent to a target."""

_NAMED = ("id", "scenario", "question", "method", "source", "benign")
_IDS = ("id", "_id", "uid", "idx", "index", "item_id", "question_id")
_PATHS = ("image_path", "image_rel_path")
_WITH_REFERENCE = ("messages", "conversations", "conversation")
"""Shapes that end with the reply that a model was trained on."""
_CONDITION = re.compile(r"[a-z0-9][a-z0-9-]{0,60}")
_NOTHING: Mapping[str, Any] = {}
"""For the many records that have nothing else: one for all of them."""
SOURCES = frozenset({"mllm", "mm", "jbv", "beaver", "guard"})
"""The prefixes of SafeMT's ids, SOURCE_SCENARIO_N, that name where a query comes from."""


def read_record(
    record: Any, where: str, oddities: list[Oddity], exists: Callable[[str], bool] = lambda _: True
) -> Dialogue:
    """A dialogue from a record in SafeMT's form, in the open form, or in a form like them.

    `exists` says whether a path leads to a picture; a picture that the record itself has too stands in for
    one that does not.

    Raises:
        InputError: a field has the wrong shape; the line names the file, the record and the field.
    """
    if not isinstance(record, dict):
        raise InputError(f"{where}: is not a JSON object: write one with id and dialogue")
    item = _id(record, where, oddities)
    where = f"{where} ({shown(item)})"
    if not is_utf8(item):
        raise InputError(f"{where}: field id: contains an unpaired surrogate: rename it")
    name, said = shapes.conversation(record, where, oddities)
    reference = None
    if name in _WITH_REFERENCE and len(said) > 1 and said[-1].role == "assistant":
        reference = said.pop().text
        oddities.append(Oddity("reference reply", where, "the last reply is kept in extra and never sent"))
    _check_turns(said, f"{where}: {name}")
    fields = pictures_in.picture_fields(record)
    by_field = {name: pictures_in.names_of(record[name], f"{where}: field {name}") for name in fields}
    found = _distinct({name: names for name, names in by_field.items() if names}, where, exists, oddities)
    path = next((record[name] for name in _PATHS if record.get(name)), None)
    _give_pictures(said, found, path if name in ("dialogue", "messages") else None)
    empty = (other for other in shapes.CONVERSATIONS if record.get(other) is None)
    used = {*_NAMED, name, *fields, *empty, *(("messages",) if name == "dialogue" else ())}
    extra = {sys.intern(key): value for key, value in record.items() if key not in used}
    if reference is not None:
        extra["reference_reply"] = reference
    if (labels := _labels(said)) is not None:
        extra["turn_labels"] = labels
    _check_control(extra.get("control"), where)
    _check_others(extra, said, where, oddities)
    _note(said, f"{where}: {name}", oddities)
    prefix = item.split("_", 1)[0]
    return Dialogue(
        item_id=item,
        messages=tuple(_scripted(message) for message in said),
        scenario=_text(record, "scenario", where),
        source=_text(record, "source", where) or (prefix if prefix in SOURCES else None),
        method=_text(record, "method", where),
        question=_text(record, "question", where),
        benign=_benign(record.get("benign"), where),
        extra=extra or _NOTHING,
    )


def _scripted(message: Said) -> ScriptedMessage:
    return ScriptedMessage(message.role, message.text, tuple(message.pictures))


def _id(record: Mapping[str, Any], where: str, oddities: list[Oddity]) -> str:
    item = record.get("id")
    if isinstance(item, float) and item.is_integer():
        # A column of numbers in which one is missing becomes one of fractions.
        item = int(item)
        oddities.append(Oddity("id", where, f"the id {float(item)} is read as {item}"))
    if isinstance(item, int) and not isinstance(item, bool):
        item = str(item)
    if not isinstance(item, str) or not item:
        other = next((name for name in record if name != "id" and name.lower() in _IDS), None)
        fix = "" if item is not None else ": add one" if other is None else f": rename {other}"
        raise InputError(f"{where}: field id: must be a string{fix}")
    if item != item.strip():
        oddities.append(Oddity("white space", where, "leading or trailing white space in the id"))
    return item


def _labels(messages: list[Said]) -> list[Any] | None:
    """What the data set says of each user turn: beside the user's message, or beside the reply to it."""
    found: list[Any] = []
    for message in messages:
        if message.role == "user":
            found.append(message.label)
        elif found and found[-1] is None:
            found[-1] = message.label
    return found if any(label is not None for label in found) else None


def _check_turns(messages: list[Said], where: str) -> None:
    before = None
    for number, message in enumerate(messages):
        if message.role == "system" and number:
            raise InputError(f"{where}[{number}]: field role: a system message must come first")
        if message.role == "assistant" and before != "user":
            fix = "join the two" if before == "assistant" else "remove it, or let the system message say it"
            raise InputError(f"{where}[{number}]: user and assistant must take turns, user first: {fix}")
        before = message.role
    if before == "system":
        raise InputError(f"{where}[0]: field role: no user message follows the system message")
    if before != "user":
        raise InputError(f"{where}: the last message must be the user's: remove the last reply")


def _give_pictures(said: list[Said], found: list[str], path: Any) -> None:
    """Give the messages the pictures of the record; `path` is that of the open form."""
    own = {name for message in said for name in message.pictures}
    more = [name for name in found if name not in own]
    plain = not own and said[0].role == "user" and not any(message.in_parts for message in said)
    if more == [path] and plain:
        # So it was before there were other ways, and so it stays: requests are known by their text.
        said[0].pictures = more
        said[0].as_written = True
    elif more:
        place(said, more)
    for message in said:
        if message.pictures and not message.as_written:
            message.text = without_marks(message.text)


def _distinct(
    by_field: Mapping[str, list[str]], where: str, exists: Callable[[str], bool], oddities: list[Oddity]
) -> list[str]:
    """The pictures of a record, each once though several fields name it."""
    if len(by_field) == 1:
        return next(iter(by_field.values()))
    found: list[str] = []
    paths = [name for field in _PATHS for name in by_field.get(field, ())]
    inside = [name for names in by_field.values() for name in names if name.startswith(embedded.PREFIX)]
    if len(paths) == 1 and len(inside) == 1:
        # The same picture as a file and in the record.
        wrong = inside[0] if exists(paths[0]) else paths[0]
        by_field = {field: [name for name in names if name != wrong] for field, names in by_field.items()}
    first = [field for field in _PATHS if field in by_field]
    for field in [*first, *(field for field in by_field if field not in first)]:
        for name in by_field[field]:
            if pictures_in.is_url(name) and found:
                oddities.append(Oddity("picture not sent", where, f"field {field}: the address of a picture"))
            elif not any(_same(name, other, field in _PATHS) for other in found):
                found.append(name)
    return found


def _same(name: str, other: str, by_name: bool) -> bool:
    """Whether two fields name one file, from different folders; these do not count with `by_name`."""
    first, second = (text.replace("\\", "/").split("/") for text in (name, other))
    common = 1 if by_name else min(len(first), len(second))
    return first[-common:] == second[-common:]


def _check_others(extra: dict[str, Any], said: list[Said], where: str, oddities: list[Oddity]) -> None:
    """Refuse or note pictures in fields that are not read, and names that are nearly those of fields."""
    sent = {name.rsplit("/", 1)[-1] for message in said for name in message.pictures}
    for name, value in extra.items():
        if name == LABELLED:
            continue
        known = name.strip().lower()
        if pictures_in.looks_like_picture(value):
            if not sent:
                raise InputError(f"{where}: {pictures_in.unread(name)}")
            if not (isinstance(value, str) and value.rsplit("/", 1)[-1] in sent):
                oddities.append(Oddity("picture not sent", where, f"field {shown(name)}"))
        elif known in (*_NAMED, *shapes.CONVERSATIONS) and (known != name or isinstance(value, list | str)):
            near = f"field {shown(name)} is not read" + (f": did you mean {known}?" if known != name else "")
            oddities.append(Oddity("field name", where, near))
        if isinstance(value, bytes):
            extra[name] = f"{len(value)} bytes"


def _check_control(control: Any, where: str) -> None:
    """Refuse a control that is described wrongly: it would be taken for an original, or for another one."""
    if not isinstance(control, Mapping) or not {"condition", "recipe"} <= control.keys():
        return
    condition, turns = control["condition"], control.get("paired_turns")
    wrong = None
    if not isinstance(condition, str) or not _CONDITION.fullmatch(condition):
        wrong = f"condition must be small letters, digits and hyphens, not {shown(condition)}"
    elif turns is not None and not (type(turns) is int and turns > 0):
        wrong = f"paired_turns must be a number from 1 on, not {shown(turns)}"
    if wrong is not None:
        raise InputError(f"{where}: field control: {wrong}")


def _note(messages: list[Said], where: str, oddities: list[Oddity]) -> None:
    for number, message in enumerate(messages):
        text = message.text
        if not text or text.isspace():
            oddities.append(
                Oddity("empty message", f"{where}[{number}]", f"the {message.role}'s message is empty")
            )
        elif text != text.strip():
            oddities.append(Oddity("white space", f"{where}[{number}]", "leading or trailing white space"))
        if marks := marks_in(text):
            oddities.append(
                Oddity("image placeholder", f"{where}[{number}]", f"contains a literal {marks[0][:40]}")
            )


def _benign(value: Any, where: str) -> bool | None:
    if value is None or isinstance(value, bool):
        return value
    text = str(value).strip().lower()
    if not isinstance(value, str | int | float) or text not in ("true", "false", "1", "0", "1.0", "0.0"):
        raise InputError(f"{where}: field benign: must be true or false")
    return text in ("true", "1", "1.0")


def _text(record: Mapping[str, Any], name: str, where: str) -> str | None:
    value = record.get(name)
    if value is None or value == "":
        return None
    if not isinstance(value, str):
        raise InputError(f"{where}: field {name}: must be a string")
    return sys.intern(value) if name != "question" else value
