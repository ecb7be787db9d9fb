"""Paths that lead into archives: an archive is read like a folder of the same files."""

from __future__ import annotations

import errno
import os
import stat
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from fnmatch import fnmatchcase
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safemt_client.datasets.archives import Archive, archive_at, is_archive
from safemt_client.providers.errors import InputError

__all__ = ["Inside", "archives_in", "beside", "candidates", "fits", "matching", "roots", "within"]

if TYPE_CHECKING:
    _Native = Path
else:
    _Native = type(Path())

_SETTLED_NS = 10**9
"""A folder that changed less than this ago may change again without another time of change."""


class Inside(_Native):
    """The path of an archive, or of a folder or file in it, for reading; also of what is not in an archive.

    Raises:
        InputError: the archive is damaged.
    """

    __slots__ = ()

    def _place(self) -> tuple[Archive, str] | None:
        """The archive, and the name in it."""
        for depth, step in enumerate(self.parts, start=1):
            if is_archive(step):
                top = Path(*self.parts[:depth])
                if top.is_file():
                    return archive_at(top), "/".join(self.parts[depth:])
        return None

    def stat(self, *, follow_symlinks: bool = True) -> os.stat_result:
        """The kind and the size; nothing else is known of what is in an archive."""
        place = self._place()
        if place is None:
            return super().stat(follow_symlinks=follow_symlinks)
        archive, name = place
        if name in archive.places:
            return os.stat_result((stat.S_IFREG | 0o444, 0, 0, 1, 0, 0, archive.places[name][1], 0, 0, 0))
        if name in archive.folders:
            return os.stat_result((stat.S_IFDIR | 0o555, 0, 0, 1, 0, 0, 0, 0, 0, 0))
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(self))

    def _mode(self) -> int:
        try:
            return self.stat().st_mode
        except (OSError, ValueError):
            return 0

    def is_file(self, **_: Any) -> bool:
        """Whether it is a file."""
        return stat.S_ISREG(self._mode())

    def is_dir(self, **_: Any) -> bool:
        """Whether it is a folder; an archive is one."""
        return stat.S_ISDIR(self._mode())

    def exists(self, **_: Any) -> bool:
        """Whether it is there."""
        return self._mode() != 0

    def open(self, mode: str = "r", *more: Any, **options: Any) -> Any:
        """The file; one in an archive only as bytes for reading."""
        place = self._place()
        if place is None:
            return super().open(mode, *more, **options)
        archive, name = place
        if mode != "rb":
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(self))
        if name not in archive.places:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(self))
        return archive.open(name)

    def read_bytes(self) -> bytes:
        """All of the file."""
        with self.open("rb") as file:
            return bytes(file.read())

    def glob(self, pattern: str, **options: Any) -> Generator[Inside, None, None]:
        """The files and folders below of a pattern as `Path.glob` has it."""
        place = self._place()
        if place is None:
            yield from super().glob(pattern, **options)
            return
        archive, folder = place
        before = f"{folder}/" if folder else ""
        steps = pattern.rstrip("/").split("/")
        names = [*(() if pattern.endswith("/") else archive.places), *archive.folders]
        for name in names:
            if name.startswith(before) and name != folder and fits(name[len(before) :].split("/"), steps):
                yield self / name[len(before) :]

    def rglob(self, pattern: str, **options: Any) -> Generator[Inside, None, None]:
        """The same at any depth."""
        yield from self.glob(f"**/{pattern}", **options)


def fits(names: Sequence[str], steps: Sequence[str]) -> bool:
    """Whether the steps of a path are those of a pattern."""
    if not steps or not names:
        return not names and all(step == "**" for step in steps)
    if steps[0] == "**":
        return fits(names, steps[1:]) or fits(names[1:], steps)
    return fnmatchcase(names[0], steps[0]) and fits(names[1:], steps[1:])


def within(path: Path) -> Path:
    """The path, as one that leads into an archive if a part of it is one."""
    return Inside(path) if any(map(is_archive, path.parts)) else path


def roots(path: Path) -> list[Path]:
    """The path, and the folders in an archive that all of it is in: where data may begin."""
    if not (is_archive(path.name) and path.is_dir()):
        return [path]
    inside = Inside(path)
    place = inside._place()
    return [path] if place is None else [inside / top for top in place[0].tops]


def archives_in(folder: Path) -> tuple[Path, ...]:
    """The archives directly in a folder."""
    try:
        changed = os.stat(folder).st_mtime_ns
        settled = time.time_ns() - changed > _SETTLED_NS
        return (_archives_in if settled else _archives_in.__wrapped__)(str(folder), changed)
    except (OSError, ValueError):
        return ()


@lru_cache(1_024)
def _archives_in(folder: str, changed: int) -> tuple[Path, ...]:
    with os.scandir(folder) as entries:
        found = [entry.path for entry in entries if is_archive(entry.name) and entry.is_file()]
    return tuple(map(Path, sorted(found)))


def beside(folder: Path, name: str) -> Path | None:
    """The file of a name that is not in the folder itself but in an archive there or on the way down.

    The archive has the name as it goes on from there. One that is called like the next folder of the name
    may have what follows that. Either may be in a folder that all of the archive is in.

    Raises:
        InputError: several archives have it, or an archive is damaged.
    """
    damaged: InputError | None = None
    found: list[Path] = []
    for archive, names in candidates(folder, name.split("/")):
        try:
            looked = archive_at(archive)
        except InputError as error:
            damaged = damaged or error
            continue
        inside = (top + rest for rest in names for top in looked.tops)
        inner = next((name for name in inside if name in looked.places), None)
        if inner is not None and len(names) > 1:
            return Inside(archive, inner)
        if inner is not None:
            found.append(Inside(archive, inner))
    if len(found) > 1:
        one, other = (path.relative_to(folder).as_posix() for path in found[:2])
        raise InputError(f"image {name!r}: is it {one} or {other}? write the one that is meant")
    if damaged is not None and not found:
        raise damaged
    return found[0] if found else None


def candidates(
    folder: Path, steps: Sequence[str], listed: Callable[[Path], Sequence[Path]] = archives_in
) -> Iterator[tuple[Path, list[str]]]:
    """The archives that may have a name, and as what; first those that are called like a folder of it.

    `listed` gives those in a folder.
    """
    others = []
    for depth in range(len(steps)):
        for archive in listed(folder.joinpath(*steps[:depth])):
            rest = "/".join(steps[depth:])
            if archive.stem == steps[depth] and depth + 1 < len(steps):
                yield archive, [rest, "/".join(steps[depth + 1 :])]
            else:
                others.append((archive, [rest]))
    yield from others


def matching(folder: Path, pattern: str) -> list[Path]:
    """The files of a pattern, which may lead into archives; else those in archives beside, as of `beside`."""
    steps = pattern.split("/")
    into = next((n for n, step in enumerate(steps[:-1], start=1) if is_archive(step)), None)
    if into is not None:
        tops = folder.glob("/".join(steps[:into]))
        found = [file for top in tops for file in within(top).glob("/".join(steps[into:]))]
    else:
        found = list(folder.glob(pattern))
    if not found:
        plain = next((n for n, step in enumerate(steps) if any(sign in step for sign in "*?[")), len(steps))
        for archive, names in candidates(folder, steps[: plain + 1]):
            more = ["/".join((name, *steps[plain + 1 :])) for name in names]
            found += [file for root in roots(Inside(archive)) for one in more for file in root.glob(one)]
    return sorted({path for path in found if path.is_file() and path.name[:1] not in (".", "~")})
