"""Dialogues from records one after another: an id once at each length, and what is refused, line by line."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from safemt_client.datasets.files import shown
from safemt_client.datasets.model import Dataset, Dialogue, Oddity
from safemt_client.datasets.pairing import across_lengths
from safemt_client.datasets.records import read_record
from safemt_client.providers.errors import InputError

__all__ = ["MOST_REFUSED", "Fetch", "Gathered"]

Fetch = Callable[[Sequence[Path], Sequence[str]], None]
"""Has the pictures of these folders and paths there, which may still be elsewhere."""

MOST_REFUSED = 1_000
"""So many refused records are described; the others are counted."""


class Gathered:
    """What the records of a data set gave so far. Its pictures are in `folders`, the first one first."""

    def __init__(self, *folders: Path, fetch: Fetch | None = None) -> None:
        self.dialogues: dict[tuple[str, int] | tuple[str, int, str], Dialogue] = {}
        self.oddities: list[Oddity] = []
        self._refused: list[str] = []
        self._count = 0
        self._folders = folders
        self._fetch = fetch
        self._files = Dataset("", folders[0], (), also=folders[1:], fetch=fetch)

    def take(self, rows: Iterable[tuple[str, Any]], length: int | None = None) -> None:
        """Read records; `length` is the number of user turns that a file's name promises."""
        empty = True
        for where, record in rows:
            empty = False
            try:
                if isinstance(record, InputError):
                    raise record
                dialogue = read_record(record, where, self.oddities, self._exists)
                self._add(dialogue, where)
            except InputError as error:
                self._count += 1
                if self._count <= MOST_REFUSED:
                    self._refused.append(str(error))
                continue
            if length is not None and dialogue.length != length:
                self.oddities.append(
                    Oddity("length", where, f"{dialogue.length} user turns in a file for {length}")
                )
        if empty and length is not None:
            self.oddities.append(Oddity("empty file", str(length), f"no dialogues in the file for {length}"))

    def _exists(self, path: str) -> bool:
        try:
            return self._files.image_path(path).is_file()
        except InputError:
            return False

    def _digest(self, path: str) -> str | None:
        try:
            return self._files.picture_digest(path)
        except InputError:
            return None

    def _add(self, dialogue: Dialogue, where: str) -> None:
        key = _key(dialogue)
        if key not in self.dialogues:
            self.dialogues[key] = dialogue
            return
        if self.dialogues[key] != dialogue:
            raise InputError(
                f"{where}: the id {shown(dialogue.item_id)} occurs twice with {key[1]} turns: rename one"
            )
        self.oddities.append(
            Oddity("duplicate record", where, f"{dialogue.item_id[:80]} occurs twice with the same content")
        )

    @property
    def nothing(self) -> bool:
        """Whether there was no record, not even one that is refused."""
        return not self.dialogues and not self._count

    def dataset(self, name: str, path: Path, licence: str | None = None) -> Dataset:
        """All of it. `path` is the folder of the pictures, or the file that was named.

        Raises:
            InputError: there is nothing in it.
        """
        if self.nothing:
            raise InputError(f"{path}: contains no dialogues")
        return Dataset(
            name,
            self._folders[0],
            tuple(self.dialogues.values()),
            (*self.oddities, *across_lengths(self.dialogues.values(), self._digest)),
            licence,
            also=self._folders[1:],
            refused=tuple(self._refused),
            refused_count=self._count,
            fetch=self._fetch,
        )


def _key(dialogue: Dialogue) -> tuple[str, int] | tuple[str, int, str]:
    """What a dialogue is known by: its item and number of user turns, and of a control its condition."""
    condition = dialogue.condition
    about = (dialogue.item_id, dialogue.paired_length)
    return about if condition is None else (*about, condition)
