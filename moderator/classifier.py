"""A small text classifier with its own weights, for runs without network or GPU.

`alt-profanity-check` (MIT) is a linear model over the words of a text. Its weights come with the package
(the `classifiers` extra) as pickles that joblib reads. It distinguishes rude from civil wording, and serves
to try and test a moderator end to end with real weights: it cannot see the intent of a polite conversation.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import anyio
import anyio.to_thread

from safemt_client.providers.error_codes import ErrorCode
from safemt_client.providers.errors import InputError
from safemt_client.providers.limits.limiter import AccountLimiter
from safemt_client.providers.limits.permits import Limiter
from safemt_client.providers.pauses import stopwatch
from safemt_client.providers.provider import Observer
from safemt_client.providers.types import Outcome, Reply, Request, Usage

__all__ = ["PACKAGE", "LocalClassifier"]

PACKAGE = "alt-profanity-check"
"""The package that contains the weights."""


class LocalClassifier:
    """A `Provider` that answers with the label of all the text it is sent, as JSON.

    The reply is `{"label": "safe" or "unsafe", "score": ...}`, the score being the probability of the label.
    `unsafe` gives the probability that a text is unsafe; it is called on a thread, one text at a time.
    """

    def __init__(self, unsafe: Callable[[str], float], *, name: str, limiter: Limiter | None = None) -> None:
        self._unsafe = unsafe
        self._identity = f"local-classifier/{name}"
        self._limiter = limiter or AccountLimiter(concurrency=256, account=self._identity)
        self._one = anyio.CapacityLimiter(1)

    @classmethod
    async def load(cls, limiter: Limiter | None = None) -> LocalClassifier:
        """Load the profanity classifier, off the event loop.

        Raises:
            InputError: the `classifiers` extra is missing or its weights cannot be read.
        """

        def load() -> LocalClassifier:
            try:
                package: Any = importlib.import_module("profanity_check")
                version = importlib.metadata.version(PACKAGE)
            except Exception as error:  # a pickle may raise anything
                why = next(iter(str(error).splitlines()), type(error).__name__)
                raise InputError(
                    f"the classifier needs: pip install 'safemt-client[classifiers]' ({why})"
                ) from error
            return cls(
                lambda text: float(package.predict_prob([text])[0]),
                name=f"{PACKAGE}-{version}",
                limiter=limiter,
            )

        return await anyio.to_thread.run_sync(load)

    @property
    def identity(self) -> str:
        """Package and version, which decide the weights."""
        return self._identity

    @property
    def limiter(self) -> Limiter:
        """The limiter of the classifier."""
        return self._limiter

    async def ask(self, request: Request, on_retry: Observer | None = None) -> Reply:
        """Classify the texts of all messages together. Sampling does not apply. See `Provider.ask`."""
        async with self._limiter.permit() as permit:
            started_at, taken_s = datetime.now(UTC), stopwatch()
            reply = await self._classify(request)
            self._limiter.settle(permit, reply, 0)
        return Reply(
            reply.outcome,
            text=reply.text,
            error=reply.error,
            resolved_model=self._identity,
            started_at=started_at,
            latency_s=taken_s(),
            usage=Usage(cost_usd=0.0),
        )

    async def _classify(self, request: Request) -> Reply:
        if any(message.images for message in request.messages):
            error = "the classifier does not accept images"
            return Reply(Outcome.ERROR_PERMANENT, error=error, error_code=ErrorCode.BAD_REQUEST)
        text = "\n".join(message.text for message in request.messages)
        try:
            unsafe = await anyio.to_thread.run_sync(self._unsafe, text, limiter=self._one)
        except Exception as error:  # noqa: BLE001 - a failed classification is an outcome
            why = next(iter(str(error).splitlines()), "")
            said = f"{type(error).__name__}: {why}"
            return Reply(Outcome.ERROR_PERMANENT, error=said, error_code=ErrorCode.LOCAL_MODEL)
        label, score = ("unsafe", unsafe) if unsafe > 0.5 else ("safe", 1 - unsafe)
        return Reply(Outcome.ANSWERED, text=json.dumps({"label": label, "score": round(score, 6)}))
