"""The open format for your own dialogues: one JSON object per line. See docs/data-format.md."""

from __future__ import annotations

from pathlib import Path

from safemt_client.datasets.files import json_lines, shown
from safemt_client.datasets.model import Dataset, Dialogue, Oddity
from safemt_client.datasets.reader import Reader
from safemt_client.datasets.records import read_record
from safemt_client.providers.errors import InputError

__all__ = ["READER", "read"]


def read(path: Path) -> Dataset:
    """The data set of a file; image paths are relative to its folder."""
    oddities: list[Oddity] = []
    dialogues: dict[tuple[str, int], Dialogue] = {}
    for number, record in json_lines(path):
        where = f"{path}: line {number}"
        dialogue = read_record(record, where, oddities)
        key = (dialogue.item_id, dialogue.length)
        if key in dialogues:
            raise InputError(
                f"{where}: the id {shown(dialogue.item_id)} occurs twice with {key[1]} turns: rename one"
            )
        dialogues[key] = dialogue
    if not dialogues:
        raise InputError(f"{path}: contains no dialogues")
    return Dataset(path.stem, path.parent, tuple(dialogues.values()), tuple(oddities))


READER = Reader(
    "jsonl",
    "a .jsonl file",
    lambda source: read(Path(source)),
    lambda path: path.suffix == ".jsonl" and path.is_file(),
    # Last: any .jsonl file that no other reader recognises.
    rank=9,
)
