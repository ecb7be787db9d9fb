"""The pictures of a run: prepared side by side in threads, and as an earlier version prepared them."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import anyio

from safemt_client.datasets.model import Dataset, Dialogue
from safemt_client.providers.errors import InputError
from safemt_client.providers.types import Image
from safemt_client.settings import RunSettings

if TYPE_CHECKING:
    from safemt_client.datasets.images import Preparation
    from safemt_client.results.store.store import Store

__all__ = ["Pictures", "pictures_of", "preparation_of"]


@dataclass(frozen=True)
class Pictures:
    """The pictures of a run by their paths in the data: each image, or the reason why it cannot be sent.

    `before` has those that an earlier version of the program sent otherwise, as it sent them, if a reply in
    the store may have been given to them. `files` are the digests of the files, where they are known. Without
    any path no image is sent.
    """

    now: Mapping[str, Image | str] = field(default_factory=dict)
    before: Mapping[str, Image] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)


def preparation_of(settings: RunSettings) -> Preparation:
    """How the settings want pictures prepared."""
    from safemt_client.datasets.images import Preparation

    return Preparation.of(settings.model_dump(include={f"image_{name}" for name in Preparation.__slots__}))


def _sent_before(store: Store) -> set[str]:
    """The hashes of the images that the first preparation made, as far as any were sent."""
    rows = store.query("SELECT DISTINCT sha256 FROM images WHERE preparation IS NULL").rows
    return {sha for (sha,) in rows}


async def pictures_of(
    dataset: Dataset, chosen: Sequence[Dialogue], settings: RunSettings, store: Store | None
) -> Pictures:
    """The pictures of the dialogues, verified."""
    if settings.images == "off":
        return Pictures()
    owners: dict[str, str] = {}
    for dialogue in chosen:
        for message in dialogue.messages:
            for path in message.images:
                owners.setdefault(path, dialogue.item_id)
    if not owners:
        return Pictures()
    from safemt_client.datasets import images
    from safemt_client.datasets.remembered import Remembered

    how = preparation_of(settings)
    remembered = Remembered(dataset, how)
    sent = set() if store is None or settings.fresh else _sent_before(store)
    now: dict[str, Image | str] = {}
    before: dict[str, Image] = {}
    files: dict[str, str] = {}
    limiter = anyio.CapacityLimiter(os.cpu_count() or 2)

    def one(path: str, item: str) -> tuple[Image | str, Image | None]:
        try:
            file = dataset.image_path(path)
            status = remembered.status_of(path, file)
            image, files[path] = images.look(file, item=item, how=how)
        except InputError as error:
            return str(error), None
        if status is not None:
            remembered.keep(path, status, image, files[path])
        earlier = images.before(file, image, item=item, how=how) if sent else None
        if settings.images == "blank":
            image, earlier = images.blank(image), earlier and images.blank(earlier)
        return image, earlier if earlier is not None and earlier.sha256 in sent else None

    async def keep(path: str, item: str) -> None:
        now[path], earlier = await anyio.to_thread.run_sync(one, path, item, limiter=limiter)
        if earlier is not None:
            before[path] = earlier

    if dataset.fetch is not None:
        await anyio.to_thread.run_sync(dataset.bring, owners)
    # What an earlier version made of a picture, and what blank ones are, is not remembered.
    as_they_are = settings.images == "on" and not sent
    async with anyio.create_task_group() as group:
        for path, item in owners.items():
            known = remembered.find(path, item) if as_they_are else None
            if known is None:
                group.start_soon(keep, path, item)
            else:
                now[path], files[path] = known
    remembered.write()
    return Pictures(now, before, files)
