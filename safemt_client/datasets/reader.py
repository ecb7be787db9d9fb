"""What a reader of data sets declares of itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from safemt_client.datasets.model import Dataset

__all__ = ["Reader"]


@dataclass(frozen=True)
class Reader:
    """A form in which data sets come.

    `read` takes a path, or what stands after `NAME:`; `form` tells a user what that is. `detect` says whether
    a file or folder has the form; without it the reader is used as `NAME:...` alone. Readers of a lower
    `rank` are tried first.
    """

    name: str
    form: str
    read: Callable[[str], Dataset]
    detect: Callable[[Path], bool] | None = None
    rank: int = 0
