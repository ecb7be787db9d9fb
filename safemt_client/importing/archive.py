"""The JSON files of an inspect_ai log, which is a ZIP archive; newer ones are compressed with zstd."""

from __future__ import annotations

import json
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from safemt_client.datasets.files import check_size
from safemt_client.providers.errors import InputError

__all__ = ["Archive", "opened_log"]

_ZSTD = 93
"""The number of the method in ZIP archives, which `zipfile` of Python 3.11 does not read."""
_LOCAL_HEADER = 30
_MOST = 64 * 2**20
"""Bytes of one file of the archive, unpacked: a sample with its transcript and pictures."""
_MAX_LOG = 8 * 2**30


class Archive:
    """An open log. Its files are read one at a time."""

    def __init__(self, path: Path, archive: zipfile.ZipFile, raw: BinaryIO) -> None:
        self._path = path
        self._archive = archive
        self._raw = raw
        self.names = archive.namelist()

    def json(self, name: str) -> Any:
        """The content of a file.

        Raises:
            InputError: it is damaged, too large or not JSON.
        """
        where = f"{self._path}: {name}"
        entry = self._archive.getinfo(name)
        if entry.file_size > _MOST:
            raise InputError(f"{where}: larger than {_MOST} bytes: leave the sample out")
        try:
            return json.loads(self._bytes(entry))
        except (ValueError, RecursionError) as error:
            raise InputError(f"{where}: not JSON: {str(error)[:100]}: write the log again") from None
        except (
            zipfile.BadZipFile,
            zlib.error,
            OSError,
            EOFError,
            NotImplementedError,
            struct.error,
        ) as error:
            raise InputError(f"{where}: damaged: {str(error)[:100]}: copy the log again") from None

    def _bytes(self, entry: zipfile.ZipInfo) -> bytes:
        # Opening each of many small files by `zipfile` takes longer than all the rest of reading them.
        if entry.compress_type not in (_ZSTD, zipfile.ZIP_DEFLATED):
            with self._archive.open(entry) as file:
                return file.read(_MOST + 1)
        self._raw.seek(entry.header_offset)
        header = self._raw.read(_LOCAL_HEADER)
        self._raw.seek(sum(struct.unpack("<HH", header[26:30])), 1)
        packed = self._raw.read(entry.compress_size)
        if entry.compress_type == zipfile.ZIP_DEFLATED:
            data = zlib.decompressobj(-zlib.MAX_WBITS).decompress(packed, _MOST + 1)
        else:
            import pyarrow

            with pyarrow.input_stream(pyarrow.BufferReader(packed), compression="zstd") as stream:
                data = stream.read(_MOST + 1)
        if zlib.crc32(data) != entry.CRC:
            raise OSError("its check sum is another")
        return data


@contextmanager
def opened_log(path: Path) -> Iterator[Archive]:
    """A log for reading.

    Raises:
        InputError: it is not one.
    """
    check_size(path, _MAX_LOG)
    try:
        with path.open("rb") as raw, zipfile.ZipFile(path) as archive:
            yield Archive(path, archive, raw)
    except zipfile.BadZipFile:
        raise InputError(
            f"{path}: not an inspect_ai log of the form .eval: convert it by inspect log convert --to eval"
        ) from None
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}") from None
