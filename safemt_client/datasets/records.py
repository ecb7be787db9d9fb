"""Turn one record of a file into one dialogue: shapes are checked here, oddities are noted and kept."""

from __future__ import annotations

import ast
import json
import warnings
from collections.abc import Mapping
from typing import Any

from safemt_client.datasets.files import is_utf8, shown
from safemt_client.datasets.model import Dialogue, Oddity, ScriptedMessage
from safemt_client.providers.errors import InputError

__all__ = ["read_record"]

_KNOWN = {
    "id",
    "scenario",
    "image_path",
    "image_rel_path",
    "dialogue",
    "question",
    "method",
    "source",
    "benign",
    "image",
}
_MAX_LITERAL = 1_000_000
_SOURCES = {"mllm", "mm", "jbv", "beaver", "guard"}
"""The prefixes of SafeMT's ids, SOURCE_SCENARIO_N, that name where a query comes from."""


def read_record(record: Any, where: str, oddities: list[Oddity]) -> Dialogue:
    """A dialogue from a record in SafeMT's form or in the open form.

    Raises:
        InputError: a field has the wrong shape; the line names the file, the record and the field.
    """
    if not isinstance(record, dict):
        raise InputError(f"{where}: is not a JSON object: write one with id and dialogue")
    item = record.get("id")
    if isinstance(item, int) and not isinstance(item, bool):
        item = str(item)
    if not isinstance(item, str) or not item:
        raise InputError(f"{where}: field id: must be a string")
    where = f"{where} ({shown(item)})"
    if not is_utf8(item):
        raise InputError(f"{where}: field id: contains an unpaired surrogate: rename it")
    raw = record.get("dialogue", record.get("messages"))
    if isinstance(raw, str):
        raw = _from_text(raw, where)
    if not isinstance(raw, list) or not raw:
        raise InputError(f"{where}: field dialogue: must be a list of messages")
    image = record.get("image_path") or record.get("image_rel_path")
    if image is not None and not isinstance(image, str):
        raise InputError(f"{where}: field image_path: must be a string")
    messages = [_message(entry, f"{where}: dialogue[{n}]") for n, entry in enumerate(raw)]
    _check_turns(messages, where)
    if image and not any(message.images for message in messages):
        first = messages[0]
        messages[0] = ScriptedMessage(first.role, first.text, (image,))
    _note(messages, where, oddities)
    prefix = item.split("_", 1)[0]
    benign = record.get("benign")
    if benign is not None and not isinstance(benign, bool):
        raise InputError(f"{where}: field benign: must be true or false")
    return Dialogue(
        item_id=item,
        messages=tuple(messages),
        scenario=_text(record, "scenario", where),
        source=_text(record, "source", where) or (prefix if prefix in _SOURCES else None),
        method=_text(record, "method", where),
        question=_text(record, "question", where),
        benign=benign,
        extra={name: value for name, value in record.items() if name not in _KNOWN | {"messages"}},
    )


def _from_text(text: str, where: str) -> Any:
    """A dialogue given as a string: JSON, or a Python literal (parsed without running any code)."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        pass
    if len(text) > _MAX_LITERAL:
        raise InputError(f"{where}: field dialogue: {len(text)} characters of text that is not JSON")
    try:
        with warnings.catch_warnings():
            # Python warns of unknown escape sequences.
            warnings.simplefilter("ignore")
            return ast.literal_eval(text)
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
        raise InputError(f"{where}: field dialogue: is neither JSON nor a Python literal") from None


def _message(entry: Any, where: str) -> ScriptedMessage:
    if not isinstance(entry, dict):
        raise InputError(f"{where}: is not a JSON object: write one with role and content")
    role, content = entry.get("role"), entry.get("content")
    if role not in ("user", "assistant"):
        raise InputError(f"{where}: field role: must be user or assistant, not {shown(role)}")
    if not isinstance(content, str):
        raise InputError(f"{where}: field content: must be a string")
    images = entry.get("images", [])
    if isinstance(images, str):
        images = [images]
    if not isinstance(images, list) or not all(isinstance(path, str) for path in images):
        raise InputError(f"{where}: field images: must be a list of paths")
    if images and role != "user":
        raise InputError(f"{where}: field images: only user messages can have images")
    return ScriptedMessage(role, content, tuple(images))


def _check_turns(messages: list[ScriptedMessage], where: str) -> None:
    for number, message in enumerate(messages):
        if message.role != ("user" if number % 2 == 0 else "assistant"):
            raise InputError(f"{where}: dialogue[{number}]: user and assistant must take turns, user first")
    if messages[-1].role != "user":
        raise InputError(f"{where}: field dialogue: the last message must be the user's")


def _note(messages: list[ScriptedMessage], where: str, oddities: list[Oddity]) -> None:
    for number, message in enumerate(messages):
        place = f"{where}: dialogue[{number}]"
        if not message.text.strip():
            oddities.append(Oddity("empty message", place, f"the {message.role}'s message is empty"))
        elif message.text != message.text.strip():
            oddities.append(Oddity("white space", place, "leading or trailing white space"))
        if "[image]" in message.text.lower():
            oddities.append(Oddity("image placeholder", place, "contains a literal [image]"))


def _text(record: Mapping[str, Any], name: str, where: str) -> str | None:
    value = record.get(name)
    if value is None or value == "":
        return None
    if not isinstance(value, str):
        raise InputError(f"{where}: field {name}: must be a string")
    return value
