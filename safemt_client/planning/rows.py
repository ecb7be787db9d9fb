"""Rows of the store that a plan consists of."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from json.encoder import encode_basestring
from typing import TYPE_CHECKING, overload

from safemt_client.datasets.model import Dataset, Dialogue
from safemt_client.judges.panel import Judge, Panel
from safemt_client.results.store.rows import DialogueRow, JudgeRow, ModeratorRow

if TYPE_CHECKING:
    from safemt_client.moderator.moderator import Moderator

__all__ = [
    "DialogueRows",
    "dialogue_row",
    "dialogue_rows",
    "judge_rows",
    "keys_of",
    "messages_of",
    "moderator_row",
    "script_json",
]


def judge_rows(
    judge: Judge | None,
    run_id: str,
    names: Mapping[str, str],
    prices: Mapping[str, Mapping[str, float] | None],
) -> tuple[JudgeRow, ...]:
    """The rows of table `run_judges`: the one that decides first, then the members of a panel."""
    if judge is None:
        return ()
    panel = isinstance(judge, Panel)
    members = judge.members if isinstance(judge, Panel) else (judge,)
    rows = [
        JudgeRow(
            run_id,
            member.key,
            names[member.key],
            member.identity,
            member.rubric.name,
            member.rubric.hash,
            json.dumps(member.sampling.as_dict(), sort_keys=True),
            _json(prices.get(member.key)),
            "member" if panel else "decides",
            place,
        )
        for place, member in enumerate(members, start=int(panel))
    ]
    if not isinstance(judge, Panel):
        return tuple(rows)
    # What all of them together cost; a chain may cost less.
    each = [prices.get(member.key) for member in members]
    total: Counter[str] | None = Counter()
    for one in each:
        total = None if one is None or total is None else total + Counter(dict(one))
    called = f"{judge.mode} of {', '.join(names[member.key] for member in members)}"
    row = JudgeRow(
        *(
            run_id,
            judge.key,
            called,
            judge.identity,
            judge.rubric.name,
            judge.rubric.hash,
            "{}",
            _json(total),
        ),
        role="decides",
        position=0,
    )
    return (row, *rows)


def _json(prices: Mapping[str, float] | None) -> str | None:
    return None if prices is None else json.dumps(dict(prices))


# `json.dumps` with an option makes a new encoder at each call.
_extra_json = json.JSONEncoder(ensure_ascii=False, default=str).encode


def dialogue_row(dataset: Dataset, dialogue: Dialogue) -> DialogueRow:
    """The row of table `dialogues`."""
    return DialogueRow(
        dialogue_key=dataset.dialogue_key(dialogue),
        dataset_digest=dataset.digest,
        item_id=dialogue.item_id,
        length=dialogue.length,
        scenario=dialogue.scenario,
        source=dialogue.source,
        method=dialogue.method,
        benign=dialogue.benign,
        question=dialogue.question,
        messages=messages_of(dialogue),
        extra=_extra_json(dict(dialogue.extra)),
        condition=dialogue.condition,
        paired_length=None if dialogue.control is None else dialogue.paired_length,
    )


_HELD = 50_000
"""Rows of so many dialogues are made once and kept."""


class DialogueRows(Sequence[DialogueRow]):
    """The rows of many dialogues of a data set: each is made when it is looked at, since they are long.

    `keys` are their keys.
    """

    def __init__(self, dataset: Dataset, dialogues: Sequence[Dialogue], keys: Sequence[str]) -> None:
        self._dataset = dataset
        self._dialogues = dialogues
        self.keys = keys

    def __len__(self) -> int:
        return len(self._dialogues)

    @overload
    def __getitem__(self, place: int) -> DialogueRow: ...

    @overload
    def __getitem__(self, place: slice) -> DialogueRows: ...

    def __getitem__(self, place: int | slice) -> DialogueRow | DialogueRows:
        if isinstance(place, slice):
            return DialogueRows(self._dataset, self._dialogues[place], self.keys[place])
        return dialogue_row(self._dataset, self._dialogues[place])


def dialogue_rows(
    dataset: Dataset, dialogues: Sequence[Dialogue], keys: Sequence[str]
) -> Sequence[DialogueRow]:
    """The rows of table `dialogues`, of dialogues with these keys."""
    if len(dialogues) > _HELD:
        return DialogueRows(dataset, dialogues, keys)
    return tuple(dialogue_row(dataset, dialogue) for dialogue in dialogues)


def keys_of(rows: Sequence[DialogueRow]) -> Sequence[str]:
    """The keys of these dialogues, in their order."""
    return rows.keys if isinstance(rows, DialogueRows) else [row.dialogue_key for row in rows]


def messages_of(dialogue: Dialogue) -> str:
    """The messages of a dialogue as they were read, as JSON; pictures by their paths."""
    return script_json((message.role, message.text, message.images) for message in dialogue.messages)


def script_json(messages: Iterable[tuple[str, str, Sequence[str]]]) -> str:
    """The same of messages by role, text and paths."""
    said = (
        f'{{"role": "{role}", "content": {encode_basestring(text)}'
        + (f', "images": [{", ".join(map(encode_basestring, paths))}]}}' if paths else "}")
        for role, text, paths in messages
    )
    return f"[{', '.join(said)}]"


def moderator_row(moderator: Moderator, run_id: str, prices: Mapping[str, float] | None) -> ModeratorRow:
    """The row of table `run_moderators`."""
    moderation, card = moderator.moderation, moderator.assessor.guard.card
    policies = f"{moderation.policies.name} {moderation.policies.version}"
    return ModeratorRow(
        run_id,
        moderator.key,
        moderator.name,
        card.name,
        moderator.assessor.key,
        moderator.assessor.provider.identity,
        card.licence,
        json.dumps(moderation.as_dict() | {"policies": policies}, sort_keys=True),
        None if prices is None else json.dumps(dict(prices)),
    )
