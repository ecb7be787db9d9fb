"""What a plan may cost, before anything is spent: calls, tokens, money and time.

Ranges, not promises: the text is counted by characters, an image by its vendor's rule, and a reply lies
between a short and a long one. The run itself counts what the endpoint reports.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Literal

from safemt_client.planning.conversation import Conversation
from safemt_client.planning.costs import batch_prices
from safemt_client.planning.estimated import Estimate, plus
from safemt_client.planning.plan import Plan
from safemt_client.planning.sharing import acts
from safemt_client.planning.target import Target
from safemt_client.providers.limits.limiter import StatedLimits
from safemt_client.providers.limits.tokens import CHARACTERS_A_TOKEN, image_tokens
from safemt_client.results.scores.power import Power
from safemt_client.results.store.rows import JudgeRow

__all__ = [
    "Estimate",
    "EstimateLine",
    "RunEstimate",
    "call_usd",
    "estimate_of",
    "estimates_of",
    "of_guard",
    "of_judge",
    "of_target",
    "seconds_at",
]

_SHORT_REPLY, _LONG_REPLY = 100, 1000
# Criteria, instructions and the answer of a judge, beside what it judges.
_JUDGE_FRAME, _JUDGE_ANSWER = 400, 60


@dataclass(frozen=True, slots=True)
class EstimateLine:
    """What a target, a guard or the judge may take; `cached` of its turns or verdicts are in the store."""

    key: str
    name: str
    role: Literal["target", "guard", "judge"]
    estimate: Estimate
    cached: int = 0


@dataclass(frozen=True, slots=True)
class RunEstimate:
    """A plan with what it may take: nothing has been asked. Ranges are from low to high.

    `seconds` is what the stated limits alone require, None if no limit is stated; `spent_usd` what the run
    has cost so far, and `held_usd` what calls may have cost besides that were in flight when a session was
    killed. `notes` are sentences about addresses and images that a user should look at. `power` is what the
    dialogues can show; only a dry run works it out. The plan of a large run has no conversations
    (`planning.outline`).
    """

    plan: Plan = field(repr=False)
    lines: tuple[EstimateLine, ...]
    seconds: tuple[float, float] | None
    spent_usd: float
    held_usd: float = 0.0
    notes: tuple[str, ...] = ()
    power: Power | None = None

    @property
    def run_id(self) -> str:
        """The run that carrying out the plan would start or continue."""
        return self.plan.run.run_id

    @property
    def calls(self) -> int:
        """Calls at most, to targets, guards and the judge."""
        return sum(line.estimate.calls for line in self.lines)

    @property
    def cached(self) -> int:
        """Turns and verdicts that are already in the store."""
        return sum(line.cached for line in self.lines)

    @property
    def tokens(self) -> tuple[int, int]:
        """Tokens of all calls."""
        low, high = (sum(line.estimate.tokens[end] for line in self.lines) for end in (0, 1))
        return low, high

    @property
    def usd(self) -> tuple[float, float] | None:
        """US dollars to come; None where a price is not known."""
        known = [line.estimate.usd for line in self.lines if line.estimate.calls]
        if any(usd is None for usd in known):
            return None
        low, high = (sum(usd[end] for usd in known if usd is not None) for end in (0, 1))
        return low, high


def estimate_of(
    plan: Plan,
    accounts: Mapping[str, str],
    stated: Callable[[str], StatedLimits],
    spent_usd: float = 0.0,
    held_usd: float = 0.0,
    notes: tuple[str, ...] = (),
) -> RunEstimate:
    """What the plan may take; `accounts` and `stated` as of `seconds_at`."""
    lines = [
        EstimateLine(t.key, t.name, "target", of_target(plan, t), plan.cached_turns.get(t.key, 0))
        for t in plan.targets
    ]
    guards = {row.guard_key: row.guard for row in plan.moderators}
    lines += [EstimateLine(key, name, "guard", of_guard(plan, key)) for key, name in guards.items()]
    if plan.judge is not None:
        judge = plan.judge
        lines.append(EstimateLine(judge.judge_key, judge.name, "judge", of_judge(plan), plan.cached_verdicts))
    return RunEstimate(plan, tuple(lines), seconds_at(plan, accounts, stated), spent_usd, held_usd, notes)


def estimates_of(plan: Plan) -> dict[str, Estimate]:
    """What each target, guard and the judge may take, by its key."""
    found = {target.key: of_target(plan, target) for target in plan.targets}
    found |= {row.guard_key: of_guard(plan, row.guard_key) for row in plan.moderators}
    if plan.judge is not None:
        found[plan.judge.judge_key] = of_judge(plan)
    return found


def of_target(plan: Plan, target: Target) -> Estimate:
    """What the target's part of the plan may take."""
    if plan.counted is not None:
        return plan.counted.estimates[target.key]
    mine = [(c, fresh.asked) for c, fresh in plan.with_fresh if c.target is target]
    prompts, completions = [0, 0], [0, 0]
    replies = _reply_range(target)
    for conversation, turns in mine:
        for prompt, before in _prompts(conversation, turns):
            for end, reply in enumerate(replies):
                prompts[end] += prompt + before * reply
                completions[end] += reply
    prices = target.prices
    if prices is not None and plan.batch:
        prices = batch_prices(prices)
    calls = sum(len(turns) for _, turns in mine)
    wanted = sum(conversation.turns_left for conversation, _ in mine)
    found = _estimate(calls, prompts, completions, prices, calls)
    return replace(found, wanted=wanted, at_most=_depends(plan, target))


def _depends(plan: Plan, target: Target) -> bool:
    """Whether the number of calls to a target depends on what it, a guard or the judge says."""
    stops = plan.stopping is not None and any(target.key in rule.keys for rule in plan.stopping.rules)
    return (
        stops
        or target.history == "live"
        or any(row.moderator_key == target.moderator and acts(row) for row in plan.moderators)
    )


def of_judge(plan: Plan) -> Estimate:
    """What the verdicts of the plan may take; all zero without a judge."""
    if plan.judge is None:
        return Estimate(0, (0, 0), (0.0, 0.0))
    if plan.counted is not None:
        return plan.counted.estimates[plan.judge.judge_key]
    members = plan.members or (plan.judge,)
    chain = plan.judge.identity == "panel/chain"
    known = [0] * len(members)
    verdicts = 0
    prompts = [0, 0]
    for judging in plan.to_judge:
        verdicts += 1
        text = len(judging.subject.reply) + sum(len(m.text) for m in judging.subject.messages)
        for end in (0, 1):
            prompts[end] += _JUDGE_FRAME + text // CHARACTERS_A_TOKEN
        for place, member in enumerate(members):
            known[place] += member.judge_key in judging.known
    for conversation, fresh in plan.with_fresh:
        verdicts += len(fresh.judged)
        said = sum(len(message.text) for message in conversation.dialogue.messages)
        length = conversation.dialogue.length
        for end, reply in enumerate(_reply_range(conversation.target)):
            for turn in fresh.judged:
                replies = turn if conversation.target.history == "live" else 1
                prompts[end] += _JUDGE_FRAME + said * turn // length // CHARACTERS_A_TOKEN + replies * reply
    found = Estimate(
        *(0, (0, 0), (0.0, 0.0), verdicts),
        # A reply that is blocked, empty or never comes has no verdict.
        at_most=bool(plan.pending),
    )
    for place, member in enumerate(members):
        asked = verdicts - known[place]
        in_any_case = 0 if chain and place == len(members) - 1 else asked
        mean = [asked * tokens // verdicts if verdicts else 0 for tokens in prompts]
        found = plus(found, _of_member(plan, member, mean, in_any_case, asked))
    return found


def _of_member(plan: Plan, member: JudgeRow, prompts: list[int], least: int, asked: int) -> Estimate:
    """What one judge may take that is `asked` for so many verdicts, at `least` for so many."""
    single = prices = None if member.prices is None else json.loads(member.prices)
    if prices is not None and plan.judge_batch:
        prices = batch_prices(prices)
    tokens, answers = prompts, asked * _JUDGE_ANSWER
    least_tokens = tokens[0] if least else 0
    low = _estimate(least, [least_tokens] * 2, [least * _JUDGE_ANSWER] * 2, prices)
    once = _estimate(asked, [tokens[1]] * 2, [answers] * 2, prices, asked)
    # A repair shows the judge all of it again, and its own answer. Before, it is asked singly where a batch
    # has no answer that can be read.
    again = 2 if plan.judge_batch else 1
    more = _estimate(again * asked, [again * tokens[1] + answers] * 2, [again * answers] * 2, single)
    usd = None
    if low.usd is not None and once.usd is not None and more.usd is not None:
        usd = (low.usd[0], once.usd[1] + more.usd[1])
    high = once.tokens[1] + more.tokens[1]
    return Estimate(once.calls + more.calls, (low.tokens[0], high), usd, least=least, each_usd=once.each_usd)


def of_guard(plan: Plan, guard_key: str) -> Estimate:
    """What the assessments of a guard may take at most."""
    if plan.counted is not None:
        return plan.counted.estimates[guard_key]
    rows = {row.moderator_key: row for row in plan.moderators if row.guard_key == guard_key}
    row = next(iter(rows.values()), None)
    prices = None if row is None or row.prices is None else json.loads(row.prices)
    calls, prompts, completions = 0, [0, 0], [0, 0]
    for conversation, fresh in plan.with_fresh:
        if conversation.target.moderator not in rows:
            continue
        calls += len(fresh.assessed)
        replies = _reply_range(conversation.target)
        sizes = _prompts(conversation, [turn for turn, _ in fresh.assessed])
        for (prompt, before), (_, stage) in zip(sizes, fresh.assessed, strict=True):
            for end, reply in enumerate(replies):
                prompts[end] += _JUDGE_FRAME + prompt + (before + (stage == "output")) * reply
                completions[end] += _JUDGE_ANSWER
    found = _estimate(calls, prompts, completions, prices, calls)
    return replace(found, wanted=calls, at_most=True)


def call_usd(estimate: Estimate) -> float | None:
    """US dollars of one call, verdict or assessment at the high end, None where no price is known."""
    return estimate.each_usd


def seconds_at(
    plan: Plan, accounts: Mapping[str, str], stated: Callable[[str], StatedLimits]
) -> tuple[float, float] | None:
    """Seconds that the stated limits alone require, from low to high; None if no limit is stated.

    `accounts` maps each target's and the judge's key to its account, `stated` an account to its limits:
    those of one account share them, and accounts work side by side.
    """
    calls: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    tokens: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    # What goes in batches does not count against the limits of single calls.
    parts: dict[str, Callable[[], Estimate]] = {}
    if not plan.batch:
        parts |= {target.key: partial(of_target, plan, target) for target in plan.targets}
    if plan.judge is not None and not plan.judge_batch:
        parts[plan.judge.judge_key] = partial(of_judge, plan)
    parts |= {row.guard_key: partial(of_guard, plan, row.guard_key) for row in plan.moderators}
    limits = {account: stated(account) for account in {accounts.get(key, key) for key in parts}}
    if all(limit.rpm is None and limit.tpm is None for limit in limits.values()):
        return None
    for key, part in parts.items():
        estimate = part()
        account = accounts.get(key, key)
        for end, count in enumerate((estimate.least, estimate.calls)):
            calls[account][end] += count
            tokens[account][end] += estimate.tokens[end]
    low, high = (
        max(
            max(
                calls[account][end] / limit.rpm * 60 if limit.rpm is not None else 0.0,
                tokens[account][end] / limit.tpm * 60 if limit.tpm is not None else 0.0,
            )
            for account, limit in limits.items()
        )
        for end in (0, 1)
    )
    return low, high


def _reply_range(target: Target) -> tuple[int, int]:
    most = target.sampling.max_tokens or _LONG_REPLY
    return min(_SHORT_REPLY, most), min(_LONG_REPLY, most)


def _prompts(conversation: Conversation, turns: Sequence[int]) -> Iterator[tuple[int, int]]:
    """For each of these user turns: prompt tokens beside the target's own replies, and how many of these."""
    dialogue, target = conversation.dialogue, conversation.target
    if not turns:
        return
    image = {path: image_tokens(target.identity, found) for path, found in conversation.images.items()}
    system = len(target.system_prompt or dialogue.system or "") // CHARACTERS_A_TOKEN
    own = target.history not in ("scripted", "none")
    # What stands before the end of each user turn, its own message included.
    asked: list[int] = []
    said = last = 0
    for message in dialogue.messages:
        if message.role == "system" or (own and message.role == "assistant"):
            continue
        last = len(message.text) // CHARACTERS_A_TOKEN
        if message.images:
            last += sum(image.get(path, 0) for path in message.images)
        said += last
        if message.role == "user":
            asked.append(said)
    for turn in turns:
        if target.history == "none":
            yield system + last + sum(image.values()), 0
        else:
            yield system + asked[turn - 1], turn - 1 if own else 0


def _estimate(
    calls: int,
    prompts: list[int],
    completions: list[int],
    prices: Mapping[str, float] | None,
    each: int = 0,
) -> Estimate:
    """`each` is how many the money at the high end is for."""
    low, high = (
        None
        if prices is None
        else prompts[end] * prices.get("input", 0.0) + completions[end] * prices.get("output", 0.0)
        for end in (0, 1)
    )
    return Estimate(
        calls,
        (prompts[0] + completions[0], prompts[1] + completions[1]),
        None if low is None or high is None else (low, high),
        least=calls,
        each_usd=None if high is None else high / each if each else 0.0,
    )
