"""JSON by orjson, and by the slower standard library where a text contains half a surrogate pair.

UTF-8 cannot express one, so orjson refuses it; JSON may carry it as an escape, and data sets and models do.
"""

from __future__ import annotations

import json
from typing import Any

import orjson

__all__ = ["as_dict", "dumps", "loads"]


def dumps(content: Any) -> bytes:
    """The content as JSON on one line."""
    try:
        return orjson.dumps(content)
    except orjson.JSONEncodeError:
        return json.dumps(content).encode()


def loads(data: bytes, *, lenient: bool = False) -> Any:
    """What the JSON holds.

    `lenient` is for what servers send: a byte order mark, raw line breaks in strings, bytes of no charset.

    Raises:
        ValueError: it is not JSON.
    """
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError:
        try:
            if lenient:
                return json.loads(data.decode("utf-8-sig", "replace"), strict=False)
            return json.loads(data)
        except RecursionError:
            raise ValueError("nested too deeply") from None


def as_dict(value: object) -> dict[str, Any]:
    """The value if it is an object, else an empty one: parts of an endpoint's answer may be anything."""
    return value if isinstance(value, dict) else {}
