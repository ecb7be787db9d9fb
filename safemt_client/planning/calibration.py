"""What is wanted of a calibration: a judge's verdicts of replies that people have labelled."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from safemt_client.datasets.labelled import LabelledReply, LabelledSet, open_labelled
from safemt_client.judges.panel import Judge, Panel
from safemt_client.models import Models
from safemt_client.planning.costs import stored_prices
from safemt_client.planning.pictures import pictures_of
from safemt_client.planning.plan import Plan
from safemt_client.planning.resolved import DataSource, Known, NothingKnown, Resolved, StoredReply
from safemt_client.planning.rows import judge_rows
from safemt_client.planning.sampling import order_of
from safemt_client.planning.target import digest_of
from safemt_client.pricing import prices_of
from safemt_client.providers.errors import InputError
from safemt_client.providers.types import Image, Message, Outcome, reply_hash
from safemt_client.results.store.queries import OpenBatch, VerdictKey
from safemt_client.results.store.rows import CalibrationLabelRow, CalibrationReplyRow, CalibrationRow
from safemt_client.settings import RunSettings

if TYPE_CHECKING:
    from safemt_client.results.store.store import Store

__all__ = ["Calibration", "KnownReplies", "chosen_of", "resolve_calibration"]

_NOBODY = ""
"""The target of a reply that no target of this program has given."""


class KnownReplies:
    """The replies of a set as if they were in the store, and what the store knows of their verdicts."""

    def __init__(self, known: Known, replies: Mapping[str, str]) -> None:
        self._known = known
        self._replies = replies

    def observed(self, hashes: Sequence[str]) -> Mapping[str, str]:
        """See `Known`."""
        return {}

    judged_as = observed

    def texts(self, hashes: Sequence[str]) -> Mapping[str, str]:
        """See `Known`."""
        return {key: self._replies[key] for key in hashes}

    def reply_hashes(self, hashes: Sequence[str]) -> Mapping[str, str]:
        """See `Known`."""
        return {key: reply_hash(self._replies[key]) for key in hashes}

    def final(self, wanted: Sequence[VerdictKey]) -> tuple[set[VerdictKey], set[VerdictKey]]:
        """See `Known`."""
        return self._known.final(wanted)

    def final_verdicts(self, wanted: Sequence[VerdictKey]) -> Mapping[VerdictKey, tuple[Any, ...]]:
        """See `Known`."""
        return self._known.final_verdicts(wanted)

    def open_batches(self, hashes: Sequence[str]) -> Sequence[OpenBatch]:
        """See `Known`."""
        return self._known.open_batches(hashes)


@dataclass(frozen=True)
class Calibration:
    """What a calibration asks for, and the set that it is of."""

    wanted: Resolved
    labelled: LabelledSet
    known: KnownReplies
    pictures_seen: bool

    def rows(self, plan: Plan) -> tuple[CalibrationRow, list[CalibrationReplyRow | CalibrationLabelRow]]:
        """The row of the calibration, and those of its set."""
        run, digest = plan.run, self.labelled.digest
        assert plan.judge is not None
        row = CalibrationRow(
            *(run.run_id, run.fingerprint, run.created_at, run.program_version),
            *(run.dataset_name, digest, run.dataset_path, run.dataset_licence),
            *(plan.judge.judge_key, run.settings, self.pictures_seen),
        )
        found: list[CalibrationReplyRow | CalibrationLabelRow] = []
        for one, key in zip(self.labelled.replies, _keys(self.labelled), strict=True):
            dialogue = one.dialogue
            messages = [
                {"role": message.role, "content": message.text}
                | ({"images": list(message.images)} if message.images else {})
                for message in dialogue.messages
            ]
            found.append(
                CalibrationReplyRow(
                    *(digest, dialogue.item_id, one.item, dialogue.scenario, dialogue.length),
                    sum(len(message.images) for message in dialogue.messages),
                    dialogue.question,
                    json.dumps(messages, ensure_ascii=False),
                    one.reply,
                    key,
                    self.labelled.dataset.dialogue_key(dialogue),
                    reply_hash(one.reply),
                )
            )
            found += [
                CalibrationLabelRow(digest, dialogue.item_id, label.annotator, label.label, label.given)
                for label in one.labels
            ]
        return row, found


def chosen_of(settings: RunSettings) -> tuple[LabelledSet, dict[str, Any]]:
    """The labelled replies that the settings take, and what says which they are.

    Raises:
        InputError: the set, or a record of it, is wrong.
    """
    if settings.sample is not None and settings.limit is not None:
        raise InputError("--sample: draws from all items: leave --limit out")
    labelled = open_labelled(
        settings.dataset,
        data_map=settings.data_map,
        values=settings.data_value or (),
        follow_links=settings.follow_links,
        config=settings.data_config,
        split=settings.data_split,
    )
    if settings.limit is not None:
        labelled = labelled.of_items(set(labelled.items[: settings.limit]))
    if settings.sample is not None:
        by_item = [replace(one.dialogue, item_id=one.item) for one in labelled.replies]
        labelled = labelled.of_items(set(order_of(by_item, settings.sample_seed)[: settings.sample]))
    names = ("data_map", "data_value", "data_config", "data_split", "limit", "sample", "sample_seed")
    kept = {name: value for name in names if (value := getattr(settings, name))}
    return labelled, {"set": settings.dataset, **kept}


async def resolve_calibration(
    settings: RunSettings,
    labelled: LabelledSet,
    chosen: Mapping[str, Any],
    models: Models,
    store: Store | None,
) -> Calibration:
    """What is wanted: a verdict of each reply by the judge of the settings. Nothing is sent.

    `chosen` says which replies of the set these are, as the settings of a calibration are kept.

    Raises:
        InputError: a judge is missing, or a picture that it would be shown.
    """
    judge = await models.judge()
    if judge is None:
        raise InputError("--judge none: name the judge to calibrate, such as --judge gpt-4o-mini")
    if settings.batch and judge.key not in models.batches:
        asked = ", ".join(settings.judge_names)
        raise InputError(f"--batch: no batch API is known for {asked}, or it is a panel: leave it out")
    pictures = await _pictures(settings, labelled, judge)
    keys = _keys(labelled)
    dataset = labelled.dataset
    replies = tuple(
        StoredReply(
            _NOBODY,
            dataset.dialogue_key(one.dialogue),
            *(key, key, Outcome.ANSWERED),
            tuple(
                Message(
                    said.role, said.text, tuple(pictures[path] for path in said.images if path in pictures)
                )
                for said in one.dialogue.messages
            ),
            one.dialogue.question,
            one.dialogue.scenario,
        )
        for one, key in zip(labelled.replies, keys, strict=True)
    )
    shown = sorted((path, image.sha256) for path, image in pictures.items())
    wanted = Resolved(
        data=DataSource(dataset.name, labelled.digest, labelled.place, dataset.licence),
        dialogues=(),
        targets=(),
        settings=settings.deciding_labels | dict(chosen),
        judge=judge,
        replies=replies,
        judge_batch=settings.batch,
        apart=digest_of(["calibration", shown]),
    )
    snapshot = stored_prices(store, wanted.run_id)
    prices = {key: prices_of(spec, settings, snapshot, key) for key, spec in models.judge_specs.items()}
    rows = judge_rows(judge, wanted.run_id, models.judge_names, prices)
    texts = dict(zip(keys, (one.reply for one in labelled.replies), strict=True))
    known = KnownReplies(store or NothingKnown(), texts)
    return Calibration(replace(wanted, judge_rows=rows), labelled, known, _sees_pictures(judge))


def _keys(labelled: LabelledSet) -> list[str]:
    """What the verdict of each reply is kept under: the same in whatever selection of its set."""
    return [_key(one, labelled.dataset.dialogue_key(one.dialogue)) for one in labelled.replies]


def _key(one: LabelledReply, dialogue_key: str) -> str:
    return digest_of(["labelled reply", dialogue_key, one.reply])


def _sees_pictures(judge: Judge) -> bool:
    members = judge.members if isinstance(judge, Panel) else (judge,)
    return any(member.sees == "image" for member in members)


async def _pictures(settings: RunSettings, labelled: LabelledSet, judge: Judge) -> dict[str, Image]:
    """The pictures of the set by their paths, if the judge is shown any.

    Raises:
        InputError: one is missing or broken.
    """
    if not _sees_pictures(judge):
        return {}
    dialogues = [one.dialogue for one in labelled.replies]
    found = (await pictures_of(labelled.dataset, dialogues, settings, None)).now
    for one in dialogues:
        for path in (path for message in one.messages for path in message.images):
            if isinstance(reason := found[path], str):
                raise InputError(
                    f"{labelled.place}: {one.item_id}: {reason}: restore it, or use --judge-sees dialogue"
                )
    return {path: image for path, image in found.items() if not isinstance(image, str)}
