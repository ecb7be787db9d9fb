"""Verdicts that another reply of the same text has had: they are taken over, not asked for again."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Container, Sequence

import anyio

from safemt_client.engine.verdict_recorder import VerdictRecorder
from safemt_client.judges.panel import Judge, Panel
from safemt_client.planning.judgings import JudgingTask
from safemt_client.results.store.queries import VerdictKey
from safemt_client.results.store.rows import VerdictRow

__all__ = ["GivenVerdicts"]

# So many verdicts are at hand, older ones in the store. What asks the same is asked close together.
_AT_HAND = 20_000


class GivenVerdicts:
    """The final verdicts of a session, and with `earlier` those that the store held when it began."""

    def __init__(self, recorder: VerdictRecorder, *, earlier: bool) -> None:
        self._recorder = recorder
        self._known: Container[tuple[str, str]] = recorder.store.final_texts() if earlier else ()
        self._given: set[str] = set()
        self._places: set[tuple[str, str, str]] = set()
        self._at_hand: OrderedDict[str, VerdictRow] = OrderedDict()

    def knows(self, key: VerdictKey) -> bool:
        """Whether the judge has said it already."""
        said = key.reply_hash
        return (
            key.hash in self._given or (key.hash, said) in self._known or (key.earlier, said) in self._known
        )

    def add(self, judge: Judge, task: JudgingTask, rows: Sequence[VerdictRow]) -> None:
        """A verdict is in the store, in these rows."""
        key = task.verdict_of(judge)
        self._given.add(key.hash)
        self._places.add((key.hash, key.request_hash, key.dialogue_key))
        if not isinstance(judge, Panel):
            self._at_hand[key.hash] = rows[0]
            if len(self._at_hand) > _AT_HAND:
                self._at_hand.popitem(last=False)

    async def take(self, judge: Judge, task: JudgingTask) -> None:
        """Save for this reply what was said of its text, if there is no row for it yet."""
        key = task.verdict_of(judge)
        place = (key.hash, key.request_hash, key.dialogue_key)
        if place in self._places:
            return
        self._places.add(place)
        if (row := self._at_hand.get(key.hash)) is not None:
            await self._recorder.store.save(self._recorder.taken_row(key, row))
            return
        members = judge.members if isinstance(judge, Panel) else ()
        await self.take_all([key, *(task.verdict_of(member) for member in members)])

    def label(self, judge: Judge, task: JudgingTask) -> str:
        """The label that the judge has given this text."""
        key = task.verdict_of(judge)
        row = self._at_hand.get(key.hash)
        label = self._recorder.store.final_verdicts([key])[key][0] if row is None else row.label
        return str(label)

    async def take_all(self, wanted: Sequence[VerdictKey]) -> None:
        """The same for these verdicts, as far as the store has them."""
        _, elsewhere = await anyio.to_thread.run_sync(self._recorder.store.final, wanted)
        await self._recorder.save_taken([one for one in wanted if one in elsewhere])
