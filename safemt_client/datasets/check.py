"""`data check`: what a data set contains, what will be sent, and what is refused, missing, broken or odd."""

from __future__ import annotations

import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

from safemt_client.datasets import embedded
from safemt_client.datasets.images import ImageError, prepare
from safemt_client.datasets.model import Dataset, Dialogue
from safemt_client.datasets.nearby import Nearby
from safemt_client.providers.errors import InputError
from safemt_client.providers.types import Image

__all__ = ["Pictures", "Report", "check"]


@dataclass(frozen=True)
class Pictures:
    """The distinct pictures of a data set. `as_it_is` of those that can be sent are sent unchanged.

    `types` counts them as they are sent, and `notes` what is done to them or odd about them. `bytes` is their
    size together when they are sent, and `largest` the longest edge, in pixels.
    """

    count: int = 0
    embedded: int = 0
    as_it_is: int = 0
    types: dict[str, int] = field(default_factory=dict)
    notes: dict[str, int] = field(default_factory=dict)
    bytes: int = 0
    largest: int = 0


@dataclass(frozen=True)
class Report:
    """Findings on a data set. Counts are of dialogues; `missing_ids` maps a length to item ids.

    `usable` dialogues can be sent: all of their pictures are there. `refused` has a line for each record that
    cannot be read, up to a number, and `refused_count` counts them. `alike` are ids, or scenarios, that
    differ only in case, in white space, or in how an accent is written. `half_pairs` are the pairs that have
    at no length both a harmful and a benign twin; the turns of `labelled` dialogues have labels.
    """

    name: str
    digest: str
    licence: str | None
    dialogues: int
    items: int
    usable: int
    refused_count: int
    lengths: dict[int, int]
    scenarios: dict[str, int]
    sources: dict[str, int]
    methods: dict[str, int]
    benign: int
    live_only: int
    system: int
    pairs: int
    half_pairs: int
    labelled: int
    controls: dict[str, int]
    missing_ids: dict[int, list[str]]
    pictures: Pictures
    refused: list[str]
    missing_images: list[str]
    broken_images: list[str]
    duplicate_questions: list[list[str]]
    alike: list[list[str]]
    oddities: dict[str, int]
    oddity_list: list[dict[str, str]]

    @property
    def status(self) -> int:
        """The exit status: 2 if nothing can be used, 1 if something is missing or broken, else 0."""
        if not self.usable:
            return 2
        return int(bool(self.refused_count or self.missing_images or self.broken_images))

    def as_dict(self) -> dict[str, Any]:
        """The findings as JSON-able data."""
        return asdict(self)


def check(dataset: Dataset, check_images: bool = True) -> Report:
    """Count a data set and open its images."""
    dialogues = dataset.dialogues
    looked = _Looked(dataset) if check_images else None
    usable = [d for d in dialogues if looked is None or looked.all_there(d)]
    ids: dict[int, set[str]] = defaultdict(set)
    questions: dict[str, set[str]] = defaultdict(set)
    for dialogue in dialogues:
        if dialogue.control is None:
            ids[dialogue.length].add(dialogue.item_id)
        if dialogue.question:
            questions[" ".join(dialogue.question.split()).casefold()].add(dialogue.item_id)
    everyone: set[str] = set().union(*ids.values()) or {dialogue.item_id for dialogue in dialogues}
    # Where no item has two lengths none is missing at any.
    matched = sum(map(len, ids.values())) > len(everyone)
    return Report(
        name=dataset.name,
        digest=dataset.digest,
        licence=dataset.licence,
        dialogues=len(dialogues),
        items=len(everyone),
        usable=len(usable),
        refused_count=dataset.refused_count,
        lengths=dict(sorted(Counter(d.length for d in dialogues).items())),
        scenarios=dict(sorted(Counter(d.scenario or "unknown" for d in dialogues).items())),
        sources=dict(sorted(Counter(d.source or "unknown" for d in dialogues).items())),
        methods=dict(sorted(Counter(d.method or "unknown" for d in dialogues).items())),
        benign=sum(d.benign is True for d in dialogues),
        live_only=len(dialogues) if dataset.live_only else sum(not d.scripted for d in dialogues),
        system=sum(d.system is not None for d in dialogues),
        pairs=len({d.pair for d in dialogues if d.pair is not None}),
        half_pairs=_half_pairs(dialogues),
        labelled=sum("turn_labels" in d.extra for d in dialogues),
        controls=dict(sorted(Counter(d.condition for d in dialogues if d.condition is not None).items())),
        missing_ids={k: sorted(everyone - found) for k, found in sorted(ids.items()) if everyone - found}
        if matched
        else {},
        pictures=Pictures() if looked is None else looked.pictures(),
        refused=list(dataset.refused),
        missing_images=[] if looked is None else looked.missing,
        broken_images=[] if looked is None else looked.broken,
        duplicate_questions=sorted(sorted(items) for items in questions.values() if len(items) > 1),
        alike=[*_alike(everyone), *_alike(d.scenario for d in dialogues if d.scenario)],
        oddities=dict(sorted(Counter(oddity.kind for oddity in dataset.warnings).items())),
        oddity_list=[asdict(oddity) for oddity in dataset.warnings],
    )


def _half_pairs(dialogues: Iterable[Dialogue]) -> int:
    sides: dict[str, dict[int, set[bool]]] = defaultdict(lambda: defaultdict(set))
    for dialogue in dialogues:
        if dialogue.pair is not None:
            sides[dialogue.pair][dialogue.length].add(dialogue.benign is True)
    return sum(all(len(found) < 2 for found in by_length.values()) for by_length in sides.values())


def _alike(names: Iterable[str]) -> list[list[str]]:
    """Groups of names that a reader of a table would take for one."""
    found: dict[str, set[str]] = defaultdict(set)
    for name in names:
        found[" ".join(unicodedata.normalize("NFKC", name).casefold().split())].add(name)
    return sorted(sorted(group) for group in found.values() if len(group) > 1)


class _Looked:
    """The pictures of a data set, each opened once."""

    def __init__(self, dataset: Dataset) -> None:
        self.missing: list[str] = []
        self.broken: list[str] = []
        self._sent: dict[str, Image] = {}
        self._unchanged = 0
        nearby = Nearby((dataset.path, *dataset.also))
        owners: dict[str, str] = {}
        for dialogue in dataset.dialogues:
            for path in _paths(dialogue):
                owners.setdefault(path, dialogue.item_id)
        dataset.bring(owners)
        for path, item in sorted(owners.items()):
            try:
                file = dataset.image_path(path)
            except InputError as error:
                hint = nearby.hint(path) if str(error).startswith("image missing") else None
                self.missing.append(f"{error} ({item})" + (f": {hint}" if hint else ""))
                continue
            try:
                image = prepare(file, item=item)
            except ImageError as error:
                self.broken.append(str(error))
                continue
            self._sent[path] = image
            self._unchanged += image.sha256 == dataset.picture_digest(path)
        self._count = len(owners)
        self._embedded = sum(path.startswith(embedded.PREFIX) for path in owners)

    def all_there(self, dialogue: Dialogue) -> bool:
        """Whether a dialogue can be sent."""
        return all(path in self._sent for path in _paths(dialogue))

    def pictures(self) -> Pictures:
        """The pictures in figures."""
        sent = self._sent.values()
        return Pictures(
            count=self._count,
            embedded=self._embedded,
            as_it_is=self._unchanged,
            types=dict(sorted(Counter(image.media_type for image in sent).items())),
            notes=dict(sorted(Counter(note for image in sent for note in image.notes).items())),
            bytes=sum(image.size for image in sent),
            largest=max((max(image.width, image.height) for image in sent), default=0),
        )


def _paths(dialogue: Dialogue) -> Iterable[str]:
    return (path for message in dialogue.messages for path in message.images)
