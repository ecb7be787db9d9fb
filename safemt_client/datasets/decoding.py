"""The bytes of a text file as UTF-8, however they are packed: gzip, byte order marks, UTF-16, UTF-32."""

from __future__ import annotations

import codecs
import gzip
import io
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, BinaryIO, cast

from safemt_client.providers.errors import InputError

__all__ = ["encoding_of", "foreign", "opened"]

_CHUNK = 2**16
_GZIP = b"\x1f\x8b"
# That of UTF-32 begins with that of UTF-16.
_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_OTHERS = (
    (b"PK\x03\x04", "a zip archive: name a file in it, as NAME.zip/list.json"),
    (b"version https://git-lfs", "a Git LFS pointer, not the file itself: run git lfs pull"),
    (b"<!doctype html", "a web page, not the file itself: download it again"),
    (b"<html", "a web page, not the file itself: download it again"),
    (b"\x28\xb5\x2f\xfd", "compressed with zstd: unpack it first"),
    (b"BZh", "compressed with bzip2: unpack it first"),
    (b"\xfd7zXZ\0", "compressed with xz: unpack it first"),
    (b"SQLite format 3", "an SQLite database: export the table as CSV or Parquet"),
)


def foreign(head: bytes) -> str | None:
    """What a file is that begins with these bytes and is not what was expected, with the fix; else None."""
    start = head.lstrip().lower()
    return next((said for mark, said in _OTHERS if start.startswith(mark.lower())), None)


def encoding_of(head: bytes) -> str:
    """The encoding of a text that begins with these bytes: by its mark, or by where its first NULs are."""
    for mark, name in _MARKS:
        if head.startswith(mark):
            return name
    # Data begin with a character of ASCII: a bracket, or the name of a column.
    match [byte != 0 for byte in head[:4]]:
        case [True, False, False, False]:
            return "utf-32-le"
        case [False, False, False, True]:
            return "utf-32-be"
        case [True, False, True, _] | [True, False, False, True] | [True, False]:
            return "utf-16-le"
        case [False, True, _, _] | [False, True]:
            return "utf-16-be"
    return "utf-8"


class _Recoded(io.RawIOBase):
    """A file in another encoding, read as UTF-8."""

    def __init__(self, file: IO[bytes], encoding: str) -> None:
        self._file = file
        self._decoder = codecs.getincrementaldecoder(encoding)()
        self._ready = b""

    def readable(self) -> bool:
        """Always."""
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        """Fill the buffer as far as what is known goes; 0 at the end."""
        while not self._ready:
            chunk = self._file.read(_CHUNK)
            self._ready = self._decoder.decode(chunk, final=not chunk).encode()
            if not chunk:
                break
        count = min(len(buffer), len(self._ready))
        buffer[:count] = self._ready[:count]
        self._ready = self._ready[count:]
        return count


@contextmanager
def opened(path: Path) -> Iterator[BinaryIO]:
    """A text file for reading, as UTF-8 without a mark; its bytes are not checked if it is in UTF-8.

    Raises:
        InputError: it cannot be read, is damaged, or is not in the encoding that it begins with; also while
            it is read inside the `with`.
    """
    try:
        with path.open("rb") as raw:
            packed = raw.read(2) == _GZIP
            raw.seek(0)
            file: BinaryIO = cast(BinaryIO, gzip.GzipFile(fileobj=raw)) if packed else raw
            head = file.read(4)
            file.seek(0)
            encoding = encoding_of(head)
            if encoding != "utf-8":
                yield cast(BinaryIO, io.BufferedReader(_Recoded(file, encoding), _CHUNK))
                return
            if head.startswith(codecs.BOM_UTF8):
                file.seek(len(codecs.BOM_UTF8))
            yield file
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not {error.encoding.upper()}: save it as UTF-8") from None
    except (EOFError, zlib.error, gzip.BadGzipFile):
        raise InputError(f"{path}: the gzip file is damaged: copy or download it again") from None
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}") from None
