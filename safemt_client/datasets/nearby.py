"""What a missing picture was probably meant to be: its name in another spelling, or inside an archive."""

from __future__ import annotations

import os
import re
import tarfile
import unicodedata
import zipfile
from collections import defaultdict
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from urllib.parse import unquote

__all__ = ["Nearby"]

_MOST_FILES = 200_000
_NOTHING = ("none", "nan", "null", "n/a", "<na>")
_ARCHIVES = (".zip", ".tar", ".tgz", ".tar.gz", ".tar.bz2", ".tar.xz")
_MOST_MEMBERS = 100_000


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
        for archive, members in self._archives:
            if members is None:
                return f"it may be in {archive}: unpack that there"
            if stem and stem in members:
                return f"it is in {archive}: unpack that there"
        return None

    @cached_property
    def _files(self) -> dict[str, list[str]]:
        """The files below, by their name and by their name without its ending, both in plain spelling."""
        found: dict[str, list[str]] = defaultdict(list)
        for folder, path in self._below():
            relative = path.relative_to(folder).as_posix()
            key = _plain(path.name)
            for known in dict.fromkeys((key, os.path.splitext(key)[0])):
                if relative not in found[known]:
                    found[known].append(relative)
        return found

    @cached_property
    def _archives(self) -> list[tuple[str, set[str] | None]]:
        """The archives beside the data, with the plain names of what is in them; None is not known."""
        found: list[tuple[str, set[str] | None]] = []
        for folder in self._folders:
            for path in sorted(folder.glob("*")):
                if path.name.lower().endswith(_ARCHIVES) and path.is_file():
                    names = _members(path)
                    plain = None if names is None else {_plain(name).rsplit("/", 1)[-1] for name in names}
                    found.append((path.name, plain))
        # Those that were looked into come first.
        return sorted(found, key=lambda one: one[1] is None)

    def _below(self) -> Iterator[tuple[Path, Path]]:
        count = 0
        for top in self._folders:
            for folder, inner, files in os.walk(top):
                inner[:] = sorted(name for name in inner if not name.startswith("."))
                for name in sorted(files):
                    if name.startswith("."):
                        continue
                    count += 1
                    if count > _MOST_FILES:
                        return
                    yield top, Path(folder, name)


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


def _members(path: Path) -> list[str] | None:
    """The names in an archive; None if only unpacking all of it would say."""
    try:
        if path.suffix.lower() == ".zip":
            with zipfile.ZipFile(path) as archive:
                return archive.namelist()[:_MOST_MEMBERS]
        if path.suffix.lower() == ".tar":
            with tarfile.open(path, "r:") as tar:
                return [member.name for member, _ in zip(tar, range(_MOST_MEMBERS), strict=False)]
    except (OSError, EOFError, ValueError, zipfile.BadZipFile, tarfile.TarError, NotImplementedError):
        return []
    return None
