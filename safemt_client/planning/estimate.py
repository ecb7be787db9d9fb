"""What a plan may cost, before anything is spent: calls, tokens, money and time.

Ranges, not promises: the text is counted by characters, an image by its vendor's rule, and a reply lies
between a short and a long one. The run itself counts what the endpoint reports.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from safemt_client.planning.conversation import Conversation
from safemt_client.planning.costs import batch_prices
from safemt_client.planning.plan import Plan
from safemt_client.planning.target import Target
from safemt_client.providers.limits.limiter import StatedLimits
from safemt_client.providers.limits.tokens import CHARACTERS_A_TOKEN, image_tokens

__all__ = [
    "Estimate",
    "EstimateLine",
    "RunEstimate",
    "call_usd",
    "estimate_of",
    "of_guard",
    "of_judge",
    "of_target",
    "seconds_at",
]

_SHORT_REPLY, _LONG_REPLY = 100, 1000
# Criteria, instructions and the answer of a judge, beside what it judges.
_JUDGE_FRAME, _JUDGE_ANSWER = 400, 60


@dataclass(frozen=True, slots=True)
class Estimate:
    """What one target or judge may take: calls at most, tokens and US dollars (None: price unknown).

    Ranges are from low to high.
    """

    calls: int
    tokens: tuple[int, int]
    usd: tuple[float, float] | None


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
    killed. `notes` are sentences about addresses and images that a user should look at.
    """

    plan: Plan = field(repr=False)
    lines: tuple[EstimateLine, ...]
    seconds: tuple[float, float] | None
    spent_usd: float
    held_usd: float = 0.0
    notes: tuple[str, ...] = ()

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


def of_target(plan: Plan, target: Target) -> Estimate:
    """What the target's part of the plan may take."""
    mine = [c for c in plan.pending if c.target is target]
    prompts, completions = [0, 0], [0, 0]
    for end, reply in enumerate(_reply_range(target)):
        for conversation in mine:
            prompts[end] += _prompt_tokens(conversation, reply)
            completions[end] += conversation.turns_left * reply
    prices = target.prices
    if prices is not None and plan.batch:
        prices = batch_prices(prices)
    return _estimate(sum(c.turns_left for c in mine), prompts, completions, prices)


def of_judge(plan: Plan) -> Estimate:
    """What the verdicts of the plan may take; all zero without a judge."""
    if plan.judge is None:
        return Estimate(0, (0, 0), (0.0, 0.0))
    prompts, completions = [0, 0], [0, 0]
    for end in (0, 1):
        for judging in plan.judgings:
            text = len(judging.subject.reply) + sum(len(m.text) for m in judging.subject.messages)
            prompts[end] += _JUDGE_FRAME + text // CHARACTERS_A_TOKEN
        for conversation in plan.pending:
            reply = _reply_range(conversation.target)[end]
            said = sum(len(message.text) for message in conversation.dialogue.messages)
            length = conversation.dialogue.length
            for turn in range(conversation.turn, length + 1):
                replies = turn if conversation.target.history == "live" else 1
                prompts[end] += _JUDGE_FRAME + said * turn // length // CHARACTERS_A_TOKEN + replies * reply
        completions[end] = plan.verdicts * _JUDGE_ANSWER
    prices = None if plan.judge.prices is None else json.loads(plan.judge.prices)
    if prices is not None and plan.judge_batch:
        prices = batch_prices(prices)
    return _estimate(plan.verdicts, prompts, completions, prices)


def of_guard(plan: Plan, guard_key: str) -> Estimate:
    """What the assessments of a guard may take at most."""
    calls, prompts, completions = 0, [0, 0], [0, 0]
    prices: Mapping[str, float] | None = None
    counted: set[str] = set()
    for row in plan.moderators:
        if row.guard_key != guard_key:
            continue
        prices = None if row.prices is None else json.loads(row.prices)
        settings = json.loads(row.settings)
        wanted = set(settings["interventions"])
        before, after = bool(wanted - {"output"} or settings["prefixes"]), "output" in wanted
        for conversation in (c for c in plan.pending if c.target.moderator == row.moderator_key):
            # Before the reply a scripted dialogue is the same under every target: it is assessed once.
            shared = conversation.target.history != "live" and conversation.key in counted
            counted.add(conversation.key)
            stages = (before and not shared) + after
            length = conversation.dialogue.length
            scripted = conversation.target.history == "scripted" and not shared
            earlier = length - 1 if settings["prefixes"] and scripted else 0
            count = conversation.turns_left * stages + earlier
            calls += count
            for end, reply in enumerate(_reply_range(conversation.target)):
                turns = conversation.turns_left
                said = _prompt_tokens(conversation, reply) + turns * _JUDGE_FRAME
                prompts[end] += round(said / turns * count)
                completions[end] += count * _JUDGE_ANSWER
    return _estimate(calls, prompts, completions, prices)


def call_usd(estimate: Estimate) -> float | None:
    """US dollars of one call at the high end, None where no price is known."""
    if estimate.usd is None:
        return None
    return estimate.usd[1] / estimate.calls if estimate.calls else 0.0


def seconds_at(
    plan: Plan, accounts: Mapping[str, str], stated: Callable[[str], StatedLimits]
) -> tuple[float, float] | None:
    """Seconds that the stated limits alone require, from low to high; None if no limit is stated.

    `accounts` maps each target's and the judge's key to its account, `stated` an account to its limits:
    those of one account share them, and accounts work side by side.
    """
    calls: dict[str, int] = defaultdict(int)
    tokens: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    # What goes in batches does not count against the limits of single calls.
    parts = [] if plan.batch else [(target.key, of_target(plan, target)) for target in plan.targets]
    if plan.judge is not None and not plan.judge_batch:
        parts.append((plan.judge.judge_key, of_judge(plan)))
    guards = dict.fromkeys(row.guard_key for row in plan.moderators)
    parts += [(guard_key, of_guard(plan, guard_key)) for guard_key in guards]
    for key, estimate in parts:
        account = accounts.get(key, key)
        calls[account] += estimate.calls
        for end in (0, 1):
            tokens[account][end] += estimate.tokens[end]
    limits = {account: stated(account) for account in calls}
    if all(limit.rpm is None and limit.tpm is None for limit in limits.values()):
        return None
    low, high = (
        max(
            max(
                calls[account] / limit.rpm * 60 if limit.rpm is not None else 0.0,
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


def _prompt_tokens(conversation: Conversation, reply: int) -> int:
    """Prompt tokens of all turns that are left, if each reply takes `reply` tokens."""
    dialogue, target = conversation.dialogue, conversation.target
    image = {path: image_tokens(target.identity, found) for path, found in conversation.images.items()}
    sizes = [
        (
            message.role,
            len(message.text) // CHARACTERS_A_TOKEN + sum(image.get(path, 0) for path in message.images),
        )
        for message in dialogue.messages
        if message.role != "system"
    ]
    system = len(target.system_prompt or dialogue.system or "") // CHARACTERS_A_TOKEN
    if target.history == "none":
        return system + sizes[-1][1] + sum(image.values())
    if target.history == "scripted":
        return system + sum(size for _, size in sizes)
    users = [size for role, size in sizes if role == "user"]
    return sum(
        system + sum(users[:turn]) + (turn - 1) * reply
        for turn in range(conversation.turn, dialogue.length + 1)
    )


def _estimate(
    calls: int, prompts: list[int], completions: list[int], prices: Mapping[str, float] | None
) -> Estimate:
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
    )
