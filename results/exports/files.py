"""Rows in files: Parquet, CSV and JSON lines. A file appears under its name only once it is whole."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime
from itertools import chain
from pathlib import Path
from typing import Any

from safemt_client.providers.errors import InputError
from safemt_client.results.exports.tables import Dump, Kind, Records, Table
from safemt_client.results.files import whole_file
from safemt_client.results.sanitize import coded, inert

__all__ = [
    "check_folder",
    "export_tables",
    "file_name",
    "partial",
    "write_csv",
    "write_jsonl",
    "write_parquet",
]

_FIX = "name another folder with --out"
# What JSON leaves as it is though it is not harmless on a screen: C1, direction marks, line separators.
_UNSEEN = re.compile(r"[\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]")


def check_folder(folder: Path, paths: Iterable[Path], redact: bool) -> None:
    """Make sure that a folder to be shared without texts contains nothing but these files.

    Raises:
        InputError: it contains another one, or cannot be read.
    """
    if not redact:
        return
    wanted = {*paths}
    try:
        found = sorted(path for path in folder.rglob("*") if path.is_symlink() or not path.is_dir())
    except OSError as error:
        raise _unwritable(folder, error) from None
    for path in found:
        if path not in wanted:
            raise InputError(
                f"{folder}: contains {path.name} from before, which may contain texts: "
                "name an empty folder with --out, or leave --redact out"
            )


def export_tables(
    dump: Dump, folder: Path, suffix: str, write: Callable[[Path, Table, Records, bool], object]
) -> list[Path]:
    """Write each table of a run to `TABLE.SUFFIX`.

    Raises:
        InputError: the folder cannot be written, or is to contain no texts but has other files.
    """
    paths = {table.name: folder / f"{table.name}.{suffix}" for table in dump.tables}
    check_folder(folder, paths.values(), dump.redact)
    for table in dump.tables:
        write(paths[table.name], table, dump.records(table), dump.redact)
    return list(paths.values())


def file_name(name: str) -> str:
    """A safe file name, made from any text."""
    return re.sub(r"[^A-Za-z0-9.]+", "-", name).strip(".-")[:80] or "target"


@contextmanager
def partial(path: Path) -> Iterator[Path]:
    """`whole_file` in a folder that is made where there is none.

    Raises:
        InputError: the file or its folder cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unwritable(path, error) from None
    with whole_file(path, _FIX) as part:
        yield part


def _unwritable(path: Path, error: OSError) -> InputError:
    return InputError(f"{path}: {error.strerror or error}: {_FIX}")


def write_csv(path: Path, table: Table, records: Records, redact: bool) -> None:
    """Write CSV (RFC 4180, UTF-8). No text in it is a formula; control characters are shown as codes.

    Raises:
        InputError: the file cannot be written.
    """
    with (
        partial(path) as part,
        part.open("w", newline="", encoding="utf-8", errors="backslashreplace") as file,
    ):
        writer = csv.writer(file)
        writer.writerow([column.name for column in table.kept(redact)])
        for rows in records:
            writer.writerows([[_cell(value) for value in row.values()] for row in rows])


def write_jsonl(path: Path, table: Table, records: Records, redact: bool) -> None:
    """Write one JSON object a line, nested where the store keeps JSON; texts are exact.

    Raises:
        InputError: the file cannot be written.
    """
    nested = [column.name for column in table.kept(redact) if column.kind == "json"]
    with (
        partial(path) as part,
        part.open("w", newline="\n", encoding="utf-8", errors="backslashreplace") as file,
    ):
        for rows in records:
            for row in rows:
                parsed = {name: json.loads(row[name]) if row[name] is not None else None for name in nested}
                file.write(json_line(row | parsed) + "\n")


def json_line(value: Any) -> str:
    """JSON on one line; characters that could act on a screen are escaped."""
    text = json.dumps(value, ensure_ascii=False, default=_jsonable, allow_nan=False)
    return _UNSEEN.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def write_parquet(
    path: Path, table: Table, records: Records, redact: bool, leave_empty_out: bool = False
) -> bool:
    """Write Parquet; texts are exact. Returns whether the table has rows.

    With `leave_empty_out` a table without rows has no file; an earlier one is removed.

    Raises:
        InputError: the file cannot be written.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    kept = table.kept(redact)
    schema = pa.schema([(column.name, _arrow(column.kind)) for column in kept])
    filled = (rows for rows in records if rows)
    first = next(filled, None)
    if first is None and leave_empty_out:
        path.unlink(missing_ok=True)
        return False
    with partial(path) as part, pq.ParquetWriter(part, schema, compression="zstd") as writer:
        for rows in chain([] if first is None else [first], filled):
            writer.write_table(pa.Table.from_pylist(rows, schema=schema))
    return first is not None


def _arrow(kind: Kind) -> Any:
    import pyarrow as pa

    words = pa.list_(pa.string())
    return {
        "int": pa.int64(),
        "float": pa.float64(),
        "bool": pa.bool_(),
        "time": pa.timestamp("us", tz="UTC"),
        "labels": words,
        "messages": pa.list_(pa.struct([("role", pa.string()), ("content", pa.string()), ("images", words)])),
    }.get(kind, pa.string())


def _cell(value: Any) -> Any:
    if isinstance(value, str):
        return inert(coded(value))
    if isinstance(value, list | dict):
        return json_line(value)
    if isinstance(value, datetime):
        return value.isoformat()
    return value


def _jsonable(value: Any) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)
