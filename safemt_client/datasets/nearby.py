"""What a missing picture was probably meant to be: its name in another spelling, or inside an archive."""

from __future__ import annotations

import os
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from itertools import islice
from pathlib import Path
from urllib.parse import unquote

from safemt_client.datasets.archives import PACKED, archive_at, is_archive
from safemt_client.datasets.inside import Inside, within
from safemt_client.providers.errors import InputError

__all__ = ["Nearby"]

_MOST_FILES = 200_000
_NOTHING = ("none", "nan", "null", "n/a", "<na>")


class Nearby:
    """Looks in the folders of a data set, once for all of its pictures; it opens none of them."""

    def __init__(self, folders: Sequence[Path]) -> None:
        self._folders = folders

    def hint(self, name: str) -> str | None:
        """What to do about a picture of this name that is missing; None if nothing like it is there."""
        if name.strip().lower() in _NOTHING:
            return "a word for no picture: write null"
        wanted = _plain(name)
        stem = wanted.rsplit("/", 1)[-1]
        for key in (stem, os.path.splitext(stem)[0]):
            if key and (found := self._files.get(key)):
                return f"there is {_nearest(wanted, found)}"
        if name.startswith("/") and Path(name).is_file():
            return "it is outside the folder of the data: copy it there"
        if self._packed:
            return f"it may be in {self._packed[0]}: unpack that there"
        return None

    @cached_property
    def _files(self) -> dict[str, list[str]]:
        """The files below, by their name and by their name without its ending, both in plain spelling."""
        found: dict[str, list[str]] = defaultdict(list)
        for relative in self._below():
            key = _plain(relative.rsplit("/", 1)[-1])
            for known in dict.fromkeys((key, os.path.splitext(key)[0])):
                if relative not in found[known]:
                    found[known].append(relative)
        return found

    @cached_property
    def _packed(self) -> list[str]:
        """The archives beside the data that are not looked into."""
        return [
            path.name
            for folder in self._folders
            for path in sorted(folder.glob("*"))
            if path.name.lower().endswith(PACKED) and path.is_file()
        ]

    def _below(self) -> Iterator[str]:
        """The files below the folders and in the archives there, up to a number."""
        return islice((name for top in self._folders for name in _names(within(top))), _MOST_FILES)


def _names(top: Path) -> Iterator[str]:
    if isinstance(top, Inside):
        yield from (path.relative_to(top).as_posix() for path in top.rglob("*") if path.is_file())
        return
    for folder, inner, files in os.walk(top):
        inner[:] = sorted(name for name in inner if not name.startswith("."))
        for name in sorted(files):
            path = Path(folder, name)
            if is_archive(name):
                yield from (f"{path.relative_to(top).as_posix()}/{member}" for member in _members(path))
            elif not name.startswith("."):
                yield path.relative_to(top).as_posix()


def _members(path: Path) -> Iterable[str]:
    try:
        return archive_at(path).places
    except (InputError, OSError):
        return ()


def _plain(name: str) -> str:
    """A name without what programs add to it or change in it."""
    name = re.sub(r"^file:/*", "", name.strip().replace("\\", "/"), flags=re.IGNORECASE)
    name = re.sub(r"\?[^/]*$", "", unquote(name))
    return unicodedata.normalize("NFC", name).casefold().strip()


def _nearest(wanted: str, found: Sequence[str]) -> str:
    """The path that ends most like the wanted one."""

    def alike(path: str) -> int:
        pairs = zip(reversed(wanted.split("/")), reversed(_plain(path).split("/")), strict=False)
        return sum(one == other for one, other in pairs)

    return max(found, key=alike)
