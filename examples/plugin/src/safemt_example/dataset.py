"""A reader for CSV with one dialogue a row: id, scenario, then the messages in turn, the user's first."""

from __future__ import annotations

import csv
from pathlib import Path

from safemt_client.datasets.model import Dataset, Dialogue, ScriptedMessage
from safemt_client.datasets.reader import Reader
from safemt_client.providers.errors import InputError


def read(source: str) -> Dataset:
    """The dialogues of a file.

    Raises:
        InputError: a row has no message of the user at its end.
    """
    path, dialogues = Path(source), []
    with path.open(newline="", encoding="utf-8") as file:
        for number, (item, scenario, *texts) in enumerate(csv.reader(file), start=1):
            said = [text for text in texts if text]
            if len(said) % 2 == 0:
                raise InputError(f"{path}: line {number}: the last message must be the user's")
            messages = tuple(
                ScriptedMessage("assistant" if place % 2 else "user", text) for place, text in enumerate(said)
            )
            dialogues.append(Dialogue(item, messages, scenario or None, question=said[0], benign=True))
    return Dataset(path.stem, path.parent, tuple(dialogues))


READER = Reader("csv", "a .csv file", read, detect=lambda path: path.suffix == ".csv")
