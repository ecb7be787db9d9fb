"""What was found out about the files of pictures, remembered from one plan to the next in the user's cache.

To verify a picture it has to be decoded. What is remembered counts where a file has the same size, times
and inode as before. What is sent is read and hashed again, whatever is remembered.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import astuple
from functools import partial
from pathlib import Path
from typing import Any

import orjson
import PIL

from safemt_client import __version__
from safemt_client.datasets.embedded import kept_in
from safemt_client.datasets.images import VERSION, ImageError, Preparation, load_again
from safemt_client.datasets.model import Dataset
from safemt_client.providers.types import Image

__all__ = ["Remembered"]

_SETTLED_NS = 2_000_000_000
"""A file that was changed so shortly before it was read may have been changed again within one tick."""
_MOST = 1_000_000
"""Pictures of one folder: more are not remembered."""


class Remembered:
    """The pictures of a data set's folder under one preparation: each with the digest of its file."""

    def __init__(self, dataset: Dataset, how: Preparation) -> None:
        self._how = how
        self._folder = os.path.abspath(dataset.path)
        # Whatever may make another picture of the same file, or find another file under the same name.
        key = [self._folder, list(map(str, dataset.links_to)), astuple(how), VERSION]
        key += [__version__, PIL.__version__]
        self._file = kept_in("looked-at") / hashlib.sha256(orjson.dumps(key)).hexdigest()
        self._known = self._read()
        self._new: dict[str, list[Any]] = {}

    def _read(self) -> dict[str, list[Any]]:
        try:
            found = orjson.loads(self._file.read_bytes())
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    def find(self, owners: Mapping[str, str]) -> tuple[dict[str, Image], dict[str, str]]:
        """The pictures that need not be looked at and the digests of their files, both by path.

        `owners` has the paths that are wanted, each with an item that shows it.
        """
        images: dict[str, Image] = {}
        digests: dict[str, str] = {}
        # All that a later plan does for a picture: for thousands of them nothing may be added lightly.
        known, before, stat, load = self._known, f"{self._folder}/", os.stat, self._load
        for path, item in owners.items():
            row = known.get(path)
            if row is None:
                continue
            file = before + path
            try:
                status = stat(file)
                length, changed, touched, inode, device, sha, kind, size, width, height, notes, digest = row
                if (
                    status.st_size == length
                    and status.st_mtime_ns == changed
                    and status.st_ctime_ns == touched
                    and status.st_ino == inode
                    and status.st_dev == device
                ):
                    again = partial(load, file, item, (sha, kind))
                    images[path] = Image(sha, kind, size, width, height, again, VERSION, tuple(notes))
                    digests[path] = digest or sha
            except (OSError, ValueError, TypeError):
                continue
        return images, digests

    def _load(self, file: str, item: str, image: tuple[str, str]) -> bytes:
        try:
            return load_again(Path(file), image, item=item, how=self._how)
        except ImageError:
            # What is remembered is wrong, though the file looks as it did: the next plan looks at it again.
            with suppress(OSError):
                self._file.unlink()
            raise

    def status_of(self, path: str, file: Path) -> list[int] | None:
        """What tells whether the file of a path is the same as now; None if that would not be certain.

        It is certain only where the path leads straight to the file: another might come to stand before it.
        """
        if type(file) is not type(Path()) or os.path.abspath(file) != f"{self._folder}/{path}":
            return None
        with suppress(OSError):
            status = os.stat(file)
            if time.time_ns() - max(status.st_mtime_ns, status.st_ctime_ns) > _SETTLED_NS:
                return _status(status)
        return None

    def keep(self, path: str, status: list[int], image: Image, digest: str) -> None:
        """Remember a picture; `status` is that of its file before it was read."""
        about = [image.sha256, image.media_type, image.size, image.width, image.height, list(image.notes)]
        self._new[path] = [*status, *about, "" if digest == image.sha256 else digest]

    def write(self) -> None:
        """Have the next plan know what is new. Where the cache cannot be written, it is looked at again."""
        known = self._known | self._new
        if not self._new or len(known) > _MOST:
            return
        written = self._file.with_name(f"{self._file.name}.{os.getpid()}")
        with suppress(OSError):
            try:
                with open(os.open(written, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as out:
                    out.write(orjson.dumps(known))
                written.replace(self._file)
            finally:
                written.unlink(missing_ok=True)


def _status(status: os.stat_result) -> list[int]:
    return [status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino, status.st_dev]
