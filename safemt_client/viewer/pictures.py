"""Images of a run as they were sent, found again in the data set's folder by their hash."""

from __future__ import annotations

import json
import threading
from collections import OrderedDict
from collections.abc import Sequence
from contextlib import suppress
from threading import Lock

from safemt_client.datasets.again import find_again
from safemt_client.datasets.images import Preparation
from safemt_client.providers.errors import InputError
from safemt_client.viewer.queries import Queries

__all__ = ["Pictures"]

_KEPT = 64 * 2**20


class Pictures:
    """Serves bytes whose SHA-256 the store names, and no others."""

    def __init__(self, queries: Queries) -> None:
        self._queries = queries
        self._lock = Lock()
        self._kept: OrderedDict[str, tuple[bytes, str]] = OrderedDict()
        self._size = 0

    def find(self, run_id: str, sha256: str) -> tuple[bytes, str] | None:
        """Bytes and media type; None if the store does not know it, or the file is gone or has changed."""
        with self._lock:
            if sha256 in self._kept:
                self._kept.move_to_end(sha256)
                return self._kept[sha256]
        run = self._queries.run(run_id)
        if run is None:
            return None
        with self._queries.reader() as reader:
            paths = reader.query("SELECT DISTINCT path FROM images WHERE sha256 = ?", [sha256]).rows
        how, store = Preparation.of(json.loads(run["settings"])), self._queries.snapshot.path
        for (path,) in paths:
            try:
                image = find_again(store, run["dataset_path"], path, sha256, how)
                if image is not None:
                    found = (image.load(), image.media_type)
                    self._keep(sha256, found)
                    return found
            except (InputError, OSError):
                continue
        return None

    def have_ready(self, run_id: str, hashes: Sequence[str]) -> None:
        """Find images before they are asked for, in the background."""
        if any(sha not in self._kept for sha in hashes):
            threading.Thread(target=self._find_all, args=(run_id, hashes), daemon=True).start()

    def _find_all(self, run_id: str, hashes: Sequence[str]) -> None:
        # Whatever keeps an image from being found now is said when it is asked for.
        with suppress(InputError):
            for sha in hashes:
                self.find(run_id, sha)

    def _keep(self, sha256: str, found: tuple[bytes, str]) -> None:
        with self._lock:
            self._kept[sha256] = found
            self._size += len(found[0])
            while self._size > _KEPT:
                _, (data, _) = self._kept.popitem(last=False)
                self._size -= len(data)
