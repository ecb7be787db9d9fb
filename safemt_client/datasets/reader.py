"""What a reader of data sets declares about itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from safemt_client.datasets.model import Dataset

__all__ = ["LAST", "Reader"]

LAST = 9
"""The rank of the reader of files in general: what a plug-in knows is read by that."""


@dataclass(frozen=True)
class Reader:
    """A format of data sets.

    `read` takes a path, or what follows `NAME:`; `form` describes that to a user. `detect` says whether
    a file or folder has the format; without it the reader is used only as `NAME:...`. Readers of a lower
    `rank` are tried first, plug-ins before those of rank `LAST`.
    """

    name: str
    form: str
    read: Callable[[str], Dataset]
    detect: Callable[[Path], bool] | None = None
    rank: int = 0
