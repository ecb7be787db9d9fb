"""Files and folders that appear under their name only once they are whole."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safemt_client.providers.errors import InputError

__all__ = ["whole_file", "whole_folder"]


@contextmanager
def whole_file(path: Path, fix: str) -> Iterator[Path]:
    """Where to write what will be `path`; it takes that name at the end, and vanishes if anything fails.

    `fix` is what the user should do where the file cannot be written.

    Raises:
        InputError: it cannot be written there.
    """
    part: Path | None = None
    try:
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, "is a folder")
        # An unpredictable name: a link planted under a known one would be written through.
        descriptor, name = tempfile.mkstemp(prefix=f".{path.name[:100]}.", suffix=".part", dir=path.parent)
        os.close(descriptor)
        part = Path(name)
        yield part
        # mkstemp makes files for the owner alone; this one has the rights of any other new file.
        mask = os.umask(0)
        os.umask(mask)
        part.chmod(0o666 & ~mask)
        part.replace(path)
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}: {fix}") from None
    finally:
        if part is not None:
            part.unlink(missing_ok=True)


@contextmanager
def whole_folder(path: Path, fix: str, mark: str | None = None) -> Iterator[Path]:
    """Where to write what will be the folder `path`: `whole_file` for a folder.

    A folder that is there must be empty, or with `mark` have a file of that name: then all that is in it is
    replaced at the end. `fix` is what the user should do otherwise.

    Raises:
        InputError: there is something else, or the folder cannot be written.
    """
    part: Path | None = None
    try:
        path = path.absolute()
        if path.is_symlink() or (path.exists() and not path.is_dir()):
            raise InputError(f"{path}: is not a folder: {fix}")
        if path.exists() and any(path.iterdir()) and not (mark and (path / mark).is_file()):
            raise InputError(f"{path}: is not empty: {fix}")
        path.parent.mkdir(parents=True, exist_ok=True)
        # Beside it, so that it only has to be renamed.
        part = Path(tempfile.mkdtemp(prefix=f".{path.name[:100]}.", suffix=".part", dir=path.parent))
        yield part
        mask = os.umask(0)
        os.umask(mask)
        part.chmod(0o777 & ~mask)
        if path.exists():
            old = part.with_suffix(".old")
            path.rename(old)
            part.rename(path)
            shutil.rmtree(old, ignore_errors=True)
        else:
            part.rename(path)
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}: {fix}") from None
    finally:
        if part is not None:
            shutil.rmtree(part, ignore_errors=True)
