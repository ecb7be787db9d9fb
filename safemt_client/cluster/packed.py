"""Pieces of a plan as bytes; pictures travel apart, by the hash of what is sent."""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable
from functools import partial
from typing import Any

from safemt_client.providers.types import Image

__all__ = ["pack", "unpack"]


class _Pickler(pickle.Pickler):
    def __init__(self, file: io.BytesIO, pictures: dict[str, Image]) -> None:
        super().__init__(file, protocol=5)
        self._pictures = pictures

    def persistent_id(self, obj: Any) -> Any:
        """What stands for a picture."""
        if not isinstance(obj, Image):
            return None
        self._pictures.setdefault(obj.sha256, obj)
        return obj.sha256, obj.media_type, obj.size, obj.width, obj.height, obj.preparation, obj.notes


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: io.BytesIO, load: Callable[[str], bytes]) -> None:
        super().__init__(file)
        self._load = load
        self._found: dict[Any, Image] = {}

    def persistent_load(self, pid: Any) -> Image:
        """The picture that something stands for."""
        if pid not in self._found:
            sha256, media_type, size, width, height, preparation, notes = pid
            load = partial(self._load, sha256)
            self._found[pid] = Image(sha256, media_type, size, width, height, load, preparation, notes)
        return self._found[pid]


def pack(content: object) -> tuple[bytes, dict[str, Image]]:
    """Content as bytes, and the pictures in it by their hashes."""
    file, pictures = io.BytesIO(), dict[str, Image]()
    _Pickler(file, pictures).dump(content)
    return file.getvalue(), pictures


def unpack(data: bytes, load: Callable[[str], bytes]) -> Any:
    """What was packed; `load` gives the bytes of a picture by its hash."""
    return _Unpickler(io.BytesIO(data), load).load()
