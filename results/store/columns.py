"""Python values as columns of Arrow.

`pyarrow.array` imports pandas, wherever that is installed, before it looks at a list: a third of a second at
every start.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa

__all__ = ["ARROW", "column", "texts"]

ARROW = {
    "str": pa.string(),
    "int": pa.int64(),
    "float": pa.float64(),
    "bool": pa.bool_(),
    "datetime": pa.timestamp("us"),
}
"""The types of columns, by the names of their types in Python."""
_CODES = {"int": "q", "float": "d", "datetime": "q"}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def column(kind: str, values: Sequence[Any]) -> pa.Array:
    """Values of one type, which is named as in Python: str, int, float, bool or datetime; None is NULL.

    Times become UTC without a zone; lone surrogates, which JSON may carry, become codes.

    Raises:
        TypeError, OverflowError: a value is of another type, or too large.
    """
    if kind == "str":
        try:
            return texts(values)
        except UnicodeEncodeError:  # a lone surrogate
            return texts([_storable(value) for value in values])
    known = None if None not in values else _bits([value is not None for value in values])
    if kind == "bool":
        return pa.Array.from_buffers(pa.bool_(), len(values), [known, _bits(values)])
    if kind == "datetime":
        values = [value and (value.astimezone(UTC) - _EPOCH) // _MICROSECOND for value in values]
    content = pa.py_buffer(array(_CODES[kind], [0 if value is None else value for value in values]))
    return pa.Array.from_buffers(ARROW[kind], len(values), [known, content])


def texts(values: Sequence[str | None]) -> pa.Array:
    """A column of texts; None is NULL."""
    builder = pa.lib.StringBuilder()
    builder.append_values(values)
    return builder.finish()


def _bits(values: Sequence[Any]) -> pa.Buffer:
    """A bit for each value, the lowest first, in whole bytes."""
    number = int("".join("1" if value else "0" for value in reversed(values)) or "0", 2)
    return pa.py_buffer(number.to_bytes((len(values) + 7) // 8, "little"))


def _storable(value: Any) -> Any:
    if isinstance(value, str) and not value.isascii():
        return value.encode("utf-8", "backslashreplace").decode("utf-8")
    return value
