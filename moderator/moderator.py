"""A moderator: a guard that watches a conversation, and the action taken on what it finds.

A moderated reply combines an assessment and a model's reply. Nothing fails open: a guard that fails, or gives
an unreadable answer, is never treated as one that says `safe`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cached_property
from typing import Any, Literal

import anyio

from safemt_client.moderator.assessor import Assessor, reply_as
from safemt_client.moderator.policies import Policies
from safemt_client.moderator.types import Assessment, Intervention, Stage
from safemt_client.providers.error_codes import ErrorCode
from safemt_client.providers.errors import PermitStoppedError, SafemtError
from safemt_client.providers.pauses import stopwatch
from safemt_client.providers.provider import Observer, Provider, ProviderWrapper
from safemt_client.providers.types import Message, Outcome, Reply, Request, Usage

__all__ = [
    "Action",
    "Moderated",
    "ModeratedReply",
    "Moderation",
    "Moderator",
    "OnGuardError",
    "PolicyPlace",
    "Step",
    "policy_after",
    "policy_before",
    "user_turns",
    "with_policy",
]

PolicyPlace = Literal["system", "developer", "user"]
"""Where a policy goes: a system message, a developer message, or before the text of the last user message."""

OnGuardError = Literal["unassessed", "refuse", "pass"]
"""The result of a turn that the guard could not assess: no score, a refusal, or as if there were no guard."""

Action = Literal["none", "policy", "blocked", "replaced", "refused", "passed", "unassessed"]
"""The result of an assessment. `refused` and `passed` belong to a failed one; `none`: the model went on."""

_REFUSAL = "I can't help with that."


@dataclass(frozen=True, slots=True)
class Moderation:
    """The settings of a moderator: everything that decides the action on an assessment.

    With `controversial` a verdict of that name counts as unsafe. `prefixes` also assesses the conversation as
    it stood at each earlier user turn, in parallel and without consequence: when is it first noticed?
    """

    interventions: frozenset[Intervention]
    policies: Policies
    place: PolicyPlace = "system"
    on_error: OnGuardError = "unassessed"
    controversial: bool = True
    prefixes: bool = False
    refusal: str = _REFUSAL

    def as_dict(self) -> dict[str, Any]:
        """JSON-able, for the moderator's key and for the store."""
        return {
            "interventions": sorted(self.interventions),
            "policies": self.policies.hash if "policy" in self.interventions else None,
            "place": self.place if "policy" in self.interventions else None,
            "on_error": self.on_error,
            "controversial": self.controversial,
            "prefixes": self.prefixes,
            "refusal": self.refusal,
        }


@dataclass(frozen=True, slots=True)
class Step:
    """One assessment: of the conversation up to user turn `turn`, and the action taken on it.

    `policy` is the text that was put before the model, `waited_s` the time by which it delayed the reply.
    """

    turn: int
    stage: Stage
    key: str
    assessment: Assessment
    action: Action
    policy: str | None = None
    waited_s: float = 0.0


@dataclass(frozen=True, slots=True)
class ModeratedReply(Reply):
    """A reply under a moderator; `sent` is what the model was asked, None if it was not."""

    steps: tuple[Step, ...] = ()
    action: Action = "none"
    sent: Request | None = None


class Moderator:
    """A guard on a model, and the action taken on its answers. Shared between tasks."""

    def __init__(self, name: str, assessor: Assessor, moderation: Moderation) -> None:
        self.name = name
        self.assessor = assessor
        self.moderation = moderation

    @cached_property
    def key(self) -> str:
        """Hash of the guard, its model and the settings: what decides a moderated reply besides the model."""
        content = [self.assessor.key, self.moderation.as_dict()]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]

    @property
    def most_assessments(self) -> int:
        """The most assessments of one turn, not counting those of earlier turns."""
        wanted = self.moderation.interventions
        return bool(wanted - {"output"} or self.moderation.prefixes) + ("output" in wanted)

    def unsafe(self, assessment: Assessment) -> bool:
        """Whether this assessment calls for action."""
        bad = ("unsafe", "controversial") if self.moderation.controversial else ("unsafe",)
        return assessment.verdict in bad

    def policy_for(self, assessment: Assessment) -> str:
        """The policy for the model: the guard's own, or that of the scenarios that it names."""
        return assessment.policy or self.moderation.policies.text_for(assessment.scenarios)

    def action_for(self, assessment: Assessment, unsafe: Action) -> Action:
        """The action on an assessment; `unsafe` is the action on an unsafe one."""
        if assessment.verdict in ("unparsed", "error"):
            return _FAILED[self.moderation.on_error]
        return unsafe if self.unsafe(assessment) else "none"

    async def on_input(
        self, messages: Sequence[Message], turn: int, on_retry: Observer | None = None
    ) -> Step:
        """Assess a conversation before the model is asked, and decide the action: a block, or a policy.

        Raises:
            TargetStoppedError: the guard can no longer be asked.
        """
        taken_s = stopwatch()
        key, found = await self.assessor.assess(messages, "input", on_retry)
        policy = None
        action = self.action_for(found, "blocked")
        if action == "blocked" and "block" not in self.moderation.interventions:
            action, policy = "policy", self.policy_for(found)
        return Step(turn, "input", key, found, action, policy, _waited(taken_s(), found))

    async def on_output(
        self, messages: Sequence[Message], turn: int, on_retry: Observer | None = None
    ) -> Step:
        """Assess a conversation that ends with the model's reply, and decide whether the reply is replaced.

        Raises:
            TargetStoppedError: the guard can no longer be asked.
        """
        taken_s = stopwatch()
        key, found = await self.assessor.assess(messages, "output", on_retry)
        return Step(
            turn, "output", key, found, self.action_for(found, "replaced"), None, _waited(taken_s(), found)
        )


_FAILED: Mapping[OnGuardError, Action] = {
    "unassessed": "unassessed",
    "refuse": "refused",
    "pass": "passed",
}


@dataclass
class _Watch:
    """Assessments without consequence, made in parallel: what they found, or what stopped the guard."""

    steps: list[Step] = field(default_factory=list)
    stopped: SafemtError | None = None


class Moderated(ProviderWrapper):
    """A provider wrapped in a moderator; itself a `Provider`."""

    def __init__(self, provider: Provider, moderator: Moderator) -> None:
        super().__init__(provider)
        self._moderator = moderator

    @property
    def identity(self) -> str:
        """Provider and model with the moderator."""
        return f"{self._provider.identity}+{self._moderator.key}"

    async def ask(self, request: Request, on_retry: Observer | None = None) -> ModeratedReply:
        """Assess, ask the model, assess what it says, as the moderator is set; see `Provider.ask`.

        Raises:
            TargetStoppedError: the model or the guard can no longer be asked.
        """
        moderator, wanted = self._moderator, self._moderator.moderation.interventions
        acts = bool(wanted & {"policy", "block"})
        watch = _Watch()
        async with anyio.create_task_group() as group:
            turns = user_turns(request.messages)
            if moderator.moderation.prefixes:
                for turn, end in enumerate(turns[:-1], start=1):
                    group.start_soon(self._watch, request.messages[: end + 1], turn, watch, on_retry)
            if not acts and ("observe" in wanted or moderator.moderation.prefixes):
                group.start_soon(self._watch, request.messages, len(turns), watch, on_retry)
            try:
                reply = await self._moderate(request, len(turns), acts, on_retry)
            except SafemtError as error:
                # Raised outside, so that it arrives as itself and not in an exception group.
                watch.stopped = error
                # When the session ends, assessments in flight are completed.
                if not isinstance(error, PermitStoppedError):
                    group.cancel_scope.cancel()
            since_answered_s = stopwatch()
        if watch.stopped is not None:
            raise watch.stopped
        # The reply has arrived; any further time was spent on the watch.
        late = since_answered_s()
        watched = [
            replace(step, waited_s=late if place == 0 else 0.0) for place, step in enumerate(watch.steps)
        ]
        return replace(reply, steps=(*watched, *reply.steps))

    async def _watch(
        self, messages: Sequence[Message], turn: int, watch: _Watch, on_retry: Observer | None
    ) -> None:
        try:
            key, found = await self._moderator.assessor.assess(messages, "input", on_retry)
        except SafemtError as error:
            watch.stopped = error
            return
        watch.steps.append(Step(turn, "input", key, found, "none"))

    async def _moderate(
        self, request: Request, turn: int, acts: bool, on_retry: Observer | None
    ) -> ModeratedReply:
        moderator = self._moderator
        steps: list[Step] = []
        sent = request
        action: Action = "none"
        if acts:
            step = await moderator.on_input(request.messages, turn, on_retry)
            steps.append(step)
            action = step.action
            if step.policy is not None:
                place = moderator.moderation.place
                sent = replace(request, messages=with_policy(request.messages, step.policy, place))
            if action in ("blocked", "refused", "unassessed"):
                return self._instead(step.assessment, action, tuple(steps), None, step.waited_s)
        reply = await self._provider.ask(sent, on_retry)
        if "output" in moderator.moderation.interventions and reply.outcome in _SAID and reply.text.strip():
            said = (*request.messages, Message("assistant", reply.text))
            step = await moderator.on_output(said, turn, on_retry)
            steps.append(step)
            after = step.action
            if after in ("replaced", "refused", "unassessed"):
                return self._instead(step.assessment, after, tuple(steps), sent, reply.latency_s)
            # A reply under a policy is not the model's own, even where the guard then failed.
            action = action if after == "none" or action == "policy" else after
        return reply_as(ModeratedReply, reply, steps=tuple(steps), action=action, sent=sent)

    def _instead(
        self, found: Assessment, action: Action, steps: tuple[Step, ...], sent: Request | None, took_s: float
    ) -> ModeratedReply:
        """What takes the place of a reply: a refusal, or an error that the turn could not be assessed."""
        name = self._moderator.name
        labels = f" ({', '.join(found.categories)})" if found.categories else ""
        common: dict[str, Any] = {
            "usage": Usage(cost_usd=0.0),
            "started_at": datetime.now(UTC),
            "latency_s": took_s,
            "steps": steps,
            "action": action,
            "sent": sent,
        }
        if action == "unassessed":
            why = found.error or "its answer is not in the expected form"
            # A failed guard may answer next time; an unreadable answer would be given again.
            outcome = Outcome.ERROR_TRANSIENT if found.verdict == "error" else Outcome.ERROR_PERMANENT
            code = found.error_code or ErrorCode.GUARD_UNPARSED
            error = f"unassessed: guard {name}: {why}"
            return ModeratedReply(outcome, error=error, error_code=code, **common)
        why = (
            f"{found.verdict}{labels}"
            if action != "refused"
            else f"could not assess: {found.error or found.verdict}"
        )
        blocked = ErrorCode.GUARD_BLOCKED
        common |= {"error": f"guard {name}: {why}", "error_code": found.error_code or blocked}
        text = self._moderator.moderation.refusal
        return ModeratedReply(Outcome.REFUSED_BY_GUARD, text=text, **common)


_SAID = (Outcome.ANSWERED, Outcome.TRUNCATED)


def _waited(taken_s: float, found: Assessment) -> float:
    """Seconds that were taken now, or the guard's original time for a cached assessment."""
    return max(taken_s, found.latency_s)


def user_turns(messages: Sequence[Message]) -> list[int]:
    """The places of the user's messages."""
    return [place for place, message in enumerate(messages) if message.role == "user"]


def policy_before(text: str, policy: str) -> str:
    """The text of a user's message with a policy before it."""
    return f"[{policy}]\n\n{text}"


def policy_after(text: str, policy: str) -> str:
    """The text of a system message with a policy after it."""
    return f"{text}\n\n{policy}"


def with_policy(messages: tuple[Message, ...], policy: str, place: PolicyPlace) -> tuple[Message, ...]:
    """The conversation with a policy in its place; everything else is unchanged."""
    if place == "user":
        last = user_turns(messages)[-1]
        told = replace(messages[last], text=policy_before(messages[last].text, policy))
        return (*messages[:last], told, *messages[last + 1 :])
    if place == "system" and messages and messages[0].role == "system":
        # Many templates take one system message only.
        return (replace(messages[0], text=policy_after(messages[0].text, policy)), *messages[1:])
    return (Message(place, policy), *messages)
