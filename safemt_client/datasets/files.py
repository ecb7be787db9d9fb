"""Reading JSON, JSON lines and tables with errors that name the file and the line, within bounds."""

from __future__ import annotations

import json
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from safemt_client.providers.errors import InputError

__all__ = ["is_utf8", "json_lines", "read_json", "shown", "table_rows"]

_MAX_LINE = 16 * 2**20
_MAX_ARRAY = 64 * 2**20
"""A JSON array is read as a whole; JSON lines and tables are not."""
_MAX_FILE = 512 * 2**20
"""The most that is read of JSON lines or of a table: dialogues are kept in memory."""
_MAX_RECORDS = 1_000_000
_SHOWN = 80
_ROWS = 64


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


def _check_size(path: Path, most: int, instead: str) -> None:
    """Refuse anything but a regular file (others might never end), and files that are too large."""
    try:
        status = path.stat()
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from None
    if not stat.S_ISREG(status.st_mode):
        raise InputError(f"{path}: is not a regular file")
    if status.st_size > most:
        raise InputError(f"{path}: larger than {most} bytes: {instead}")


def read_json(path: Path) -> Any:
    """The content of a JSON file."""
    _check_size(path, _MAX_ARRAY, "convert it to .jsonl, or split it")
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except json.JSONDecodeError as error:
        raise InputError(f"{path}: not JSON: line {error.lineno}: {error.msg}") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8: byte {error.start}: save it as UTF-8") from None
    except RecursionError:
        raise InputError(f"{path}: nested too deeply") from None
    except ValueError:
        raise InputError(f"{path}: not JSON: contains a number with thousands of digits") from None
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from None


def json_lines(path: Path) -> Iterator[tuple[int, Any]]:
    """Line number and content of each line that is not blank."""
    _check_size(path, _MAX_FILE, "split it")
    try:
        with path.open("rb") as file:
            number = 0
            while line := file.readline(_MAX_LINE + 1):
                number += 1
                if number > _MAX_RECORDS:
                    raise InputError(f"{path}: more than {_MAX_RECORDS} lines: split it")
                if len(line) > _MAX_LINE:
                    raise InputError(f"{path}: line {number}: longer than {_MAX_LINE} bytes")
                if line.strip():
                    try:
                        yield number, json.loads(line)
                    except (ValueError, RecursionError):
                        raise InputError(f"{path}: line {number}: not JSON in UTF-8") from None
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from None


def table_rows(path: Path) -> Iterator[tuple[int, Any]]:
    """Number and content of each row of a Parquet file."""
    import pyarrow
    import pyarrow.parquet

    _check_size(path, _MAX_FILE, "split it")
    size = number = 0
    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            # Check the stated sizes first: a page is unpacked as a whole.
            groups = [file.metadata.row_group(n) for n in range(file.metadata.num_row_groups)]
            if sum(max(0, group.total_byte_size) for group in groups) > _MAX_FILE:
                raise InputError(f"{path}: contains more than {_MAX_FILE} bytes: split it")
            for batch in file.iter_batches(batch_size=_ROWS):
                # Check the real size too: a few repeated bytes may unpack to a lot.
                size += batch.nbytes
                if size > _MAX_FILE:
                    raise InputError(f"{path}: contains more than {_MAX_FILE} bytes: split it")
                if number + batch.num_rows > _MAX_RECORDS:
                    raise InputError(f"{path}: more than {_MAX_RECORDS} rows: split it")
                for row in batch.to_pylist():
                    yield number, row
                    number += 1
    except (pyarrow.ArrowException, OSError, ValueError, OverflowError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"{path}: not Parquet: {reason[:200]}") from None
