"""The pictures of a stored run, found again in its data by their hash: the store does not keep them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from safemt_client.datasets import images
from safemt_client.datasets.model import Dataset
from safemt_client.datasets.readers.safemt import turn_files
from safemt_client.providers.errors import InputError
from safemt_client.providers.types import Image
from safemt_client.results.store.queries import Queryable

__all__ = ["PictureFiles", "find_again"]


def find_again(
    store: Path, dataset_path: str, path: str, sha256: str, how: images.Preparation
) -> Image | None:
    """The image that was sent of the image path `path`; None if it is gone or has changed.

    `dataset_path` is the folder of the pictures as the run of the file `store` names it. A relative one is
    looked for from the current folder, then from the store's.
    """
    found = _found(store, dataset_path, path, sha256, how)
    return None if found is None else found[1]


class PictureFiles:
    """The files of a run's pictures, by the hash of what was sent."""

    def __init__(self, reader: Queryable, store: Path, run_id: str) -> None:
        dataset_path, settings = reader.query(
            "SELECT dataset_path, settings FROM runs WHERE run_id = ?", [run_id]
        ).rows[0]
        self._store, self._folder = store, str(dataset_path)
        self._how = images.Preparation.of(json.loads(settings))
        self._paths: dict[str, list[str]] = {}
        for sha256, path in reader.query("SELECT DISTINCT sha256, path FROM images ORDER BY ALL").rows:
            self._paths.setdefault(sha256, []).append(path)

    def find(self, sha256: str) -> Path | None:
        """The file; None if it is gone or has changed."""
        for path in self._paths.get(sha256, ()):
            found = _found(self._store, self._folder, path, sha256, self._how)
            if found is not None:
                return found[0].absolute()
        return None


def _found(
    store: Path, dataset_path: str, path: str, sha256: str, how: images.Preparation
) -> tuple[Path, Image] | None:
    for named in dict.fromkeys((Path(dataset_path), store.parent / dataset_path)):
        for folder in _folders(named):
            # Links may lead anywhere, as in the run itself: only a picture of the stored hash is returned.
            data = Dataset("", folder, (), links_to=(Path("/"),))
            try:
                file = data.image_path(path)
                image = images.find(file, sha256, how)
            except (InputError, OSError, ValueError):
                continue
            if image is not None:
                return file, image
    return None


def _folders(first: Path) -> Iterator[Path]:
    """The folder that a run names, then those that its reader may have looked in as well.

    A store has the first of a reader's folders alone. The others are the one above `Data`, or, if that above
    is the first, the one with the records.
    """
    yield first
    if first.name.lower() == "data":
        yield first.parent
    yield from sorted(inner for inner in first.glob("[!.]*/") if turn_files(inner))
