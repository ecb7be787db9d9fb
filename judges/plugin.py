"""A judge from another package: it labels replies itself, where others ask a model with a rubric."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import cached_property
from typing import Any

from safemt_client.judges.judge import LLMJudge, messages_of, to_be_judged
from safemt_client.judges.rubric import SEES, Rubric, Sees
from safemt_client.judges.types import JudgeInput, Verdict
from safemt_client.providers.error_codes import ErrorCode
from safemt_client.providers.errors import InputError, SafemtError
from safemt_client.providers.limits.limiter import AccountLimiter
from safemt_client.providers.limits.permits import Limiter
from safemt_client.providers.pauses import stopwatch
from safemt_client.providers.plugins import find, identity_of, reason, say_hidden
from safemt_client.providers.provider import Observer
from safemt_client.providers.registry import ProviderSpec, built_in
from safemt_client.providers.timeouts import Deadline
from safemt_client.providers.types import Outcome, Reply, Request, Sampling
from safemt_client.providers.vendors import PLUGIN

__all__ = ["PluginJudge", "judge_spec"]


class _Account:
    """Takes the place of a provider: the judge's identity and the permits of its account."""

    def __init__(self, identity: str, limiter: Limiter) -> None:
        self.identity = identity
        self.limiter = limiter

    async def ask(self, request: Request, on_retry: Observer | None = None) -> Reply:
        return Reply(Outcome.ERROR_PERMANENT, error="this judge labels replies itself, without a model")


class PluginJudge(LLMJudge):
    """A user's own judge: an object with an `identity` and `async def judge(subject) -> Verdict`.

    An exception, or a judgement that takes more than `timeout_s` seconds, is a `judge_error`, which is asked
    again on resume. A judge that looks at pictures has `sees` set to `image`.

    Raises:
        InputError: the object has no identity, or cannot judge.
    """

    def __init__(self, judge: object, *, limiter: Limiter | None = None, timeout_s: float = 180) -> None:
        identity = identity_of(judge)
        label: Callable[[JudgeInput], Awaitable[object]] | None = getattr(judge, "judge", None)
        if label is None or not inspect.iscoroutinefunction(label):
            raise InputError(f"{type(judge).__name__} has no method `async def judge(subject) -> Verdict`")
        named = getattr(judge, "sees", "dialogue")
        sees: Sees = next((known for known in SEES if known == named), "dialogue")
        account = _Account(identity, limiter or AccountLimiter(concurrency=256, account=identity))
        rubric = Rubric(identity, "1", {"general": ""}, {}, sees)
        super().__init__(account, rubric, Sampling(temperature=None))
        self._label = label
        self._timeout_s = timeout_s

    @cached_property
    def key(self) -> str:
        """Hash of the identity: anyone who changes what the judge says must change it."""
        return hashlib.sha256(self.identity.encode()).hexdigest()[:16]

    def _shown(self, subject: JudgeInput) -> list[Any]:
        """All of it: what the judge looks at is not known, but for pictures."""
        return [subject.question, messages_of(subject, images=self.sees == "image"), subject.scenario]

    async def judge(
        self,
        subject: JudgeInput,
        outcome: Outcome,
        on_retry: Observer | None = None,
        asked: dict[str, Verdict] | None = None,
    ) -> Verdict:
        """Label a reply. See `LLMJudge.judge`."""
        if not to_be_judged(subject, outcome):
            return Verdict("unscored", "nothing_to_judge", calls=0)
        limiter = self.provider.limiter
        async with limiter.permit() as permit:
            taken_s = stopwatch()
            verdict = await self._verdict(subject)
            limiter.settle(permit, Reply(Outcome.ANSWERED), 0)
        return replace(verdict, latency_s=taken_s(), members={})

    async def _verdict(self, subject: JudgeInput) -> Verdict:
        try:
            with Deadline(self._timeout_s) as deadline:
                verdict = await self._label(subject)
            if deadline.expired:
                raise TimeoutError
        except SafemtError:
            raise
        except TimeoutError:
            return _failed(f"no verdict within {self._timeout_s:g} s", ErrorCode.TIMEOUT)
        except Exception as error:  # noqa: BLE001 - a judge that fails has no verdict
            return _failed(reason(error))
        if isinstance(verdict, Verdict) and verdict.label in ("safe", "unsafe", "unscored"):
            return verdict
        return _failed(f"the judge gave {verdict!r:.80} instead of a Verdict")


def judge_spec(name: str, base_url: str | None, given: object = None) -> ProviderSpec | None:
    """What a plug-in's judge stands for, or one that is `given`; None where the judge is a model.

    Raises:
        InputError: the plug-in or the judge is broken.
    """
    if given is not None:
        return _own_spec(name, given) if hasattr(given, "judge") else None
    plugged, _, rest = name.partition("/")
    if built_in(name, base_url):
        say_hidden("judges", plugged)
        return None
    if (plugin := find("judges", plugged)) is None:
        return None
    judge = plugin.make(rest)
    with plugin.blamed():
        return _own_spec(name, judge)


def _own_spec(name: str, judge: object) -> ProviderSpec:
    identity = PluginJudge(judge).identity
    return ProviderSpec(name, identity, identity, identity, PLUGIN, own_model=judge)


def _failed(why: str, code: ErrorCode = ErrorCode.LOCAL_MODEL) -> Verdict:
    return Verdict("unscored", "judge_error", explanation=why, error_code=code)
