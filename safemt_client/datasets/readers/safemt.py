"""SafeMT as published: `Data/<k>_turn.json` with images (GitHub), or rows of a table (Hugging Face)."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from safemt_client.datasets.files import json_lines, read_json, shown, table_rows
from safemt_client.datasets.model import Dataset, Dialogue, Oddity
from safemt_client.datasets.reader import Reader
from safemt_client.datasets.records import read_record
from safemt_client.providers.errors import InputError

__all__ = ["LICENCE", "READER", "find", "read", "read_rows"]

LICENCE = "CC-BY-NC-4.0"
_TURN_FILE = re.compile(r"(\d+)_turn\.(json|jsonl|parquet)\Z")


def find(folder: Path) -> list[Path]:
    """The turn files of a folder or of its `Data` folder, shortest dialogues first."""
    for place in (folder, folder / "Data", folder / "data"):
        files = [path for path in place.glob("*_turn.*") if _TURN_FILE.search(path.name)]
        if files:
            return sorted(files, key=lambda path: int(path.name.split("_")[0]))
    return []


def read(folder: Path) -> Dataset:
    """The data set of a folder. Image paths are relative to the folder of the turn files."""
    files = find(folder)
    if not files:
        raise InputError(f"{folder}: no *_turn.json in it or in its Data folder: name SafeMT's folder")
    oddities: list[Oddity] = []
    dialogues: dict[tuple[str, int], Dialogue] = {}
    for path in files:
        expected = int(path.name.split("_")[0])
        for where, record in _records(path):
            dialogue = read_record(record, where, oddities)
            if dialogue.length != expected:
                oddities.append(
                    Oddity("length", where, f"{dialogue.length} user turns in a file for {expected}")
                )
            _add(dialogues, dialogue, where, oddities)
    root = files[0].parent
    if not (root / "images").is_dir() and (root.parent / "images").is_dir():
        root = root.parent
    sample = Path(__file__).resolve().parents[1] / "sample"
    bundled = folder.resolve().is_relative_to(sample)
    return Dataset(
        "sample" if bundled else "SafeMT",
        root,
        tuple(dialogues.values()),
        tuple(oddities),
        "Apache-2.0" if bundled else LICENCE,
    )


def read_rows(name: str, root: Path, rows: list[tuple[str, Any]]) -> Dataset:
    """A data set from the rows of any table in SafeMT's format, each with the place it came from."""
    oddities: list[Oddity] = []
    dialogues: dict[tuple[str, int], Dialogue] = {}
    for where, record in rows:
        _add(dialogues, read_record(record, where, oddities), where, oddities)
    return Dataset(name, root, tuple(dialogues.values()), tuple(oddities), LICENCE)


def _add(
    dialogues: dict[tuple[str, int], Dialogue], dialogue: Dialogue, where: str, oddities: list[Oddity]
) -> None:
    key = (dialogue.item_id, dialogue.length)
    if key in dialogues:
        if dialogues[key] != dialogue:
            raise InputError(
                f"{where}: the id {shown(dialogue.item_id)} occurs twice with {key[1]} turns: rename one"
            )
        oddities.append(
            Oddity("duplicate record", where, f"{dialogue.item_id[:80]} occurs twice with the same content")
        )
        return
    dialogues[key] = dialogue


def _records(path: Path) -> list[tuple[str, Any]]:
    if path.suffix == ".jsonl":
        return [(f"{path}: line {number}", record) for number, record in json_lines(path)]
    if path.suffix == ".parquet":
        return [(f"{path}: row {number}", record) for number, record in table_rows(path)]
    content = read_json(path)
    if not isinstance(content, list):
        raise InputError(f"{path}: must be a JSON array of records")
    return [(f"{path}: record {number}", record) for number, record in enumerate(content)]


READER = Reader(
    "safemt",
    "a folder with *_turn.json in it or in its Data folder",
    lambda source: read(Path(source)),
    lambda path: path.is_dir() and bool(find(path)),
)
