"""The shards of a run, made as workers need them: of a large run one piece after another is planned."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import replace

import anyio

from safemt_client.cluster.shards import Shard, cut, head_of
from safemt_client.engine.keeper import Keeper
from safemt_client.engine.recorder import Recorder
from safemt_client.planning.build import make_plan
from safemt_client.planning.pieces import pieces_of
from safemt_client.planning.plan import Plan
from safemt_client.planning.resolved import Resolved

__all__ = ["Supply"]


class Supply:
    """Makes shards of `size` conversations. Use once, from one task; `replan` may be called meanwhile.

    `plan` is that of the run, and `wanted` what it was made of; `keeper` is the store. `fewer` is told, by
    key, how many turns and verdicts fewer are to come than the run's plan says.
    """

    def __init__(
        self,
        plan: Plan,
        wanted: Resolved,
        keeper: Keeper,
        session_id: str,
        size: int,
        fewer: Callable[[str, int], None],
    ) -> None:
        self._plan, self._wanted, self._keeper, self._session_id = plan, wanted, keeper, session_id
        self._size, self._fewer = size, fewer
        self._numbers = itertools.count()
        self._whole = plan if plan.counted is None else None
        parts = () if plan.counted is None else plan.counted.parts
        self._pieces = zip(pieces_of(wanted) if parts else (), parts, strict=True)
        self._held: list[Shard] = []
        self._before: set[frozenset[str]] = set()

    async def more(self, under_way: Callable[[], Sequence[Shard]]) -> list[Shard] | None:
        """Shards that can be carried out beside those that are `under_way`; None once there are no more.

        What asks the same as one of these waits until that is done: then the store has the reply. There may
        be none for now.
        """
        if self._held:
            return await self._released(under_way)
        # Before the store is asked what it knows: what is no longer under way then is in it.
        others = [(shard, shard.requests) for shard in under_way()]
        asked = set[str]().union(*(requests for _, requests in others))
        plan, self._whole = self._whole, None
        if plan is None:
            if (found := await anyio.to_thread.run_sync(self._next)) is None:
                return None
            plan, turns, verdicts = found
            self._compare(turns, verdicts, plan)
            await self._save(plan)
        shards = await anyio.to_thread.run_sync(cut, plan, self._size, self._numbers, asked)
        now: list[Shard] = []
        for shard in shards:
            alike = {other.dialogues for other, requests in others if not requests.isdisjoint(shard.after)}
            self._before |= alike
            (self._held if alike else now).append(shard)
        return now

    async def save_rest(self, begins: Callable[[], None]) -> None:
        """Save what was known of the pieces that are not made into shards any more; `begins` if that is any.

        So a run that ends early has what it would have had as one piece. To be called after the last `more`.
        """
        began = False
        while (found := await anyio.to_thread.run_sync(self._next, True)) is not None:
            if not began:
                began = True
                begins()
            await self._save(found[0])

    def over(self, stopped: Set[str]) -> bool:
        """Whether nothing of the run can be asked any more, since these targets and judges cannot."""
        plan = self._plan
        targets = {target.key for target in plan.targets}
        judged = plan.judge is None or plan.judge.judge_key in stopped or not plan.unjudged
        return judged and bool(stopped) and targets <= stopped

    async def replan(self, shard: Shard) -> Shard:
        """What is left of a shard, as the store has it now: turns and verdicts."""
        left, _ = await self._left(shard.dialogues)
        rest = replace(head_of(left), pending=left.pending, fresh=left.fresh, judgings=left.judgings)
        return Shard(next(self._numbers), shard.dialogues, rest)

    async def _left(self, dialogues: Set[str]) -> tuple[Plan, dict[str, str]]:
        """The plan of what is left of these dialogues, and their items by key."""
        wanted = self._wanted
        sendable = tuple(one for one in wanted.sendable if one.key in dialogues)
        part = replace(wanted, whole=wanted.fingerprint, sendable=sendable, steps=(), replies=())
        left = await anyio.to_thread.run_sync(make_plan, part, self._keeper)
        # What conversations have from others' replies: a worker that died may not have said so.
        await self._save(left)
        return left, {one.key: one.dialogue.item_id for one in sendable}

    async def _released(self, under_way: Callable[[], Sequence[Shard]]) -> list[Shard]:
        """What had to wait, as the store has it once it need not wait any more."""
        if any(shard.dialogues in self._before for shard in under_way()):
            return []
        held, self._held, self._before = self._held, [], set()
        left, items = await self._left(frozenset[str]().union(*(shard.dialogues for shard in held)))
        turns = sum((shard.plan.turns for shard in held), Counter[str]())
        self._compare(turns, sum(shard.plan.verdicts for shard in held), left)
        # Cut anew: what began with one request goes on with many.
        return await anyio.to_thread.run_sync(cut, left, self._size, self._numbers, frozenset[str](), items)

    def _next(self, only_known: bool = False) -> tuple[Plan, Mapping[str, int], int] | None:
        """The plan of the next piece, and how many turns and verdicts it was to have.

        With `only_known` of the next one of which the store had something when the run was planned.
        """
        for piece, (turns, verdicts, known) in self._pieces:
            if known or not only_known:
                return make_plan(piece, self._keeper), turns, verdicts
        return None

    def _compare(self, turns: Mapping[str, int], verdicts: int, now: Plan) -> None:
        """Say what the store has got since so much was to come."""
        for key, count in now.turns.items():
            self._fewer(key, turns.get(key, 0) - count)
        if now.judge is not None:
            self._fewer(now.judge.judge_key, verdicts - now.verdicts)

    async def _save(self, plan: Plan) -> None:
        recorder = Recorder(plan, self._keeper, self._session_id)
        await recorder.save_steps(plan.steps, {step.dialogue_key for step in plan.steps})
        await recorder.save_taken(plan.taken)
