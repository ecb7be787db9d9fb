"""Files of stores that are made aside and appear once they are finished."""

from __future__ import annotations

from pathlib import Path

__all__ = ["appear"]


def appear(made: Path, path: Path) -> None:
    """Give a finished file its name; a file that has got this name meanwhile stays.

    Raises:
        FileExistsError: there is one.
        OSError: it cannot be made.
    """
    try:
        path.hardlink_to(made)
    except FileExistsError:
        raise
    except OSError:
        # A file system without hard links.
        with path.open("xb"):
            made.replace(path)
