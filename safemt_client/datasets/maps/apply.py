"""From a row of a data set to records of the open form, as a map says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safemt_client.datasets.files import shown
from safemt_client.datasets.maps.labels import LABELLED, Labelled, fields_of, labelled_of
from safemt_client.datasets.maps.language import Fields, Map, Picture, Turns, Variant
from safemt_client.datasets.maps.values import as_text, fill, listed, look_up, names_in, same
from safemt_client.providers.errors import InputError

__all__ = ["Shape", "records_of", "shapes_of"]

_TEXTS = ("scenario", "question", "method", "source", "pair")


@dataclass(frozen=True)
class Shape:
    """What a dialogue is made by: a variant with what it takes from its map.

    `needed` are the fields that a row has to have, if the map has variants.
    """

    where: Mapping[str, list[bool | int | str]]
    fields: Fields
    turns: Turns
    images: Sequence[Picture]
    system: str | None
    labelled: Labelled | None
    needed: tuple[str, ...]


def shapes_of(mapped: Map, file: Path) -> list[Shape]:
    """What makes dialogues of the rows of a file: one shape without variants, else those for the file."""
    variants = mapped.variant or [Variant()]
    return [_shape(mapped, one) for one in variants if one.files is None or file.match(one.files)]


def _shape(mapped: Map, variant: Variant) -> Shape:
    turns = variant.turns or mapped.turns
    assert turns is not None, "checked with the map"
    images = mapped.images if variant.images is None else variant.images
    needed = [*_named_by_fields(variant.fields), *_named_by_turns(turns)]
    labelled = variant.labelled or mapped.labelled
    needed += [] if labelled is None else fields_of(labelled)
    if variant.system is not None:
        needed += names_in(variant.system)
    for picture in images:
        if not picture.optional:
            needed += names_in(picture.path) if picture.path is not None else [str(picture.field)]
    return Shape(
        where=variant.where,
        fields=Fields(**{**_given(mapped.fields), **_given(variant.fields)}),
        turns=turns,
        images=images,
        system=variant.system if variant.system is not None else mapped.system,
        labelled=labelled,
        needed=tuple(dict.fromkeys(needed)) if mapped.variant else (),
    )


def _given(fields: Fields) -> dict[str, Any]:
    return {name: getattr(fields, name) for name in fields.model_fields_set}


def records_of(
    mapped: Map, shapes: Sequence[Shape], row: Mapping[str, Any], where: str
) -> list[dict[str, Any]]:
    """The records that a row makes: one for each shape that takes it.

    Raises:
        InputError: a field that the map needs is not there or has another form; the line names it.
    """
    return [_record(mapped, shape, row, where) for shape in shapes if _takes(shape, row)]


def _takes(shape: Shape, row: Mapping[str, Any]) -> bool:
    for path, wanted in shape.where.items():
        value = look_up(row, path)
        if not any(same(value, one) for one in wanted):
            return False
    return all(look_up(row, name) not in (None, "") for name in shape.needed)


def _named_by_fields(fields: Fields) -> list[str]:
    found = [name for one in ("id", *_TEXTS) for name in names_in(getattr(fields, one) or "")]
    return (
        found if fields.benign is None or isinstance(fields.benign, bool) else [*found, fields.benign.field]
    )


def _named_by_turns(turns: Turns) -> list[str]:
    if turns.one is not None:
        return names_in(turns.one)
    if isinstance(turns.users, list):
        return [name for one in turns.users for name in names_in(one)]
    path = turns.users or turns.messages or turns.pairs
    return [] if path is None else [path]


def _record(mapped: Map, shape: Shape, row: Mapping[str, Any], where: str) -> dict[str, Any]:
    fields, turns = shape.fields, shape.turns
    record: dict[str, Any] = {"id": _needed(fields.id or "", row, f"{where}: key fields.id")}
    for name in _TEXTS:
        template = getattr(fields, name)
        if template is not None and (text := fill(template, row)) is not None:
            record[name] = text
    if isinstance(fields.benign, bool):
        record["benign"] = fields.benign
    elif fields.benign is not None and (value := look_up(row, fields.benign.field)) is not None:
        record["benign"] = any(same(value, one) for one in fields.benign.is_)
    for name, path in mapped.extra.items():
        if (value := look_up(row, path)) is not None:
            record[name] = value
    said = _turns(turns, row, f"{where}: key turns")
    if turns.last_reply == "keep" and len(said) > 1 and said[-1]["role"] == "assistant":
        record["reference_reply"] = said.pop()["content"]
    if shape.system is not None and (text := fill(shape.system, row)) is not None:
        said.insert(0, {"role": "system", "content": text})
    users = [message for message in said if message["role"] == "user"]
    _label(turns, users, row, f"{where}: key turns.labels")
    _show(shape.images, users, row, where)
    if shape.labelled is not None:
        record[LABELLED] = labelled_of(shape.labelled, row, where)
    record["dialogue"] = said
    return record


def _needed(template: str, row: Mapping[str, Any], where: str) -> str:
    """A template with the values of a row.

    Raises:
        InputError: one of its fields is not there.
    """
    if (text := fill(template, row)) is not None:
        return text
    missing = next(name for name in names_in(template) if as_text(look_up(row, name)) is None)
    raise InputError(f"{where}: the row has no text or number in {shown(missing)}")


def _turns(turns: Turns, row: Mapping[str, Any], where: str) -> list[dict[str, Any]]:
    if turns.one is not None:
        return [_user(_needed(turns.one, row, f"{where}.one"))]
    if isinstance(turns.users, list):
        return [_user(_needed(text, row, f"{where}.users.{n}")) for n, text in enumerate(turns.users)]
    if turns.users is not None:
        return [_user(_text(one, f"{where}.users")) for one in _list(row, turns.users, f"{where}.users")]
    if turns.pairs is not None:
        return _pairs(turns, _list(row, turns.pairs, f"{where}.pairs"), f"{where}.pairs")
    if turns.messages is not None:
        here = f"{where}.messages"
        return [_message(turns, one, here) for one in _list(row, turns.messages, here)]
    return _wide(turns, row, f"{where}.wide")


def _user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


def _list(row: Mapping[str, Any], path: str, where: str) -> Sequence[Any]:
    found = listed(look_up(row, path))
    if not isinstance(found, list) or not found:
        raise InputError(f"{where}: the row has no list in {shown(path)}")
    return found


def _text(value: Any, where: str) -> str:
    if not isinstance(value, str):
        raise InputError(f"{where}: must be texts, not {shown(value)}")
    return value


def _pairs(turns: Turns, entries: Sequence[Any], where: str) -> list[dict[str, Any]]:
    found = []
    for number, entry in enumerate(entries):
        if not isinstance(entry, dict) or entry.get(turns.user) is None:
            raise InputError(f"{where}: entry {number} has no {shown(turns.user)}")
        found.append(_user(_text(entry[turns.user], where)))
        if entry.get(turns.assistant) not in (None, ""):
            found.append({"role": "assistant", "content": _text(entry[turns.assistant], where)})
    return found


def _message(turns: Turns, entry: Any, where: str) -> dict[str, Any]:
    if not isinstance(entry, dict):
        raise InputError(f"{where}: must be messages with {turns.role} and {turns.text}, not {shown(entry)}")
    role, text = entry.get(turns.role), entry.get(turns.text)
    if role is None or text is None:
        missing = turns.role if role is None else turns.text
        raise InputError(f"{where}: a message has no {shown(missing)}")
    message = {"role": turns.roles.get(str(role), role), "content": text}
    if turns.label is not None and entry.get(turns.label) is not None:
        message["label"] = entry[turns.label]
    if turns.pictures is not None and entry.get(turns.pictures):
        message["images"] = listed(entry[turns.pictures])
    return message


def _wide(turns: Turns, row: Mapping[str, Any], where: str) -> list[dict[str, Any]]:
    """The columns that are filled, by their numbers: messages as JSON, or the texts of the user."""
    before, after = str(turns.wide).split("#")
    numbered = []
    for name in row:
        number = name[len(before) : len(name) - len(after)]
        whole = name == before + number + after and number.isascii() and number.isdigit()
        if whole and len(number) < 10 and row[name] not in (None, ""):
            numbered.append((int(number), name))
    if not numbered:
        raise InputError(f"{where}: the row has no filled column {shown(turns.wide)}")
    found = []
    for _, name in sorted(numbered):
        cell = listed(row[name])
        found.append(_message(turns, cell, where) if isinstance(cell, dict) else _user(_text(cell, where)))
    return found


def _label(turns: Turns, users: Sequence[dict[str, Any]], row: Mapping[str, Any], where: str) -> None:
    if turns.labels is None:
        return
    labels = _list(row, turns.labels, where)
    if len(labels) != len(users):
        raise InputError(f"{where}: {len(labels)} labels for {len(users)} user turns")
    for message, label in zip(users, labels, strict=True):
        message["label"] = label


def _show(
    pictures: Sequence[Picture], users: Sequence[dict[str, Any]], row: Mapping[str, Any], where: str
) -> None:
    """Give the user turns their pictures, which are shown in the order of the map."""
    for number, picture in enumerate(pictures):
        here = f"{where}: key images.{number}"
        if picture.path is not None:
            found: Any = fill(picture.path, row)
            if found is None and not picture.optional:
                found = _needed(picture.path, row, f"{here}.path")
        else:
            found = look_up(row, str(picture.field))
        if found in (None, "", []):
            if not picture.optional:
                raise InputError(f"{here}.field: the row has no picture in {shown(picture.field)}")
            continue
        if picture.turn > len(users):
            raise InputError(f"{here}.turn: the dialogue has only {len(users)} user turns")
        users[picture.turn - 1].setdefault("images", []).append(found)
