"""What every client shares: permits, deadlines, retries, and stopping once nothing can succeed."""

from __future__ import annotations

from abc import ABC, abstractmethod
from datetime import UTC, datetime

import anyio

from safemt_client.providers.blocks import Cancellable
from safemt_client.providers.error_codes import ErrorCode
from safemt_client.providers.errors import SafemtError, TargetStoppedError
from safemt_client.providers.limits.permits import Limiter
from safemt_client.providers.limits.rates import NO_LIMITS
from safemt_client.providers.limits.tokens import Charging, TokenEstimator
from safemt_client.providers.outage import Outage
from safemt_client.providers.pauses import stopwatch
from safemt_client.providers.provider import Observer
from safemt_client.providers.resources import shortage
from safemt_client.providers.responses.outcomes import fatal, no_connection
from safemt_client.providers.retry import with_retries
from safemt_client.providers.timeouts import (
    DEFAULT_TIMEOUTS,
    Deadline,
    Timeouts,
    TurnOverError,
    TurnTime,
)
from safemt_client.providers.types import Outcome, Reply, Request

__all__ = ["Endpoint"]

_LONG_S = 3600


class Endpoint(ABC):
    """A `Provider` whose subclasses only send: one request in, one reply out, no exception."""

    host: str | None = None
    """Host and port that are asked, which each reply is kept with; None where they are not known."""

    def __init__(
        self,
        *,
        identity: str,
        limiter: Limiter,
        timeouts: Timeouts = DEFAULT_TIMEOUTS,
        charging: Charging = "used",
    ) -> None:
        self._identity = identity
        self._limiter = limiter
        self._timeouts = timeouts
        self._estimator = TokenEstimator(identity, charging)
        self._outage = Outage(limiter, timeouts.max_wait_s)
        # Waiting for an outage to end has a limit of its own, except where somebody waits for the turn
        # itself, as behind a proxy: there one attempt may take all of its time.
        self._patient = timeouts.turn_s > timeouts.attempt_s
        self._stopped: TargetStoppedError | None = None

    @property
    def limiter(self) -> Limiter:
        """The limiter of the account."""
        return self._limiter

    @property
    def identity(self) -> str:
        """Provider and model."""
        return self._identity

    async def ask(self, request: Request, on_retry: Observer | None = None) -> Reply:
        """Ask once, with retries, within the turn's deadline. See `Provider.ask`."""
        last: Reply | None = None
        turn = TurnTime(self._timeouts.turn_s)

        def remember(reply: Reply, wait_s: float) -> None:
            nonlocal last
            last = reply
            if on_retry is not None:
                on_retry(reply, wait_s)
            if self._outage.closed and self._patient:
                turn.extend(wait_s)

        try:
            return await with_retries(
                lambda: self._attempt(request, turn),
                max_wait_s=self._timeouts.max_wait_s,
                on_retry=remember,
                outage=self._outage,
                within=turn.limited,
            )
        except TargetStoppedError as error:
            self._stopped = error
            self._outage.give_up()
            raise
        except TurnOverError:
            pass
        why = f"; last: {last.error}" if last is not None and last.error else ""
        return Reply(
            Outcome.ERROR_TRANSIENT,
            error=f"no answer within {self._timeouts.turn_s:g} s over all attempts{why}",
            error_code=ErrorCode.TIMEOUT,
            started_at=datetime.now(UTC),
            host=self.host,
        )

    @abstractmethod
    async def _send(self, request: Request) -> Reply:
        """One attempt, under a permit. It may exceed the deadline of the attempt."""

    def _scope(self) -> Cancellable:
        """How an attempt is cancelled that takes too long."""
        return anyio.CancelScope()

    async def _attempt(self, request: Request, turn: TurnTime) -> Reply:
        if not self._outage.busy:
            return await self._permitted(request, turn)
        with turn.held() if self._patient else turn.limited():
            probe = await self._outage.admit()
        if not probe:
            return await self._permitted(request, turn)
        with self._outage.probe():
            return await self._permitted(request, turn, probe=True)

    async def _permitted(self, request: Request, turn: TurnTime, *, probe: bool = False) -> Reply:
        """One attempt, once the account has room for it."""
        prompt = self._estimator.prompt(request)
        need = self._estimator.need(request, prompt)
        if (permit := self._limiter.at_once(need)) is None:
            with turn.limited():
                permit = await self._limiter.wait(need)
        try:
            if self._stopped is not None:
                # Another request has shown meanwhile that this one cannot succeed: it is not sent.
                raise self._stopped.repeated()
            started_at, taken_s = datetime.now(UTC), stopwatch()
            sent, timed_out = await self._within_time(request, turn)
            reply = sent.but(started_at=started_at, latency_s=taken_s(), host=self.host)
            used = self._estimator.learn(request, prompt, reply.usage)
            hopeless = self._hopeless(reply)
            seen = reply
            if hopeless is not None:
                # Callers waiting behind a request that stops the target are told now, not after a pause.
                seen = reply.but(retry_after_s=None, rate_limits=NO_LIMITS)
            self._limiter.settle(permit, seen, used, timed_out=timed_out)
            self._outage.learn(reply, probe=probe)
        finally:
            self._limiter.give_back()
        if hopeless is not None:
            raise TargetStoppedError(hopeless, reply)
        return reply

    async def _within_time(self, request: Request, turn: TurnTime) -> tuple[Reply, bool]:
        """What comes of one attempt, and whether it took too long.

        Raises:
            TurnOverError: the time of the turn was up first.
        """
        left_s = turn.left_s
        try:
            with Deadline(min(self._timeouts.attempt_s, left_s), self._scope()) as deadline:
                return await self._send(request), False
        except TimeoutError:
            pass  # a model in this process has limits of its own
        except (OSError, RuntimeError, SafemtError) as error:
            # Such as an image that could not be opened, or a name of a host that no thread could look up.
            if (why := shortage(error)) is None:
                raise
            return no_connection(why, ErrorCode.LOCAL_SHORTAGE), False
        if deadline.expired and left_s <= self._timeouts.attempt_s:
            raise TurnOverError
        text = f"no answer within {self._timeouts.attempt_s:g} s"
        return Reply(Outcome.ERROR_TRANSIENT, error=text, error_code=ErrorCode.TIMEOUT), True

    def _hopeless(self, reply: Reply) -> str | None:
        """Why no further request can succeed: a permanent fault, or a wait longer than any allowed."""
        if reply.outcome.observed:
            return None
        wait_s, longest_s = reply.retry_after_s, min(self._timeouts.max_wait_s, self._timeouts.turn_s)
        if (reason := fatal(reply)) is not None:
            return reason
        said = f"(HTTP {reply.status_code}): {reply.error}"
        if reply.error_code is ErrorCode.PERIOD_LIMIT and (wait_s is None or wait_s > longest_s):
            return f"quota used up {said}" if wait_s is None else f"asked to wait {wait_s:,.0f} s {said}"
        if wait_s is not None and wait_s > max(longest_s, _LONG_S):
            return f"asked to wait {wait_s:,.0f} s {said}; the request may be larger than the limit"
        return None
