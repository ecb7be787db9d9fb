"""The dialogues that imported replies answer: those of a data set, or what the files have of them."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safemt_client.datasets import embedded
from safemt_client.datasets.files import shown
from safemt_client.datasets.model import Dataset, Dialogue
from safemt_client.importing.found import Found, Record
from safemt_client.planning.messages import messages_json
from safemt_client.planning.rows import dialogue_row, messages_of
from safemt_client.providers.errors import InputError
from safemt_client.providers.types import Image, Message
from safemt_client.results.store.rows import DialogueRow

__all__ = ["Placed", "Places", "placed"]


@dataclass(frozen=True, slots=True)
class Placed:
    """A reply with its dialogue's row, and the messages before it as the store has them: `[]` if unknown."""

    record: Record
    dialogue: DialogueRow
    request: str


@dataclass(frozen=True)
class Places:
    """Where all replies belong. `images` has the pictures that could be read, by path."""

    placed: Sequence[Placed]
    name: str
    digest: str
    path: str
    licence: str | None
    images: Mapping[str, Image]
    notes: tuple[str, ...]


def placed(
    found: Found, records: Sequence[Record], dataset: Dataset | None, *, only_matching: bool = False
) -> Places:
    """Find the dialogue of each record, in the data set where one is given.

    Raises:
        InputError: records are not in the data set, or have other texts there, and not `only_matching`.
    """
    if dataset is None:
        return _from_files(found, records)
    index = {(one.item_id, one.paired_length, one.condition): one for one in dataset.dialogues}
    matched: list[tuple[Record, Dialogue]] = []
    missing: list[Record] = []
    others: list[Record] = []
    for record in records:
        dialogue = index.get(record.key)
        if dialogue is None:
            missing.append(record)
        elif record.dialogue is not None and _users(record.dialogue) != _users(dialogue):
            others.append(record)
        else:
            matched.append((record, dialogue))
    notes = [
        _refuse_or_say(some, len(records), f"{what} in {dataset.path}", only_matching)
        for some, what in ((missing, "are not"), (others, "have other texts"))
        if some
    ]
    if not matched:
        raise InputError(
            f"{dataset.path}: has none of the dialogues of {found.files[0]}: name another --data"
        )
    if len(index) > len(matched):
        notes.append(f"{len(index) - len(matched):,} of {len(index):,} dialogues of the data have no reply")
    pictures, broken = _prepared(dataset, (dialogue for _, dialogue in matched))
    return Places(
        [
            Placed(record, dialogue_row(dataset, dialogue), _request(record.dialogue, dialogue, pictures))
            for record, dialogue in matched
        ],
        *(dataset.name, dataset.digest, str(dataset.path), dataset.licence),
        pictures,
        (*notes, *broken),
    )


def _users(dialogue: Dialogue) -> list[str]:
    return [message.text for message in dialogue.messages if message.role == "user"]


def _refuse_or_say(some: Sequence[Record], total: int, what: str, only_matching: bool) -> str:
    said = (
        f"{len(some):,} of {total:,} records {what} (the first: {shown(some[0].item_id)} with "
        f"{some[0].length} turns)"
    )
    if only_matching:
        return f"{said}: left out"
    raise InputError(
        f"{some[0].where}: {said}: name the data that were asked, leave --data out, or import the others "
        "alone with --only-matching"
    )


def _from_files(found: Found, records: Sequence[Record]) -> Places:
    digest = _digest(records)
    files = Dataset("", found.folder, (), links_to=(Path("/"),))
    pictures, broken = _prepared(files, (r.dialogue for r in records if r.dialogue is not None))
    unknown = sum(record.dialogue is None for record in records)
    notes = (
        [f"the dialogues of {unknown:,} of {len(records):,} replies are not in the files"] if unknown else []
    )
    return Places(
        [
            Placed(record, _own_row(record, digest), _request(record.dialogue, None, pictures))
            for record in records
        ],
        *(found.source, digest, str(found.folder), None),
        pictures,
        (*notes, *broken),
    )


def _digest(records: Sequence[Record]) -> str:
    """SHA-256 over what the files have of the dialogues, whatever their order."""
    lines = sorted(json.dumps([r.item_id, r.length, *_content(r).values()], default=str) for r in records)
    found = hashlib.sha256(b"imported")
    for line in lines:
        found.update(line.encode())
    return found.hexdigest()


def _content(record: Record) -> dict[str, Any]:
    """What the files have of a dialogue."""
    dialogue, about = record.dialogue, record.about
    named = ("scenario", "source", "method", "benign", "question")
    if dialogue is None:
        return {name: about.get(name) for name in named} | {"messages": "[]"}
    return {name: getattr(dialogue, name) if about.get(name) is None else about[name] for name in named} | {
        "messages": messages_of(dialogue)
    }


def _own_row(record: Record, digest: str) -> DialogueRow:
    dialogue = record.dialogue
    _, paired, condition = record.key
    extra = {} if dialogue is None else dict(dialogue.extra)
    return DialogueRow(
        dialogue_key=f"{digest[:12]}:{paired}{'' if condition is None else f'/{condition}'}:{record.item_id}",
        dataset_digest=digest,
        item_id=record.item_id,
        length=record.length,
        extra=json.dumps(extra, ensure_ascii=False, default=str),
        condition=condition,
        paired_length=None if condition is None else paired,
        **_content(record),
    )


def _request(own: Dialogue | None, of_data: Dialogue | None, pictures: Mapping[str, Image]) -> str:
    """The messages before the reply: as the file has them, else those of the data if complete."""
    said = own or of_data
    if said is None or (own is None and not said.scripted):
        return "[]"
    # The pictures are those of the data: a file has at best their names.
    shown_with = of_data or said
    images = iter([message.images for message in shown_with.messages if message.role == "user"])
    return messages_json(
        tuple(
            Message(
                message.role,
                message.text,
                tuple(pictures[path] for path in next(images) if path in pictures)
                if message.role == "user"
                else (),
            )
            for message in said.messages
        )
    )


def _prepared(files: Dataset, dialogues: Iterable[Dialogue]) -> tuple[dict[str, Image], list[str]]:
    """The pictures of the dialogues by path, as this program sends them, and what is wrong with others."""
    owners = {
        path: dialogue.item_id
        for dialogue in dialogues
        for message in dialogue.messages
        for path in message.images
    }
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
