"""SafeMT as published: `Data/<k>_turn.json` with images (GitHub), or rows of a table (Hugging Face)."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from safemt_client.datasets.gathering import Fetch, Gathered
from safemt_client.datasets.inside import within
from safemt_client.datasets.model import Dataset, Oddity
from safemt_client.datasets.reader import Reader
from safemt_client.datasets.records import SOURCES
from safemt_client.datasets.rows import rows
from safemt_client.providers.errors import InputError

__all__ = ["LICENCE", "READER", "find", "is_turn_file", "read", "read_rows", "turn_files"]

LICENCE = "CC-BY-NC-4.0"
_TURN_FILE = re.compile(
    r"(\d{1,4})_turns?\.((json|jsonl|ndjson|jl|csv|tsv)(\.gz)?|parquet)", re.IGNORECASE | re.ASCII
)


def _length(path: Path) -> int | None:
    """The number of user turns in the name of a turn file; None of any other file."""
    found = _TURN_FILE.fullmatch(path.name)
    return int(found[1]) if found else None


def is_turn_file(name: str) -> bool:
    """Whether a path is that of a turn file."""
    return _length(Path(name)) is not None


def turn_files(folder: Path) -> list[Path]:
    """The turn files directly in a folder, shortest dialogues first."""
    found = [(length, path) for path in folder.glob("*_*") if (length := _length(path)) is not None]
    return [path for _, path in sorted(found)]


def find(folder: Path) -> list[Path]:
    """The turn files of a folder, of its `Data` folder, or of the one folder above or below that has them.

    Shortest dialogues first.

    Raises:
        InputError: several folders below have some.
    """
    for place in (folder, folder / "Data", folder / "data"):
        if files := turn_files(place):
            return files
    below = {
        files[0].parent: files
        for inner in sorted(folder.glob("[!.]*/"))
        for place in (inner, inner / "Data", inner / "data")
        if (files := turn_files(place))
    }
    if len(below) > 1:
        raise InputError(f"{folder}: several data sets are in it: name one: {', '.join(map(str, below))}")
    if below:
        return next(iter(below.values()))
    # The folder of the images was named.
    if folder.name.lower() != "images":
        return []
    return turn_files(folder.parent) or turn_files(folder.parent / "Data")


def read(folder: Path, fetch: Fetch | None = None) -> Dataset:
    """The data set of a folder. Image paths are relative to the turn files' folder, or the one above."""
    files = find(folder)
    if not files:
        raise InputError(f"{folder}: no *_turn.json in it or in its Data folder: name SafeMT's folder")
    root = files[0].parent
    folders = [root, root.parent] if root.name.lower() == "data" else [root]
    if not (root / "images").is_dir() and (root.parent / "images").is_dir():
        folders = [root.parent, root]
    found = Gathered(*folders, fetch=fetch)
    for path in sorted(path for path in root.glob("[!.]*_turn*") if path not in files):
        text = "its name is not <k>_turn.json, and nothing in it is read"
        found.oddities.append(Oddity("file passed over", str(path), text))
    for path in files:
        found.take(rows(path), _length(path))
    if found.nothing:
        others = f", and neither does any of the other {len(files) - 1}" if len(files) > 1 else ""
        raise InputError(f"{files[0]}: contains no dialogues{others}")
    sample = Path(__file__).resolve().parents[1] / "sample"
    if folder.resolve().is_relative_to(sample):
        return found.dataset("sample", folder, "Apache-2.0")
    return _named(found, (folder if root.name.lower() != "data" else root.parent).resolve().name, folder)


def read_rows(
    name: str, root: Path, records: Iterable[tuple[str, Any]], fetch: Fetch | None = None
) -> Dataset:
    """A data set from the rows of any table in SafeMT's format, each with the place it came from."""
    found = Gathered(root, fetch=fetch)
    found.take(records)
    return _named(found, name, root)


def _named(found: Gathered, name: str, path: Path) -> Dataset:
    """With SafeMT's licence if it is SafeMT: every id begins with one of its sources."""
    if found.dialogues and all(item.split("_", 1)[0] in SOURCES for item, *_ in found.dialogues):
        return found.dataset("SafeMT", path, LICENCE)
    return found.dataset(name, path)


READER = Reader(
    "safemt",
    "a folder with *_turn.json in it or in its Data folder",
    lambda source: read(within(Path(source))),
    lambda path: path.is_dir() and bool(find(path)),
)
