"""Every way in which a record or message names a picture: paths, data URLs, base64, bytes, structs, lists."""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any

from safemt_client.datasets import embedded
from safemt_client.datasets.files import shown
from safemt_client.providers.errors import InputError

__all__ = ["is_picture_field", "is_url", "looks_like_picture", "names_of", "picture_fields", "unread"]

_FIELD = re.compile(
    r"(rel_?)?(image|img|picture|photo)s?(_?(rel_?)?(path|file|url|uri|data|base64|b64|bytes))?s?(_?\d{1,3})?"
)
_ENDING = re.compile(r"[^\n]{1,500}\.(jpe?g|jfif|png|webp|gif|bmp|tiff?|avif|heic|heif|jp2)", re.IGNORECASE)
_URL = re.compile(r"(?!file:)[a-z][a-z0-9+.-]{1,20}://", re.IGNORECASE)
_DATA_URL = re.compile(r"data:([^;,]{0,100})((?:;[^;,]{0,100})*),", re.IGNORECASE)
# How JPEG, PNG, GIF, WebP, TIFF and BMP begin in base64.
_BASE64 = ("/9j/", "iVBORw0KGgo", "R0lGOD", "UklGR", "SUkqA", "TU0AK", "Qk0")
_LONG = 100
_MAGIC = (b"\xff\xd8\xff", b"\x89PNG", b"GIF8", b"RIFF", b"II*\0", b"MM\0*", b"BM", b"\0\0\0")
_SPACE = re.compile(r"\s+")
_DEEPEST = 4


@lru_cache(10_000)
def _is_picture_field(name: str) -> bool:
    return _FIELD.fullmatch(name.lower()) is not None


def is_picture_field(name: str) -> bool:
    """Whether a field of this name holds pictures."""
    return len(name) <= _LONG and _is_picture_field(name)


def picture_fields(names: Iterable[str]) -> list[str]:
    """The fields that hold pictures, `image_10` after `image_9`."""

    def order(name: str) -> tuple[str, int]:
        stem = name.rstrip("0123456789")
        return stem, int(name[len(stem) :] or 0)

    found = [name for name in names if is_picture_field(name)]
    return sorted(found, key=order) if len(found) > 1 else found


def is_url(name: str) -> bool:
    """Whether a picture's name is an address on the net, from which nothing is fetched."""
    return _URL.match(name) is not None


def unread(name: str) -> str:
    """What is wrong with a field of another name that holds a picture."""
    return f"field {shown(name)}: holds a picture that would not be sent: call the field images, or remove it"


def names_of(value: Any, where: str, depth: int = 0) -> list[str]:
    """The names of the pictures of a field: paths as they are given, others as embedded pictures.

    Raises:
        InputError: it is neither; the line begins with `where`, which names the field.
    """
    if value is None or value == "" or depth > _DEEPEST:
        return []
    if isinstance(value, str):
        return _of_text(value, where, depth)
    if isinstance(value, bytes | bytearray):
        return [embedded.keep(bytes(value))]
    if isinstance(value, list | tuple):
        return [name for entry in value for name in names_of(entry, where, depth + 1)]
    if isinstance(value, Mapping):
        return _of_struct(value, where, depth)
    raise InputError(f"{where}: must be a string, the path of a picture, or a list, not {shown(value)}")


def _of_text(text: str, where: str, depth: int) -> list[str]:
    if (url := _DATA_URL.match(text)) is not None:
        if not url[2].lower().endswith(";base64"):
            raise InputError(f"{where}: a data URL that is not base64: write base64, or the path of a file")
        if not url[1].lower().startswith("image/"):
            raise InputError(f"{where}: a data URL of {shown(url[1])}: only pictures can be sent")
        return [embedded.keep(_from_base64(text[url.end() :], where))]
    if text.startswith(_BASE64) and len(text) > _LONG:
        return [embedded.keep(_from_base64(text, where))]
    if text[0] in "[{" and text[-1] in "]}":
        # A list in a cell of a table.
        try:
            return names_of(json.loads(text), where, depth + 1)
        except (ValueError, RecursionError):
            pass
    return [text]


def _of_struct(value: Mapping[str, Any], where: str, depth: int) -> list[str]:
    """Of `{"bytes": ..., "path": ...}` as of Hugging Face, `{"url": ...}`, or Anthropic's source."""
    for name in ("bytes", "data", "base64"):
        content = value.get(name)
        if isinstance(content, str) and content and not content.startswith("data:"):
            return [embedded.keep(_from_base64(content, f"{where}: {name}"))]
        if content:
            return names_of(content, f"{where}: {name}", depth + 1)
    for name in ("path", "url", "image_url", "file", "filename", "file_name", "image", "source"):
        if value.get(name):
            return names_of(value[name], f"{where}: {name}", depth + 1)
    if any(content is not None for content in value.values()):
        raise InputError(f"{where}: an object without bytes, path or url: write the path of the picture")
    return []


def _from_base64(text: str, where: str) -> bytes:
    try:
        return base64.b64decode(_SPACE.sub("", text), validate=True)
    except (binascii.Error, ValueError):
        raise InputError(f"{where}: not base64: write the path of the picture's file") from None


def looks_like_picture(value: Any, depth: int = 0) -> bool:
    """Whether a value in a field of another name holds a picture or the path of one."""
    if isinstance(value, str):
        if len(value) > _LONG and value.startswith(_BASE64):
            return " " not in value[:_LONG]
        return value.startswith("data:image/") or (len(value) <= 500 and _is_path(value))
    if isinstance(value, bytes | bytearray):
        return bytes(value[:8]).startswith(_MAGIC)
    if depth < _DEEPEST and isinstance(value, list | tuple | Mapping):
        inner = value.values() if isinstance(value, Mapping) else value
        return any(looks_like_picture(entry, depth + 1) for entry in inner)
    return False


def _is_path(text: str) -> bool:
    """Whether a text is a file name of a picture, and not a sentence that ends with one."""
    return text[-5:].find(".") >= 0 and text.count(" ") <= 3 and _ENDING.fullmatch(text) is not None
