"""The pictures of a run: prepared side by side in threads, and as an earlier version prepared them."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from anyio import create_task_group, from_thread, to_thread

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
    # Each with the first dialogue that has it, which is the one that is named if it cannot be sent.
    owners: dict[str, str] = {}
    for dialogue in chosen:
        for message in dialogue.messages:
            if message.images:
                for path in message.images:
                    owners.setdefault(path, dialogue.item_id)
    if not owners:
        return Pictures()
    if dataset.fetch is not None:
        await to_thread.run_sync(dataset.bring, owners)
    looking = _Looking(dataset, settings, set() if store is None or settings.fresh else _sent_before(store))
    await looking.look(owners)
    return Pictures(looking.now, looking.before, looking.files)


class _Looking:
    """Looks at the pictures of a data set and has what it found; `sent` are the hashes of earlier images."""

    def __init__(self, dataset: Dataset, settings: RunSettings, sent: set[str]) -> None:
        from safemt_client.datasets.remembered import Remembered

        self._dataset = dataset
        self._sent = sent
        self._blank = settings.images == "blank"
        self._how = preparation_of(settings)
        self._remembered = Remembered(dataset, self._how)
        self._waiting: deque[tuple[str, str]] = deque()
        self.now: dict[str, Image | str] = {}
        self.before: dict[str, Image] = {}
        self.files: dict[str, str] = {}

    async def look(self, owners: Mapping[str, str]) -> None:
        """Look at the pictures of these paths, each of an item; only at the status of those remembered."""
        # What an earlier version made of a picture, and what blank ones are, is not remembered.
        if not self._blank and not self._sent:
            found, self.files = self._remembered.find(owners)
            self.now.update(found)
        self._waiting.extend((path, item) for path, item in owners.items() if path not in self.now)
        async with create_task_group() as group:
            for _ in range(min(len(self._waiting), os.cpu_count() or 2)):
                group.start_soon(to_thread.run_sync, self._work)
        self._remembered.write()

    def _work(self) -> None:
        """Look at what is waiting, in a thread; to hand over each by itself takes as long as a small one."""
        while True:
            from_thread.check_cancelled()
            try:
                path, item = self._waiting.popleft()
            except IndexError:
                return
            self._one(path, item)

    def _one(self, path: str, item: str) -> None:
        from safemt_client.datasets import images

        try:
            file = self._dataset.image_path(path)
            status = self._remembered.status_of(path, file)
            image, digest = images.look(file, item=item, how=self._how)
        except InputError as error:
            self.now[path] = str(error)
            return
        self.files[path] = digest
        if status is not None:
            self._remembered.keep(path, status, image, digest)
        # A file that is sent as it is was always sent so.
        changed = bool(self._sent) and image.sha256 != digest
        earlier = images.before(file, image, item=item, how=self._how) if changed else None
        if self._blank:
            image, earlier = images.blank(image), earlier and images.blank(earlier)
        self.now[path] = image
        if earlier is not None and earlier.sha256 in self._sent:
            self.before[path] = earlier
