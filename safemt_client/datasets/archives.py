"""What zip and tar archives contain: found once, read in place, and never unpacked to the disk."""

from __future__ import annotations

import errno
import io
import lzma
import os
import posixpath
import struct
import tarfile
import threading
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import IO, BinaryIO, cast

from safemt_client.datasets.decoding import foreign
from safemt_client.providers.errors import InputError

__all__ = ["PACKED", "Archive", "archive_at", "is_archive"]

_READ = (".zip", ".tar")
PACKED = (".tgz", ".tar.gz", ".tbz2", ".tar.bz2", ".txz", ".tar.xz", ".tar.zst", ".7z", ".rar")
"""Endings of archives in which a file can only be reached by unpacking all that is before it."""
_MOST_FILES = 500_000
_MOST_DIRECTORY = 64 * 2**20
"""Bytes. Python holds all of a zip archive's directory, at several times its size."""
_JUNK = ("__MACOSX/", "._", ".DS_Store")
_ENCRYPTED, _UTF8 = 0x1, 0x800
_DAMAGED = (
    *(zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, ValueError, OverflowError, struct.error),
)
_LOCK = threading.RLock()
"""ZipFile counts the files that are open in it without a lock."""


def is_archive(name: str) -> bool:
    """Whether a file of this name is read like a folder."""
    return name.lower().endswith(_READ)


@dataclass(frozen=True)
class Archive:
    """An archive. `places` has the files by their names, each with its size in bytes.

    The other number is the place in a zip archive's directory, or in the bytes of a tar archive.
    """

    path: Path
    places: dict[str, tuple[int, int]]
    stamp: tuple[int, int]

    @cached_property
    def folders(self) -> frozenset[str]:
        """Its folders by their names; that of the archive itself is empty."""
        found = {""}
        for name in self.places:
            while (name := posixpath.dirname(name)) not in found:
                found.add(name)
        return frozenset(found)

    @cached_property
    def tops(self) -> tuple[str, ...]:
        """The folders that all of the archive is in, the outermost first, each with its slash; first none."""
        if not self.places:
            return ("",)
        common = posixpath.commonpath([posixpath.dirname(name) for name in self.places])
        steps = common.split("/") if common else []
        return tuple("".join(f"{step}/" for step in steps[:depth]) for depth in range(len(steps) + 1))

    def open(self, name: str) -> BinaryIO:
        """A file in it for reading.

        Raises:
            OSError: it cannot be read, also while it is read.
        """
        place, size = self.places[name]
        if not self.path.name.lower().endswith(".zip"):
            return cast(BinaryIO, io.BufferedReader(_Part(self.path.open("rb"), place, size)))
        try:
            with _LOCK:
                handle = _zip(str(self.path), *self.stamp)
                info = handle.infolist()[place]
                if info.flag_bits & _ENCRYPTED:
                    raise OSError(errno.EACCES, "is locked by a password in the archive: unpack it")
                return cast(BinaryIO, io.BufferedReader(_Part(handle.open(info), 0, size)))
        except NotImplementedError:
            reason = "compressed in a way that is not read here: unpack the archive"
            raise OSError(errno.ENOTSUP, reason) from None
        except _DAMAGED:
            raise OSError(errno.EIO, "the archive is damaged: copy or download it again") from None


class _Part(io.RawIOBase):
    """`size` bytes of a file from `start` on; what is wrong with them is an OSError."""

    def __init__(self, file: IO[bytes], start: int, size: int) -> None:
        self._file, self._start, self._size, self._at = file, start, size, 0
        if start:
            file.seek(start)

    def readable(self) -> bool:
        """Always."""
        return True

    def seekable(self) -> bool:
        """Always; going back in compressed data reads them again from their beginning."""
        return True

    def tell(self) -> int:
        """The place within the part."""
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go to a place within the part, and not behind its end."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence]
        self._at = min(max(0, base + offset), self._size)
        try:
            self._file.seek(self._start + self._at)
        except _DAMAGED:
            raise OSError(errno.EIO, "the archive is damaged: copy or download it again") from None
        return self._at

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        """Fill the buffer as far as there is something; 0 at the end."""
        wanted = min(len(buffer), self._size - self._at)
        try:
            data = self._file.read(wanted) if wanted else b""
        except _DAMAGED:
            raise OSError(errno.EIO, "the archive is damaged: copy or download it again") from None
        if len(data) < wanted and not data:
            raise OSError(errno.EIO, "the archive ends before it: copy or download it again")
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)

    def close(self) -> None:
        """Close the file as well."""
        with _LOCK:
            self._file.close()
        super().close()


def archive_at(path: Path) -> Archive:
    """The archive of a file, looked into once for as long as the file does not change.

    Raises:
        InputError: it is damaged, none at all, or contains too much.
        OSError: it cannot be read.
    """
    status = os.stat(path)
    with _LOCK:
        found = _looked_into(str(path), status.st_mtime_ns, status.st_size)
    if isinstance(found, str):
        raise InputError(f"{path}: {found}")
    return found


@lru_cache(4_096)
def _looked_into(path: str, changed: int, size: int) -> Archive | str:
    """The archive, or what is wrong with it: so that a damaged one too is read only once."""
    read = _in_zip if path.lower().endswith(".zip") else _in_tar
    try:
        return Archive(Path(path), _counted(read(path, changed, size)), (changed, size))
    except InputError as error:
        return str(error)
    except (tarfile.TarError, NotImplementedError, *_DAMAGED):
        with open(path, "rb") as file:
            head = file.read(64)
        other = None if head.startswith(b"PK") else foreign(head)
        return other or f"the {path[-3:].lower()} archive is damaged: copy or download it again"


def _counted(files: Iterable[tuple[str, int, int]]) -> dict[str, tuple[int, int]]:
    """The files by their names as a path has them; of several with one name the last one counts."""
    found: dict[str, tuple[int, int]] = {}
    for count, (name, place, size) in enumerate(files, start=1):
        if count > _MOST_FILES:
            raise InputError(f"contains more than {_MOST_FILES:,} files: unpack it")
        name = posixpath.normpath(name.replace("\\", "/")).lstrip("/")
        if not name.startswith(_JUNK) and not posixpath.basename(name).startswith(_JUNK):
            found[name] = place, size
    return found


@lru_cache(32)
def _zip(path: str, changed: int, size: int) -> zipfile.ZipFile:
    """The open archive of this state of a file. Threads may read from it side by side."""
    return zipfile.ZipFile(path)


def _in_zip(path: str, changed: int, size: int) -> Iterator[tuple[str, int, int]]:
    if _directory_size(path) > _MOST_DIRECTORY:
        raise InputError(f"its directory is larger than {_MOST_DIRECTORY} bytes: unpack it")
    for number, info in enumerate(_zip(path, changed, size).infolist()):
        if not info.is_dir():
            yield _utf8_name(info), number, info.file_size


def _utf8_name(info: zipfile.ZipInfo) -> str:
    """The name of a file, also where a program wrote UTF-8 without saying so, as macOS does."""
    if info.flag_bits & _UTF8 or info.filename.isascii():
        return info.filename
    try:
        return info.filename.encode("cp437").decode()
    except UnicodeError:
        return info.filename


def _directory_size(path: str) -> int:
    """The bytes of a zip archive's directory, as its end says (PKWARE's APPNOTE.TXT, 4.3.14 and 4.3.16)."""
    with open(path, "rb") as file:
        length = file.seek(0, os.SEEK_END)
        file.seek(max(0, length - 2**16 - 100))
        tail = file.read()
        end = tail.rfind(b"PK\5\6")
        if end < 0:
            raise zipfile.BadZipFile
        (size,) = struct.unpack_from("<12xL", tail, end)
        if size < 0xFFFFFFFF or end < 20 or tail[end - 20 : end - 16] != b"PK\6\7":
            return int(size)
        file.seek(*struct.unpack_from("<8xQ", tail, end - 20))
        return int(struct.unpack("<40xQ", file.read(48))[0])


def _in_tar(path: str, changed: int, size: int) -> Iterator[tuple[str, int, int]]:
    places: dict[str, tuple[int, int]] = {}
    with tarfile.open(path, "r:") as archive:
        while (member := archive.next()) is not None:
            # It would keep all of them.
            archive.members.clear()  # type: ignore[attr-defined]
            name = posixpath.normpath(member.name)
            if member.islnk() or member.issym():
                folder = posixpath.dirname(name) if member.issym() else ""
                linked = places.get(posixpath.normpath(posixpath.join(folder, member.linkname)))
                if linked is None:
                    continue
                places[name] = linked
            elif member.isreg() and not member.issparse():
                places[name] = member.offset_data, member.size
            else:
                continue
            yield name, *places[name]
