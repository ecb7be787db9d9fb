"""The pictures of a stored run, found again in its data by their hash: the store does not keep them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from safemt_client.datasets import images
from safemt_client.datasets.model import Dataset
from safemt_client.datasets.readers.safemt import turn_files
from safemt_client.providers.errors import InputError
from safemt_client.providers.types import Image

__all__ = ["find_again"]


def find_again(
    store: Path, dataset_path: str, path: str, sha256: str, how: images.Preparation
) -> Image | None:
    """The image that was sent of the image path `path`; None if it is gone or has changed.

    `dataset_path` is the folder of the pictures as the run of the file `store` names it. A relative one is
    looked for from the current folder, then from the store's.
    """
    for named in dict.fromkeys((Path(dataset_path), store.parent / dataset_path)):
        for folder in _folders(named):
            # Links may lead anywhere, as in the run itself: only a picture of the stored hash is returned.
            data = Dataset("", folder, (), links_to=(Path("/"),))
            try:
                image = images.find(data.image_path(path), sha256, how)
            except (InputError, OSError, ValueError):
                continue
            if image is not None:
                return image
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
