"""Replies that people have labelled: a map's, or a file of one's own with id, question, reply and label."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from safemt_client.datasets import files, open_dataset
from safemt_client.datasets.files import shown
from safemt_client.datasets.gathering import Gathered
from safemt_client.datasets.maps.language import open_map, shipped
from safemt_client.datasets.maps.values import as_text, listed
from safemt_client.datasets.model import Dataset, Dialogue
from safemt_client.datasets.records import LABELLED
from safemt_client.datasets.rows import rows
from safemt_client.providers.errors import InputError

__all__ = ["SAMPLE", "LabelledReply", "LabelledSet", "PersonsLabel", "open_labelled"]

SAMPLE = "sample"
"""The name of the bundled set: harmless replies, with labels of three invented people."""
_SAMPLE_FILE = Path(__file__).resolve().parent / "labelled_sample.jsonl"
_LABELS: tuple[Literal["safe", "unsafe"], ...] = ("safe", "unsafe")
_OWN = ("reply", "label", "labels", "annotator", "category", "item")
_CONVERSATIONS = ("dialogue", "messages", "conversations", "conversation")
_ONE_PERSON = "people"


@dataclass(frozen=True, slots=True)
class PersonsLabel:
    """What a person says of a reply; `given` is the word or number in the data."""

    annotator: str
    label: Literal["safe", "unsafe"]
    given: str


@dataclass(frozen=True, slots=True)
class LabelledReply:
    """A reply, the dialogue before it, and people's labels. Its id is the dialogue's.

    Replies of one `item` answer the same question: they are not independent.
    """

    dialogue: Dialogue
    reply: str
    item: str
    labels: tuple[PersonsLabel, ...]


@dataclass(frozen=True)
class LabelledSet:
    """Labelled replies that were read from one place; `unlabelled` counts those that nobody labelled.

    `dataset` has the dialogues, and finds their pictures; `place` is the file or folder. `skipped` counts
    rows that no variant of the map takes.
    """

    dataset: Dataset
    place: str
    replies: tuple[LabelledReply, ...]
    unlabelled: int = 0
    skipped: int = 0

    @cached_property
    def digest(self) -> str:
        """SHA-256 over the dialogues, the replies and the labels, whatever their order and place."""
        lines = [
            json.dumps([one.dialogue.item_id, one.reply, one.item, sorted(_plain(v) for v in one.labels)])
            for one in self.replies
        ]
        only = replace(self.dataset, dialogues=tuple(one.dialogue for one in self.replies))
        return hashlib.sha256("\n".join([only.digest, *sorted(lines)]).encode()).hexdigest()

    @property
    def items(self) -> list[str]:
        """The items of the replies, in the order of the data."""
        return list(dict.fromkeys(one.item for one in self.replies))

    def of_items(self, items: Collection[str]) -> LabelledSet:
        """The replies of these items."""
        return replace(self, replies=tuple(one for one in self.replies if one.item in items))


def _plain(label: PersonsLabel) -> tuple[str, str, str]:
    return label.annotator, label.label, label.given


def open_labelled(
    named: str,
    *,
    data_map: str | None = None,
    values: Sequence[str] = (),
    follow_links: bool = False,
    config: str | None = None,
    split: str | None = None,
) -> LabelledSet:
    """The set that `--set` names: `sample`, one's own file, or what a map with a table `labelled` reads.

    Raises:
        InputError: it does not exist, or a record is wrong; the line names the file, the record and the fix.
    """
    if data_map is not None:
        if open_map(data_map).labelled is None and not any(v.labelled for v in open_map(data_map).variant):
            raise InputError(
                f"--data-map {shown(data_map)}: has no table labelled, which says where people's labels are: "
                "see docs/calibration.md"
            )
        dataset = open_dataset(
            named,
            data_map=data_map,
            values=values,
            follow_links=follow_links,
            config=config,
            split=split,
        )
        return _whole(dataset, named)
    if values:
        raise InputError("--data-value: is for a map: add --data-map")
    if named.startswith("hf:") or config is not None or split is not None:
        raise InputError(f"--set {named}: which fields a set of the hub has, a map says: add --data-map")
    if named != SAMPLE and not Path(named).exists() and named in shipped():
        raise InputError(
            f"--set {named}: is the name of a map: name its files, as in --set FOLDER --data-map {named}"
        )
    path = _SAMPLE_FILE if named == SAMPLE else Path(named)
    if path.is_dir():
        raise InputError(f"{path}: is a folder: name a file of labelled replies, or add --data-map")
    found = Gathered(path.parent)
    found.take(_own_records(path))
    dataset = found.dataset("labelled sample" if named == SAMPLE else path.name, path)
    if dataset.refused:
        more = dataset.refused_count - 1
        raise InputError(dataset.refused[0] + (f" ({more:,} more)" if more else ""))
    if named == SAMPLE:
        dataset = replace(dataset, licence="Apache-2.0")
    return _whole(replace(dataset, links_to=(Path("/"),)) if follow_links else dataset, str(path))


def _own_records(path: Path) -> Iterator[tuple[str, Any]]:
    """The rows of one's own file as records of the open form."""
    if not path.is_file():
        raise InputError(f"{path}: no such file: name a file of labelled replies, or sample")
    for where, row in rows(path):
        try:
            if isinstance(row, InputError):
                raise row
            yield where, _own_record(row, where)
        except InputError as error:
            yield where, error


def _own_record(row: Any, where: str) -> dict[str, Any]:
    if not isinstance(row, dict):
        raise InputError(f"{where}: is not a JSON object: write one with id, question, reply and label")
    named = as_text(row.get("id"))
    if named is None or not files.is_utf8(named):
        raise InputError(f"{where}: field id: must be a text or number: give each reply an id of its own")
    where = f"{where} ({shown(named)})"
    given = {name: value for name, value in row.items() if value is not None}
    about: dict[str, Any] = {"id": named, "votes": _own_votes(row, where)}
    if "reply" in given:
        if not isinstance(given["reply"], str):
            raise InputError(f"{where}: field reply: must be a text, not {shown(given['reply'])}")
        about["reply"] = given["reply"]
    if (item := as_text(given.get("item"))) is not None:
        about["item"] = item
    conversation = next((name for name in _CONVERSATIONS if name in given), None)
    if conversation is None and "reply" not in given:
        raise InputError(f"{where}: field reply: is missing: write what is to be judged")
    record = {name: value for name, value in given.items() if not _is_own(name)}
    if conversation is None:
        question = given.get("question", given.get("prompt"))
        if not isinstance(question, str):
            raise InputError(f"{where}: field question: is missing: write what the reply answers")
        record = {name: value for name, value in record.items() if name != "prompt"}
        record |= {"question": question, "dialogue": [{"role": "user", "content": question}]}
    if (category := as_text(given.get("category"))) is not None:
        record["scenario"] = category
    by = as_text(given.get("annotator"))
    # Each row is a record by itself: those of one reply come together later.
    return record | {"id": named if by is None else f"{named} by {by}", LABELLED: about}


def _is_own(name: str) -> bool:
    return name in _OWN or name.startswith("label_")


def _own_votes(row: Mapping[str, Any], where: str) -> list[list[str]]:
    found: list[list[str]] = []

    def add(by: str, value: Any, field: str) -> None:
        text = (as_text(value) or "").strip()
        if not text and isinstance(value, str | None):
            return
        label = next((one for one in _LABELS if one == text.lower()), None)
        if label is None:
            raise InputError(
                f"{where}: field {field}: {shown(value)}: write safe or unsafe, or add a map that says which "
                "values are unsafe"
            )
        found.append([by, label, text])

    if "label" in row:
        add(as_text(row.get("annotator")) or _ONE_PERSON, row["label"], "label")
    several = listed(row.get("labels"))
    if isinstance(several, dict):
        for by, value in several.items():
            add(str(by), value, f"labels.{shown(by)}")
    elif isinstance(several, list):
        for number, value in enumerate(several, start=1):
            add(f"person {number}", value, f"labels[{number - 1}]")
    elif several is not None:
        raise InputError(f"{where}: field labels: must be a list of labels, or an object of them by person")
    for name, value in row.items():
        if name.startswith("label_"):
            add(name.removeprefix("label_"), value, shown(name))
    if not any(name in ("label", "labels") or name.startswith("label_") for name in row):
        raise InputError(f"{where}: field label: is missing: write safe or unsafe")
    return found


def _whole(dataset: Dataset, place: str) -> LabelledSet:
    """The replies of the dialogues of a data set, those of one id together.

    Raises:
        InputError: two replies have one id, or a person labels a reply twice.
    """
    found: dict[str, LabelledReply] = {}
    unlabelled = 0
    for dialogue in dataset.dialogues:
        about = dialogue.extra.get(LABELLED) or {}
        where = f"{place}: {shown(dialogue.item_id)}"
        named = about.get("id", dialogue.item_id)
        reply = about.get("reply", dialogue.extra.get("reference_reply"))
        if not isinstance(reply, str):
            raise InputError(f"{where}: field reply: is missing: there is nothing to judge")
        labels = tuple(PersonsLabel(*vote) for vote in about.get("votes", ()))
        extra = {name: value for name, value in dialogue.extra.items() if name != LABELLED}
        one = LabelledReply(
            replace(dialogue, item_id=named, extra=extra), reply, about.get("item", named), labels
        )
        if not labels:
            unlabelled += 1
        elif named not in found:
            found[named] = one
        else:
            found[named] = _together(found[named], one, where)
    if not found:
        raise InputError(f"{place}: nobody has labelled a reply: fill in the labels")
    for one in found.values():
        names = [label.annotator for label in one.labels]
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise InputError(
                f"{place}: {shown(one.dialogue.item_id)}: {shown(twice)} labels it twice: keep one "
                "label, or add a column annotator"
            )
    skipped = sum(note.kind == "row not taken" for note in dataset.warnings)
    return LabelledSet(dataset, place, tuple(found.values()), unlabelled, skipped)


def _together(first: LabelledReply, second: LabelledReply, where: str) -> LabelledReply:
    if (first.reply, first.dialogue.messages) != (second.reply, second.dialogue.messages):
        raise InputError(f"{where}: another reply has the id {shown(first.dialogue.item_id)}: rename one")
    return replace(first, labels=(*first.labels, *second.labels))
