"""Models of an endpoint's limits, in the time of the running loop: each says whether a request is taken."""

import math
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

import anyio

from safemt_client.providers.limits.limiter import AccountLimiter
from safemt_client.providers.limits.permits import Change
from safemt_client.providers.limits.tokens import TokenEstimator
from safemt_client.providers.types import Message, Outcome, Reply, Request, Sampling, Usage

from .clock import run

OK = Reply(Outcome.ANSWERED, text="x", status_code=200)
FAULT = Reply(Outcome.ERROR_TRANSIENT, error="fault", status_code=500)
BUSY = Reply(Outcome.ERROR_TRANSIENT, error="busy", status_code=429)


@dataclass
class SlidingWindow:
    """At most `limit` units in any `window_s` seconds."""

    limit: float
    window_s: float = 60.0
    taken: deque[tuple[float, float]] = field(default_factory=deque)
    total: float = 0.0

    def admits(self, now: float, units: float = 1) -> bool:
        while self.taken and self.taken[0][0] <= now - self.window_s:
            self.total -= self.taken.popleft()[1]
        if self.total + units > self.limit + 1e-6:
            return False
        self.taken.append((now, units))
        self.total += units
        return True


@dataclass
class FixedWindow:
    """At most `limit` units in each window of the clock."""

    limit: float
    window_s: float = 60.0
    window: int = -1
    total: float = 0.0

    def admits(self, now: float, units: float = 1) -> bool:
        window = int(now // self.window_s)
        if window != self.window:
            self.window, self.total = window, 0.0
        if self.total + units > self.limit + 1e-6:
            return False
        self.total += units
        return True


@dataclass
class Bucket:
    """A bucket that refills steadily; `burst` is the most that it holds."""

    limit: float
    burst: float
    window_s: float = 60.0
    level: float = math.nan
    last: float = 0.0

    def admits(self, now: float, units: float = 1) -> bool:
        rate = self.limit / self.window_s
        level = self.burst if math.isnan(self.level) else self.level
        self.level = min(self.burst, level + (now - self.last) * rate)
        self.last = now
        if self.level + 1e-9 < units:
            return False
        self.level -= units
        return True


@dataclass
class Endpoint:
    """Answers after a log-normal latency; refuses at once what its limits do not allow.

    `capacity` is how many calls it takes at a time, as a function of the time; `tokens` draws the prompt's and
    the completion's tokens of a call. With `charge` "used" the tokens count when the answer is there. `stray` and
    `faults` are the shares of calls that meet a 429 or a 500 whatever the load.
    """

    requests: SlidingWindow | FixedWindow | Bucket | None = None
    token_limit: SlidingWindow | None = None
    charge: str = "used"
    capacity: Callable[[float], float] = lambda now: math.inf
    latency_s: float = 1.0
    spread: float = 0.3
    tokens: Callable[[random.Random], tuple[int, int]] = lambda random: (200, 100)
    stray: float = 0.0
    faults: float = 0.0
    seed: int = 1
    in_flight: int = 0
    answered: list[float] = field(default_factory=list)
    refused: list[float] = field(default_factory=list)
    token_sum: float = 0.0

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)

    async def ask(self, max_tokens: int = 400) -> Reply:
        if self.stray or self.faults:
            chance = self.random.random()
            if chance < self.stray + self.faults:
                await anyio.sleep(self.latency_s * self.random.random())
                return self._refuse(anyio.current_time()) if chance < self.stray else FAULT
        now = anyio.current_time()
        prompt, completion = self.tokens(self.random)
        if self.in_flight >= self.capacity(now):
            return self._refuse(now)
        if self.token_limit is not None:
            charged = prompt + (max_tokens if self.charge == "reserved" else 0)
            if not self.token_limit.admits(now, charged):
                return self._refuse(now)
        if self.requests is not None and not self.requests.admits(now):
            return self._refuse(now)
        self.in_flight += 1
        try:
            await anyio.sleep(self.latency_s * self.random.lognormvariate(0, self.spread))
        finally:
            self.in_flight -= 1
        now = anyio.current_time()
        self.answered.append(now)
        self.token_sum += prompt + completion
        if self.token_limit is not None and self.charge == "used":
            # What was used counts, even past the limit: the next request then is refused.
            self.token_limit.taken.append((now, completion))
            self.token_limit.total += completion
        return Reply(Outcome.ANSWERED, text="x", status_code=200, usage=Usage(prompt, completion))

    def _refuse(self, now: float) -> Reply:
        self.refused.append(now)
        return BUSY


TEXT = Request((Message("user", "x" * 800),), Sampling(max_tokens=400))


def drive(
    endpoint: Endpoint,
    seconds: float,
    charging: str = "used",
    on_change: Callable[[Change], None] | None = None,
    **options: object,
) -> AccountLimiter:
    """As many callers as are useful, each asking again and again for this long."""

    async def main() -> AccountLimiter:
        limiter = AccountLimiter(on_change=on_change, **({"concurrency": 500} | options))  # type: ignore[arg-type]
        estimator = TokenEstimator("local/m", charging)  # type: ignore[arg-type]

        async def caller() -> None:
            while anyio.current_time() < seconds:
                prompt = estimator.prompt(TEXT)
                async with limiter.permit(estimator.need(TEXT, prompt)) as permit:
                    reply = await endpoint.ask()
                    limiter.settle(permit, reply, estimator.learn(TEXT, prompt, reply.usage))
                if not reply.outcome.observed:
                    await anyio.sleep(random.Random(int(anyio.current_time() * 1e6)).uniform(0.2, 2.0))

        async with anyio.create_task_group() as group:
            with anyio.move_on_after(seconds):
                while await limiter.room():
                    group.start_soon(caller)
                    await anyio.sleep(0.01)
            group.cancel_scope.cancel()
        return limiter

    return run(main)
