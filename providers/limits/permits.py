"""What callers see of an account's limits: permits, and the `Limiter` that gives them, wherever it counts."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol

from safemt_client.providers.types import Reply

__all__ = ["Change", "Limiter", "Permit", "Terms"]


@dataclass(frozen=True, slots=True)
class Change:
    """The limits of an account have changed; `reason`: growth, overload, outage, pause, learnt, stated."""

    account: str
    reason: str
    limit: int
    in_flight: int
    rpm: float | None
    tpm: float | None
    pause_s: float


@dataclass(slots=True)
class Permit:
    """One call in flight: when it began, and the tokens that were reserved for it."""

    started: float
    tokens: float


@dataclass(frozen=True, slots=True)
class Terms:
    """What is known of an account before it is asked: requests and tokens a minute, calls in flight.

    None is a limit that is not stated. The number in flight adapts from `start` up to `most`.
    """

    account: str
    rpm: float | None
    tpm: float | None
    start: int
    most: int


class Limiter(Protocol):
    """Permits of one account, for callers in one event loop; first come, first served.

    A call goes like this, and `permit` does the first and the last step of it:

        permit = limiter.at_once(tokens) or await limiter.wait(tokens)
        try:
            ...  # the call
            limiter.settle(permit, reply, used)
        finally:
            limiter.give_back()

    All but `wait`, `permit` and `room` return at once, wherever permits are counted: what is to be told to
    another process is sent in the background. Times are in seconds of `clock`.
    """

    on_change: Callable[[Change], None] | None
    """Told of changes that are found here; of those found in another process it hears nothing."""
    on_stop: list[Callable[[], None]]
    """Called by `stop`."""

    @property
    def limit(self) -> int:
        """Calls of this process that may be in flight at present, at least 1: what to have ready."""
        ...

    @property
    def clock(self) -> Callable[[], float]:
        """The clock of all waits and of `Permit.started`, in seconds."""
        ...

    def cap(self, most: int) -> None:
        """Let no more calls of this process be in flight than this, whatever the endpoint takes."""
        ...

    def permit(self, tokens: float = 0) -> AbstractAsyncContextManager[Permit]:
        """Hold a place in flight once the rates allow a request of so many tokens.

        Cancelling gives the place back, and costs nothing while it is waited for.

        Raises:
            PermitStoppedError: `stop` was called before the permit was given.
        """
        ...

    def at_once(self, tokens: float = 0) -> Permit | None:
        """A permit, to be given back by `give_back`; None if it has to be waited for."""
        ...

    async def wait(self, tokens: float = 0) -> Permit:
        """A permit, once it is this caller's turn; to be given back by `give_back`.

        Raises:
            PermitStoppedError: `stop` was called before it was given.
        """
        ...

    def give_back(self, count: int = 1) -> None:
        """So many calls with a permit are over, settled or not."""
        ...

    def settle(
        self, permit: Permit, reply: Reply, tokens_used: float | None, *, timed_out: bool = False
    ) -> None:
        """Learn from what came back, or from a call that was `timed_out` on our side; before `give_back`.

        `tokens_used` is None where the endpoint did not say.
        """
        ...

    async def room(self) -> bool:
        """Wait until few callers wait for a permit, so that more work is useful; False after `stop`."""
        ...

    def stop(self) -> None:
        """Give no more permits; callers that wait for one get an error."""
        ...

    def begin_anew(self) -> None:
        """An outage is over: begin with few calls in flight, up to as many as before it in a few rounds."""
        ...
