"""Files that appear under their name only once they are whole."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safemt_client.providers.errors import InputError

__all__ = ["whole_file"]


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
