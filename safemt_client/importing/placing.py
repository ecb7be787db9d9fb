"""The dialogues that imported replies answer: those of a data set, or what the files have of them."""

from __future__ import annotations

import hashlib
import json
import os
from array import array
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import groupby
from json.encoder import encode_basestring_ascii
from pathlib import Path
from typing import cast

from safemt_client.datasets import embedded
from safemt_client.datasets.files import shown
from safemt_client.datasets.model import Dataset, Dialogue
from safemt_client.importing.found import Found, Key
from safemt_client.importing.joining import Joined
from safemt_client.importing.spool import Content, Kept
from safemt_client.planning.messages import messages_json
from safemt_client.planning.rows import dialogue_row, script_json
from safemt_client.providers.errors import InputError
from safemt_client.providers.json_codec import dumps
from safemt_client.providers.types import Image, Message, Role
from safemt_client.results.store.rows import DialogueRow

__all__ = ["Places", "placed"]


@dataclass(frozen=True)
class Places:
    """Where all replies belong. `images` has the pictures that could be read, by path.

    Without a data set, the dialogues are what the files have of them.
    """

    replies: Joined
    name: str
    digest: str
    path: str
    licence: str | None
    images: Mapping[str, Image]
    notes: tuple[str, ...]
    dataset: Dataset | None = None
    of_data: Mapping[Key, Dialogue] = field(default_factory=dict)

    def dialogue_key(self, record: Kept) -> str:
        """The key of a reply's dialogue."""
        if self.dataset is not None:
            return self.dataset.dialogue_key(self.of_data[record.key])
        condition = "" if record.condition is None else f"/{record.condition}"
        return f"{self.digest[:12]}:{record.paired}{condition}:{record.item_id}"

    def dialogue(self, record: Kept) -> DialogueRow:
        """The dialogue of a reply."""
        if self.dataset is not None:
            return dialogue_row(self.dataset, self.of_data[record.key])
        return DialogueRow(
            dialogue_key=self.dialogue_key(record),
            dataset_digest=self.digest,
            item_id=record.item_id,
            length=record.length,
            **Content(*record.content)._asdict(),
            messages=_messages(record),
            extra=record.extra,
            condition=record.condition,
            paired_length=None if record.condition is None else record.paired,
        )

    def request(self, record: Kept) -> str:
        """The messages before the reply: as the file has them, else those of the data if complete."""
        of_data = self.of_data[record.key] if self.dataset is not None else None
        if record.messages is None and (of_data is None or not of_data.scripted):
            return "[]"
        if of_data is None and not self.images:
            return dumps(
                [{"role": role, "content": text} for role, text, _ in record.messages or ()]
            ).decode()
        theirs = () if of_data is None else tuple((m.role, m.text, m.images) for m in of_data.messages)
        # The pictures are those of the data: a file has at best their names.
        shown_with = theirs or record.messages or ()
        images = iter([paths for role, _, paths in shown_with if role == "user"])
        return messages_json(
            tuple(
                Message(
                    cast(Role, role),
                    text,
                    tuple(self.images[path] for path in next(images) if path in self.images)
                    if role == "user"
                    else (),
                )
                for role, text, _ in record.messages or theirs
            )
        )


def placed(found: Found, replies: Joined, dataset: Dataset | None, *, only_matching: bool = False) -> Places:
    """Find the dialogue of each reply, in the data set where one is given.

    Raises:
        InputError: records are not in the data set, or have other texts there, and not `only_matching`.
    """
    if dataset is None:
        return _from_files(found, replies)
    index = {(one.item_id, one.paired_length, one.condition): one for one in dataset.dialogues}
    owners: dict[str, str] = {}
    matched = array("Q")
    missing: list[int] = []
    others: list[int] = []
    for place, record in enumerate(replies):
        dialogue = index.get(record.key)
        if dialogue is None:
            missing.append(place)
        elif record.messages is not None and _users(record) != _users_of(dialogue):
            others.append(place)
        else:
            matched.append(place)
            for message in dialogue.messages:
                owners.update(dict.fromkeys(message.images, dialogue.item_id))
    notes = [
        _refuse_or_say(replies, some, f"{what} in {dataset.path}", only_matching)
        for some, what in ((missing, "are not"), (others, "have other texts"))
        if some
    ]
    if not matched:
        raise InputError(
            f"{dataset.path}: has none of the dialogues of {found.files[0]}: name another --data"
        )
    if len(index) > len(matched):
        notes.append(f"{len(index) - len(matched):,} of {len(index):,} dialogues of the data have no reply")
    pictures, broken = _prepared(dataset, owners)
    return Places(
        replies.only(matched),
        *(dataset.name, dataset.digest, str(dataset.path), dataset.licence),
        pictures,
        (*notes, *broken),
        dataset,
        index,
    )


def _users(record: Kept) -> list[str]:
    return [text for role, text, _ in record.messages or () if role == "user"]


def _users_of(dialogue: Dialogue) -> list[str]:
    return [message.text for message in dialogue.messages if message.role == "user"]


def _refuse_or_say(replies: Joined, some: Sequence[int], what: str, only_matching: bool) -> str:
    first = replies.at(some[0])
    said = (
        f"{len(some):,} of {len(replies):,} records {what} (the first: {shown(first.item_id)} with "
        f"{first.length} turns)"
    )
    if only_matching:
        return f"{said}: left out"
    raise InputError(
        f"{first.where}: {said}: name the data that were asked, leave --data out, or import the others "
        "alone with --only-matching"
    )


def _from_files(found: Found, replies: Joined) -> Places:
    owners: dict[str, str] = {}
    unknown = 0
    begins: list[str] = []
    for record in replies:
        unknown += record.messages is None
        begins.append(_begin(record))
        for _, _, paths in record.messages or ():
            for path in paths:
                owners[path] = record.item_id
    pictures, broken = _prepared(Dataset("", found.folder, (), links_to=(Path("/"),)), owners)
    notes = (
        [f"the dialogues of {unknown:,} of {len(replies):,} replies are not in the files"] if unknown else []
    )
    return Places(
        replies,
        *(found.source, _digest(replies, begins), str(found.folder), None),
        pictures,
        (*notes, *broken),
    )


def _digest(replies: Joined, begins: Sequence[str]) -> str:
    """SHA-256 over what the files have of the dialogues, whatever their order; `begins` are of the lines."""
    found = hashlib.sha256(b"imported")
    for _, places in groupby(sorted(range(len(replies)), key=begins.__getitem__), key=begins.__getitem__):
        for line in sorted(_line(replies.at(place)) for place in places):
            found.update(line.encode())
    return found.hexdigest()


def _line(record: Kept) -> str:
    scenario, source, method, benign, question = map(_json, record.content)
    said = encode_basestring_ascii(_messages(record))
    return f"{_begin(record)} {scenario}, {source}, {method}, {benign}, {question}, {said}]"


def _begin(record: Kept) -> str:
    """How the line of a reply begins, which decides the order, but for controls."""
    return f"[{encode_basestring_ascii(record.item_id)}, {record.length},"


def _json(value: str | bool | None) -> str:
    return encode_basestring_ascii(value) if isinstance(value, str) else json.dumps(value)


def _messages(record: Kept) -> str:
    """The messages of a dialogue, as JSON."""
    return "[]" if record.messages is None else script_json(record.messages)


def _prepared(files: Dataset, owners: Mapping[str, str]) -> tuple[dict[str, Image], list[str]]:
    """The pictures by path, as this program sends them, and what is wrong with others.

    `owners` has the item of each, by the path.
    """
    if not owners:
        return {}, []
    from safemt_client.datasets import images

    def one(path: str) -> Image | str:
        if path.startswith(embedded.PREFIX) and not embedded.file_of(path).is_file():
            # Our own exports have the hashes of what was sent.
            return Image(path.removeprefix(embedded.PREFIX), "", 0, 0, 0, bytes)
        try:
            return images.prepare(files.image_path(path), item=owners[path])
        except InputError as error:
            return str(error)

    with ThreadPoolExecutor(os.cpu_count() or 2) as pool:
        made = dict(zip(owners, pool.map(one, owners), strict=True))
    broken = [reason for reason in made.values() if isinstance(reason, str)]
    notes = [f"{len(broken):,} of {len(made):,} pictures cannot be read: {broken[0]}"] if broken else []
    return {path: image for path, image in made.items() if not isinstance(image, str)}, notes
