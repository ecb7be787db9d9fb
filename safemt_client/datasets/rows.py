"""The records of a file, by what it contains: JSON lines, an array, an object of records, CSV or Parquet."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from safemt_client.datasets import files
from safemt_client.datasets.decoding import foreign, opened
from safemt_client.datasets.files import Rows, check_size, shown
from safemt_client.datasets.shapes import is_record
from safemt_client.datasets.tabular import csv_rows, parquet_rows
from safemt_client.providers.errors import InputError

__all__ = ["FORMS", "is_data", "rows"]

FORMS = (".jsonl", ".ndjson", ".jl", ".json", ".csv", ".tsv", ".parquet")
"""The endings of files that are read, each also with `.gz` behind it (but not Parquet)."""
_PARQUET = b"PAR1"
_HEAD = 64


def is_data(path: Path) -> bool:
    """Whether the name is that of a file of records, and of nothing that systems leave beside them."""
    return path.name[:1] not in (".", "~") and _form(path) in FORMS


def _form(path: Path) -> str:
    packed = path.suffix.lower() == ".gz"
    return Path(path.stem).suffix.lower() if packed else path.suffix.lower()


def rows(path: Path) -> Rows:
    """Place and content of each record; an `InputError` in the stead of one that cannot be read.

    Raises:
        InputError: the file is too large, or not of a form that is read.
    """
    check_size(path)
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD)
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from None
    if _form(path) == ".parquet" or head.startswith(_PARQUET):
        return parquet_rows(path)
    if (other := foreign(head)) is not None:
        raise InputError(f"{path}: {other}")
    if _form(path) in (".csv", ".tsv"):
        return csv_rows(path)
    if _begins(path) == b"[":
        return files.json_array(path)
    if _form(path) == ".json" and _is_one(path):
        return _unwrapped(path, files.json_document(path))
    return files.json_lines(path)


def _is_one(path: Path) -> bool:
    """Whether a .json file is one value, and not lines of them."""
    try:
        first = list(islice(files.json_lines(path), 2))
    except InputError:
        return True
    return len(first) == 1 or (bool(first) and isinstance(first[0][1], InputError))


def _begins(path: Path) -> bytes:
    """The first byte that is no white space, within reason."""
    with opened(path) as file:
        return file.read(2**16).lstrip()[:1]


def _unwrapped(path: Path, document: Any) -> Iterator[tuple[str, Any]]:
    """The records of an object: itself, the one list in it, or its values by their ids."""
    if not isinstance(document, dict) or is_record(document):
        yield f"{path}: record 0", document
        return
    lists = {name: value for name, value in document.items() if isinstance(value, list) and value}
    if len(lists) > 1:
        raise InputError(
            f"{path}: has several lists of records ({', '.join(map(shown, lists))}): write each to a file"
        )
    if lists:
        (found,) = lists.values()
        yield from ((f"{path}: record {number}", record) for number, record in enumerate(found))
    elif document and all(isinstance(value, dict) for value in document.values()):
        for name, value in document.items():
            yield f"{path}: record {shown(name)}", {"id": name} | value
    else:
        raise InputError(f"{path}: must be a JSON array of records")
