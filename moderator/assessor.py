"""A guard and the model that it runs on: one conversation in, one assessment out, requested only once."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from typing import Any, Protocol, Self, TypeVar

import anyio

from safemt_client.moderator.types import Assessment, Guard, NotAssessableError, Stage
from safemt_client.providers.error_codes import ErrorCode
from safemt_client.providers.errors import TargetStoppedError
from safemt_client.providers.provider import Observer, Provider
from safemt_client.providers.types import Message, Reply, Usage, reply_hash

__all__ = ["AssessmentCache", "Assessor", "GuardReply", "assessment_hash", "reply_as"]

R = TypeVar("R", bound=Reply)


@dataclass(frozen=True, slots=True)
class GuardReply(Reply):
    """An attempt at the guard, not at the model."""


class AssessmentCache(Protocol):
    """Stores assessments, so that none is requested twice."""

    def find(self, key: str) -> Assessment | None:
        """The assessment of this hash, None if there is none yet."""
        ...

    async def keep(self, key: str, stage: Stage, assessment: Assessment) -> None:
        """Keep an assessment; errors too, though `find` does not give them back."""
        ...


class _Nothing:
    """Keeps nothing."""

    def find(self, key: str) -> Assessment | None:
        return None

    async def keep(self, key: str, stage: Stage, assessment: Assessment) -> None:
        pass


def assessment_hash(guard_key: str, messages: Sequence[Message], stage: Stage) -> str:
    """SHA-256 over the guard on its model and what it is shown; images enter by the hash of their bytes."""
    shown = [[m.role, m.text, [image.sha256 for image in m.images]] for m in messages]
    content = json.dumps([guard_key, stage, shown], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(content.encode()).hexdigest()


@dataclass(eq=False)
class _Asked:
    """An assessment under way; `found` stays None if its caller gave up."""

    done: anyio.Event = field(default_factory=anyio.Event)
    found: Assessment | None = None


class Assessor:
    """A guard on a model. Shared between tasks, and between the moderators that use it."""

    def __init__(
        self,
        guard: Guard,
        provider: Provider,
        cache: AssessmentCache | None = None,
        *,
        said: Mapping[str, Any] | None = None,
    ) -> None:
        """`said` are parameters that the provider uses in place of the guard's own."""
        self._said = dict(said or {})
        self.guard = guard
        self.provider = provider
        self.cache: AssessmentCache = cache or _Nothing()
        self._asked: dict[str, _Asked] = {}

    @cached_property
    def key(self) -> str:
        """Hash of the guard's form and its model: all that decides an assessment."""
        content = [self.guard.key, self.provider.identity, *([self._said] if self._said else [])]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]

    def again(self) -> Self:
        """The same guard on the same model; what either is asked meanwhile the other does not know."""
        found = copy(self)
        found._asked = {}
        return found

    async def assess(
        self, messages: Sequence[Message], stage: Stage, on_retry: Observer | None = None
    ) -> tuple[str, Assessment]:
        """The guard's answer on a conversation, with its hash. The same conversation is assessed only once.

        A failure of the guard's endpoint is an assessment `error`, not an exception; callers that wait for
        the same answer get it too, instead of waiting for another failure.

        Raises:
            TargetStoppedError: the guard can no longer be asked.
        """
        if not self.guard.card.sees_images:
            messages = [_without_images(message) for message in messages]
        key = assessment_hash(self.key, messages, stage)
        while (other := self._asked.get(key)) is not None:
            await other.done.wait()
            if other.found is not None:
                return key, other.found
        if (known := self.cache.find(key)) is not None:
            return key, known
        asked = self._asked[key] = _Asked()
        try:
            found = await self._ask(messages, stage, on_retry)
            if stage == "output":
                found = replace(found, reply_hash=reply_hash(messages[-1].text))
            with anyio.CancelScope(shield=True):
                await self.cache.keep(key, stage, found)
            asked.found = found
            return key, found
        finally:
            del self._asked[key]
            asked.done.set()

    async def _ask(self, messages: Sequence[Message], stage: Stage, on_retry: Observer | None) -> Assessment:
        def retrying(reply: Reply, wait_s: float) -> None:
            if on_retry is not None:
                on_retry(reply_as(GuardReply, reply), wait_s)

        try:
            reply = await self.provider.ask(self.guard.request(messages, stage), retrying)
        except NotAssessableError as error:
            code, free = ErrorCode.NOT_ASSESSABLE, Usage(cost_usd=0.0)
            return Assessment("error", error=str(error), error_code=code, usage=free)
        except TargetStoppedError as error:
            raise error.repeated(f"guard {self.guard.card.name}: ") from None
        if reply.outcome.observed:
            found = self.guard.parse(reply, stage)
        else:
            found = Assessment("error", error=reply.error)
        failed = found.verdict in ("unparsed", "error")
        why = reply.error_code or ErrorCode.GUARD_UNPARSED if failed else None
        raw = found.raw or reply.text or None
        return replace(
            found,
            usage=reply.usage,
            latency_s=reply.latency_s,
            raw=raw,
            error_code=why,
            parameters=reply.parameters,
        )


def _without_images(message: Message) -> Message:
    """The message for a guard that does not see images; if it is only a picture, the text says so."""
    text = message.text if message.text.strip() or not message.images else "[a picture that is not shown]"
    return replace(message, text=text, images=())


def reply_as(kind: type[R], reply: Reply, **more: Any) -> R:
    """A reply as one of a subclass, with that subclass's own fields."""
    common = {entry.name: getattr(reply, entry.name) for entry in fields(Reply)}
    return kind(**common, **more)
