"""Pictures that a data file contains itself: kept as files under the hash of their bytes.

They lie in the user's cache, so that the viewer and a later judging find them again.
"""

from __future__ import annotations

import atexit
import hashlib
import os
import shutil
import tempfile
from functools import cache
from pathlib import Path

from safemt_client.results.cache import cache_folder

__all__ = ["PREFIX", "file_of", "keep", "kept_in"]

PREFIX = "sha256:"
"""What the name of an embedded picture begins with, in the place of a path."""


def keep(data: bytes) -> str:
    """Keep a picture's bytes; the name that `file_of` finds them by."""
    digest = hashlib.sha256(data).hexdigest()
    file = _folder() / digest
    if not (file.is_file() and file.stat().st_size == len(data)):
        # Several programs may write the same picture.
        written = file.with_name(f"{digest}.{os.getpid()}")
        written.write_bytes(data)
        written.replace(file)
    return PREFIX + digest


def file_of(name: str) -> Path:
    """The file of an embedded picture; it need not exist any more."""
    digest = name.removeprefix(PREFIX)
    return _folder() / (digest if digest.isalnum() and len(digest) == 64 else "none")


def _folder() -> Path:
    return kept_in("pictures")


def kept_in(name: str) -> Path:
    """A folder of the user's cache, or one of this process alone where there is none."""
    return _made(cache_folder() / name)


@cache
def _made(folder: Path) -> Path:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except OSError:
        # No home, or none that can be written: for this process alone.
        spare = Path(tempfile.mkdtemp(prefix="safemt-"))
        atexit.register(shutil.rmtree, spare, ignore_errors=True)
        return spare
