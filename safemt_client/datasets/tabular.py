"""Rows of tables: CSV and Parquet, within bounds."""

from __future__ import annotations

import csv
import io
from pathlib import Path

from safemt_client.datasets.decoding import opened
from safemt_client.datasets.files import MAX_FILE, Rows, check_size, shown
from safemt_client.datasets.inside import Inside
from safemt_client.providers.errors import InputError

__all__ = ["csv_rows", "parquet_rows"]

_MAX_CELL = 16 * 2**20
_MAX_ROWS = 1_000_000
_MAX_HELD = 64 * 2**20
"""Bytes of a Parquet file in an archive, which is held as a whole."""
_BATCH = 64
_BUFFER = 2**16
"""Bytes of each column that are read at once; without it a row group's columns are held as a whole."""


def csv_rows(path: Path) -> Rows:
    """Place and content of each row of a CSV file, by the names in its first row; an empty cell is None."""
    csv.field_size_limit(max(csv.field_size_limit(), _MAX_CELL))
    with opened(path) as file:
        text = io.TextIOWrapper(file, "utf-8", newline="")
        try:
            head = text.readline(_MAX_CELL)
            names = next(csv.reader([head], delimiter=_delimiter(path, head)), [])
            _check_names(path, names)
            size = 0
            for number, cells in enumerate(csv.reader(text, delimiter=_delimiter(path, head)), start=1):
                where = f"{path}: row {number}"
                size += sum(map(len, cells))
                if number > _MAX_ROWS or size > MAX_FILE:
                    raise InputError(f"{where}: more than {_MAX_ROWS} rows or {MAX_FILE} bytes: split it")
                if not any(cells):
                    continue
                if len(cells) == len(names):
                    yield where, {name: cell or None for name, cell in zip(names, cells, strict=True)}
                else:
                    yield (
                        where,
                        InputError(
                            f"{where}: has {len(cells)} cells, and the first row names {len(names)} columns: "
                            "quote cells that contain a comma"
                        ),
                    )
        except csv.Error as error:
            raise InputError(f"{path}: not CSV: {error}") from None
        finally:
            text.detach()


def _delimiter(path: Path, head: str) -> str:
    if ".tsv" in (suffix.lower() for suffix in path.suffixes):
        return "\t"
    return max(",;\t", key=head.count)


def _check_names(path: Path, names: list[str]) -> None:
    if not any(names):
        raise InputError(f"{path}: the first row names no columns: write id, dialogue, ... there")
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise InputError(f"{path}: the column {shown(twice)} occurs twice: rename one")


def parquet_rows(path: Path) -> Rows:
    """Place and content of each row of a Parquet file."""
    import pyarrow
    import pyarrow.parquet

    held = isinstance(path, Inside)
    check_size(path, _MAX_HELD if held else MAX_FILE)
    size = number = 0
    try:
        # Its end is read first, and compressed data cannot be read from there.
        source = io.BytesIO(path.read_bytes()) if held else path
        with pyarrow.parquet.ParquetFile(source, buffer_size=_BUFFER) as file:
            # Check the stated sizes first: a page is unpacked as a whole.
            groups = [file.metadata.row_group(n) for n in range(file.metadata.num_row_groups)]
            if sum(max(0, group.total_byte_size) for group in groups) > MAX_FILE:
                raise InputError(f"{path}: contains more than {MAX_FILE} bytes: split it")
            for batch in file.iter_batches(batch_size=_BATCH, use_threads=False):
                # Check the real size too: a few repeated bytes may unpack to a lot.
                size += batch.nbytes
                if size > MAX_FILE:
                    raise InputError(f"{path}: contains more than {MAX_FILE} bytes: split it")
                if number + batch.num_rows > _MAX_ROWS:
                    raise InputError(f"{path}: more than {_MAX_ROWS} rows: split it")
                for row in batch.to_pylist():
                    yield f"{path}: row {number}", row
                    number += 1
    except (pyarrow.ArrowException, OSError, ValueError, OverflowError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"{path}: not Parquet: {reason[:200]}") from None
