"""Where a store can be."""

from __future__ import annotations

import os
from pathlib import Path

from safemt_client.providers.errors import InputError
from safemt_client.results.store.places import address_of

__all__ = ["check_place"]


def check_place(path: Path) -> None:
    """See that a store can be at this path, without making it.

    Raises:
        InputError: it cannot.
    """
    if address_of(path) is not None:
        raise InputError(f"{address_of(path)}: facts are only read: name a file with --db")
    if path.is_dir():
        raise InputError(f"{path}: is a folder: name a file with --db")
    if not path.parent.is_dir():
        raise InputError(f"{path}: there is no folder {path.parent}: create it, or name another --db")
    if not path.exists() and not os.access(path.parent, os.W_OK):
        raise InputError(
            f"{path.parent}: not writable: change its permissions, or name another file with --db"
        )
