"""The encoding of a body, as its content type or its first bytes state it."""

from __future__ import annotations

import codecs
import re
from collections.abc import Mapping
from functools import lru_cache

__all__ = ["in_utf8"]

_CHARSET = re.compile(r"charset\s*=\s*[\"']?([\w.:+-]{1,40})", re.IGNORECASE)
_MARKS = {
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
_FIRST = frozenset(mark[:1] for mark in _MARKS)
_ONE_BYTE = ("iso8859", "cp125", "ascii", "latin", "mac-roman", "koi8", "cp437", "cp850")


def in_utf8(headers: Mapping[str, str], body: bytes) -> tuple[Mapping[str, str], bytes]:
    """The headers and the body in UTF-8, whatever the body came in; the same objects where it is so.

    An unknown or wrong charset is passed over. So is one of single bytes where the body is proper UTF-8: many
    servers state Latin-1 by default, and no text in Latin-1 is UTF-8 by chance.
    """
    charset = _marked(body) or _stated(headers.get("content-type", ""))
    if not charset or charset.startswith("utf-8") or body.startswith(codecs.BOM_UTF8):
        return headers, body
    if charset.startswith(("utf-16", "utf-32")) and b"\0" not in body[:64]:
        return headers, body
    try:
        if charset.startswith(_ONE_BYTE):
            body.decode()
            return headers, body
    except UnicodeDecodeError:
        pass
    try:
        text = body.decode(charset)
    except (UnicodeError, LookupError):
        return headers, body
    return {**headers, "content-type": "application/json; charset=utf-8"}, text.encode("utf-8", "replace")


def _marked(body: bytes) -> str:
    if body[:1] not in _FIRST:
        return ""
    return next((name for mark, name in _MARKS.items() if body.startswith(mark)), "")


@lru_cache(maxsize=64)
def _stated(content_type: str) -> str:
    """The charset of a content type, by the codec's own name. An endpoint's are the same at every answer."""
    stated = _CHARSET.search(content_type)
    return _known(stated[1]) if stated else ""


def _known(name: str) -> str:
    """The codec's own name; empty for what is none or is not of texts."""
    try:
        b"".decode(name)
        return codecs.lookup(name).name
    except (LookupError, UnicodeError):
        return ""
