"""The readers of data sets: each module of this package declares its own as `READER`."""

from __future__ import annotations

import importlib
import pkgutil

from safemt_client.datasets.reader import Reader

__all__ = ["READERS"]


def _all() -> tuple[Reader, ...]:
    names = (found.name for found in pkgutil.iter_modules(__path__))
    readers = [importlib.import_module(f"{__name__}.{name}").READER for name in names]
    return tuple(sorted(readers, key=lambda reader: (reader.rank, reader.name)))


READERS = _all()
"""All built-in readers, in the order in which they are tried."""
