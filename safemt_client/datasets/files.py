"""JSON from files, within bounds: a record at a time, with the place of each and what is wrong with it."""

from __future__ import annotations

import json
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from safemt_client.datasets.decoding import opened
from safemt_client.providers.errors import InputError

__all__ = ["MAX_FILE", "Rows", "check_size", "is_utf8", "json_array", "json_document", "json_lines", "shown"]

Rows = Iterator[tuple[str, Any]]
"""The place of each record and its content; an `InputError` in its stead if it cannot be read."""

MAX_FILE = 512 * 2**20
"""The most that is read of JSON lines or of a table, in bytes: dialogues are kept in memory."""
_MAX_LINE = 16 * 2**20
_MAX_ARRAY = 64 * 2**20
"""The text of a JSON array is held as a whole; that of JSON lines and tables is not."""
_PART = 2**20
_MAX_RECORDS = 1_000_000
_SHOWN = 80
_SPACE = re.compile(r"[ \t\n\r]*")


def shown(value: object) -> str:
    """A value from a file as a message shows it: quoted, escaped and shortened."""
    try:
        text = repr(value if not isinstance(value, str) else value[: _SHOWN + 1])
    except RecursionError:
        return "something nested too deeply"
    return text if len(text) <= _SHOWN + 2 else text[:_SHOWN] + "..."


def is_utf8(text: str) -> bool:
    """Whether a string can be a key and part of a file name: JSON may contain unpaired surrogates."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def check_size(path: Path, most: int | None = None) -> None:
    """Refuse anything but a regular file (others might never end), and files that are too large."""
    try:
        status = path.stat()
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from None
    if not stat.S_ISREG(status.st_mode):
        raise InputError(f"{path}: is not a regular file")
    instead = "split it"
    if most is None:
        most, instead = (
            (_MAX_ARRAY, "convert it to .jsonl, or split it")
            if path.suffix.lower() == ".json"
            else (MAX_FILE, instead)
        )
    if status.st_size > most:
        raise InputError(f"{path}: larger than {most} bytes: {instead}")


class _TwiceError(ValueError):
    """A key occurs twice in an object: which of the two is meant cannot be known."""


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise _TwiceError(f"the key {shown(twice)} occurs twice in it: remove one")
    return found


# NaN and Infinity are no JSON, but what pandas writes for a missing value.
_DECODER = json.JSONDecoder(object_pairs_hook=_object, parse_constant=lambda _: None)


def _reason(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "nested too deeply"
    if isinstance(error, _TwiceError):
        return str(error)
    if isinstance(error, UnicodeDecodeError):
        return f"byte {error.start + 1} is not UTF-8: save the file as UTF-8"
    if not isinstance(error, json.JSONDecodeError):
        return "contains a number with thousands of digits"
    if error.msg == "Extra data":
        return "more than one value: write one record a line"
    if error.doc.startswith(("//", "#")):
        return "a comment, which JSON does not have: remove it"
    before = error.doc[: error.pos].rstrip()[-1:]
    if before == "," and error.doc[error.pos : error.pos + 1] in ("}", "]"):
        return f"column {error.colno}: remove the comma before the bracket"
    return f"column {error.colno}: {error.msg}"


def _value(line: bytes) -> Any:
    """The value of a line, or the error that says why there is none."""
    # JSON of some programs has unpaired surrogates as they are. A mark begins a file that was appended.
    return _DECODER.decode(line.decode("utf-8", "surrogatepass").lstrip("\ufeff"))


def json_lines(path: Path) -> Rows:
    """Place and content of each line that is not blank."""
    size = number = 0
    with opened(path) as file:
        while line := file.readline(_MAX_LINE + 1):
            size += len(line)
            if size > MAX_FILE:
                raise InputError(f"{path}: unpacks to more than {MAX_FILE} bytes: split it")
            # Old programs end lines by a carriage return alone; within JSON none is possible.
            for part in line.rstrip(b"\r\n").split(b"\r") if b"\r" in line else (line,):
                number += 1
                if number > _MAX_RECORDS:
                    raise InputError(f"{path}: more than {_MAX_RECORDS} lines: split it")
                if len(part) > _MAX_LINE:
                    raise InputError(f"{path}: line {number}: longer than {_MAX_LINE} bytes")
                if part.strip():
                    where = f"{path}: line {number}"
                    try:
                        yield where, _value(part.strip())
                    except (ValueError, RecursionError) as error:
                        yield where, InputError(f"{where}: not JSON in UTF-8: {_reason(error)}")


def _text(path: Path) -> str:
    data = bytearray()
    with opened(path) as file:
        # In parts: of a read of many bytes all of them are set aside.
        while len(data) <= _MAX_ARRAY and (part := file.read(_PART)):
            data += part
    if len(data) > _MAX_ARRAY:
        raise InputError(
            f"{path}: unpacks to more than {_MAX_ARRAY} bytes: convert it to .jsonl, or split it"
        )
    try:
        return data.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8: byte {error.start}: save it as UTF-8") from None


def json_document(path: Path) -> Any:
    """The content of a JSON file that is one value."""
    try:
        return _DECODER.decode(_text(path))
    except json.JSONDecodeError as error:
        raise InputError(f"{path}: not JSON: line {error.lineno}: {_reason(error)}") from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: not JSON: {_reason(error)}") from None


def json_array(path: Path) -> Rows:
    """Place and content of each element of a JSON array; of the array no more is held than its text."""
    text = _text(path)
    at, number = _skip(text, _skip(text, 0) + 1), 0
    if text[at : at + 1] == "]":
        at += 1
    else:
        while True:
            where = f"{path}: record {number}"
            try:
                value, at = _DECODER.raw_decode(text, at)
            except (ValueError, RecursionError) as error:
                line = f"line {error.lineno}: " if isinstance(error, json.JSONDecodeError) else ""
                yield where, InputError(f"{where}: not JSON: {line}{_reason(error)}")
                return
            yield where, value
            number, at = number + 1, _skip(text, at)
            sign = text[at : at + 1]
            at = _skip(text, at + 1)
            if sign == "]":
                break
            if sign != "," or text[at : at + 1] == "]":
                what = "a comma after the last record: remove it" if sign == "," else "the array has no end"
                if sign not in ("", ","):
                    what = "no comma after the record"
                yield where, InputError(f"{where}: not JSON: {what}")
                return
    if text[_skip(text, at) :]:
        yield path.name, InputError(f"{path}: not JSON: more after the end of the array: remove it")


def _skip(text: str, at: int) -> int:
    found = _SPACE.match(text, at)
    return found.end() if found else at
