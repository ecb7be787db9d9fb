"""What is wanted of a run, every name resolved, and what is known of it: a plan is made of the two."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol

from safemt_client.datasets.model import Dataset, Dialogue
from safemt_client.datasets.oddities import OddKind, by_kind
from safemt_client.judges.panel import Judge
from safemt_client.planning.pictures import Pictures
from safemt_client.planning.rows import dialogue_rows, keys_of
from safemt_client.planning.stopping import StopWhen
from safemt_client.planning.target import Target, digest_of
from safemt_client.providers.types import Image, Message, Outcome
from safemt_client.results.store.queries import OpenBatch, VerdictKey
from safemt_client.results.store.rows import (
    DialogueRow,
    JudgeRow,
    ModeratorRow,
    StopOrderRow,
    StopRuleRow,
)

__all__ = [
    "DataSource",
    "Known",
    "NothingKnown",
    "Resolved",
    "Sendable",
    "Step",
    "StoredReply",
    "of_dataset",
    "run_fingerprint",
]


@dataclass(frozen=True, slots=True)
class DataSource:
    """The data set that the dialogues are of; `odd` are its oddities by kind.

    `content` is the digest of the texts with the pictures, None where none were looked at.
    """

    name: str
    digest: str
    path: str
    licence: str | None
    odd: tuple[OddKind, ...] = ()
    content: str | None = None


@dataclass(frozen=True, slots=True)
class Sendable:
    """A dialogue that can be sent, with its images by their paths.

    `before` are all of them as an earlier version of the program sent them; empty if it sent the same.
    """

    dialogue: Dialogue
    key: str
    images: Mapping[str, Image]
    before: Mapping[str, Image] = field(default_factory=dict)


Step = tuple[str, str, int, str, int]
"""Target, dialogue, user turn, request and sample."""


@dataclass(frozen=True, slots=True)
class StoredReply:
    """A reply that is in the store under `request_hash`, with what a judge needs beside its text.

    Its verdict is kept under `judged_hash`; `question` is the data set's, if it has one.
    """

    target_key: str
    dialogue_key: str
    request_hash: str
    judged_hash: str
    outcome: Outcome
    messages: tuple[Message, ...]
    question: str | None
    scenario: str | None


@dataclass(frozen=True)
class Resolved:
    """What is wanted. `settings` is what decides the results, as the store keeps it.

    `sendable` are the dialogues that are followed through the store, each under each target and `samples`
    times. Of a run that is judged again there are none: its `replies` and its `steps` are known.
    `judge_rows` are those of the judge that decides, then of a panel's members; the plan sets the run ids of
    rows. `not_attempted` maps a dialogue's key to the reason why it cannot be sent. With `batch` what is
    pending goes in batches, with `judge_batch` the verdicts do. `apart` tells the run from a stored one
    with the same texts (`planning.content`). `stopping` are the rules that it stops by. Of a run that is
    judged again `carried` are the rules and the order of that run, and `stopped` its stopped targets. Of a
    piece of a run `whole` is the fingerprint of the run (`planning.pieces`).
    """

    data: DataSource
    dialogues: Sequence[DialogueRow]
    targets: tuple[Target, ...]
    settings: Mapping[str, Any]
    judge: Judge | None = None
    judge_rows: tuple[JudgeRow, ...] = ()
    moderators: tuple[ModeratorRow, ...] = ()
    sendable: tuple[Sendable, ...] = ()
    not_attempted: Mapping[str, str] = field(default_factory=dict)
    replies: tuple[StoredReply, ...] = ()
    steps: tuple[Step, ...] = ()
    samples: int = 1
    batch: bool = False
    judge_batch: bool = False
    apart: str | None = None
    stopping: StopWhen | None = None
    carried: tuple[StopRuleRow | StopOrderRow, ...] = ()
    stopped: Mapping[str, int] = field(default_factory=dict)
    whole: str | None = None

    @cached_property
    def fingerprint(self) -> str:
        """What says whether two invocations are the same run."""
        if self.whole is not None:
            return self.whole
        keys = keys_of(self.dialogues)
        same = run_fingerprint(self.data.digest, keys, [target.key for target in self.targets], self.judge)
        # Only where they are there, so that the runs of earlier versions stay.
        parts = [f"{self.samples} samples"] if self.samples > 1 else []
        parts += [] if self.apart is None else [self.apart]
        return digest_of([same, *parts]) if parts else same

    @property
    def run_id(self) -> str:
        """The first 12 digits of the fingerprint."""
        return self.fingerprint[:12]


_NO_PICTURES = Pictures()
_NO_IMAGES: Mapping[str, Image] = {}
"""One for all of the dialogues that have none: there may be a million."""


def of_dataset(
    dataset: Dataset,
    chosen: Sequence[Dialogue],
    targets: Sequence[Target],
    *,
    pictures: Pictures = _NO_PICTURES,
    settings: Mapping[str, Any] | None = None,
    judge: Judge | None = None,
    content: str | None = None,
    samples: int = 1,
) -> Resolved:
    """The chosen dialogues of a data set, for each of the targets; `content` is the digest of their data."""
    sendable: list[Sendable] = []
    not_attempted: dict[str, str] = {}
    keys = [dataset.dialogue_key(dialogue) for dialogue in chosen]
    for key, dialogue in zip(keys, chosen, strict=True):
        paths = [path for message in dialogue.messages for path in message.images] if pictures.now else []
        found = {path: pictures.now[path] for path in paths}
        broken = [reason for reason in found.values() if isinstance(reason, str)]
        if broken:
            not_attempted[key] = broken[0]
        else:
            ready = {path: image for path, image in found.items() if not isinstance(image, str)}
            before = {path: pictures.before.get(path, image) for path, image in ready.items()}
            changed = any(path in pictures.before for path in ready)
            sendable.append(Sendable(dialogue, key, ready or _NO_IMAGES, before if changed else _NO_IMAGES))
    return Resolved(
        data=DataSource(
            *(dataset.name, dataset.digest, str(dataset.path), dataset.licence, by_kind(dataset.warnings)),
            content,
        ),
        dialogues=dialogue_rows(dataset, chosen, keys),
        targets=tuple(targets),
        settings=dict(settings or {}),
        judge=judge,
        sendable=tuple(sendable),
        samples=samples,
        not_attempted=not_attempted,
    )


def run_fingerprint(
    dataset_digest: str, dialogue_keys: Sequence[str], target_keys: Sequence[str], judge: Judge | None
) -> str:
    """SHA-256 over the data, the targets and the judge: two invocations with the same one are one run."""
    return digest_of(
        [dataset_digest, sorted(dialogue_keys), sorted(target_keys), None if judge is None else judge.key]
    )


class Known(Protocol):
    """What of the wanted is known, looked up by hash: a store, or a stand-in of a test."""

    def observed(self, hashes: Sequence[str]) -> Mapping[str, str]:
        """The outcomes of those requests that were observed: they are not asked again."""
        ...

    def texts(self, hashes: Sequence[str]) -> Mapping[str, str]:
        """The text of each reply that was observed."""
        ...

    def judged_as(self, hashes: Sequence[str]) -> Mapping[str, str]:
        """Of moderated turns whose reply is the model's own: the hash under which its verdict is kept."""
        ...

    def reply_hashes(self, hashes: Sequence[str]) -> Mapping[str, str]:
        """The hash of the text of each reply that was observed."""
        ...

    def final(self, wanted: Sequence[VerdictKey]) -> tuple[set[VerdictKey], set[VerdictKey]]:
        """Those of the verdicts that are final: of the very replies, and of the same texts elsewhere."""
        ...

    def final_verdicts(self, wanted: Sequence[VerdictKey]) -> Mapping[VerdictKey, tuple[Any, ...]]:
        """What those of the verdicts say that are final."""
        ...

    def open_batches(self, hashes: Sequence[str]) -> Sequence[OpenBatch]:
        """The batches under way that contain one of these requests."""
        ...


class NothingKnown:
    """What is known without a store."""

    def observed(self, hashes: Sequence[str]) -> Mapping[str, str]:
        """See `Known`."""
        return {}

    texts = judged_as = reply_hashes = observed

    def final(self, wanted: Sequence[VerdictKey]) -> tuple[set[VerdictKey], set[VerdictKey]]:
        """See `Known`."""
        return set(), set()

    def final_verdicts(self, wanted: Sequence[VerdictKey]) -> Mapping[VerdictKey, tuple[Any, ...]]:
        """See `Known`."""
        return {}

    def open_batches(self, hashes: Sequence[str]) -> Sequence[OpenBatch]:
        """See `Known`."""
        return ()
