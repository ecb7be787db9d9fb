"""Files that are there as a whole or not at all."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from safemt_client.providers.errors import InputError

__all__ = ["write_text"]


def write_text(path: Path, text: str) -> None:
    """Write the text beside the path and rename it into place, so that no half of it is ever seen.

    Raises:
        InputError: it cannot be written there.
    """
    partial: str | None = None
    try:
        if path.is_dir():
            raise IsADirectoryError(None, "is a folder")
        descriptor, partial = tempfile.mkstemp(prefix=f".{path.name[:100]}.", suffix=".part", dir=path.parent)
        with os.fdopen(descriptor, "w", encoding="utf-8", newline="\n") as file:
            file.write(text)
        # mkstemp makes files for the owner alone; a report has the rights of any other new file.
        mask = os.umask(0)
        os.umask(mask)
        os.chmod(partial, 0o666 & ~mask)
        os.replace(partial, path)
        partial = None
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}: name another file") from None
    finally:
        if partial is not None:
            Path(partial).unlink(missing_ok=True)
