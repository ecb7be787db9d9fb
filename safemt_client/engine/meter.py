"""What calls to one model may cost at most, as its bounds say and as its replies have shown."""

from __future__ import annotations

from dataclasses import dataclass

from safemt_client.engine.attempts import is_paid
from safemt_client.planning.ceilings import FIRST_REPLY, LIMITS, Ceiling, limit_of
from safemt_client.planning.costs import cost
from safemt_client.providers.types import Reply, Request, Sampling

__all__ = ["Call", "Meter"]

# Of a model whose largest reply is not known, so many calls are in flight until so many replies have come.
_AT_FIRST, _ENOUGH = 8, 30


@dataclass(frozen=True, slots=True)
class Call:
    """A request as far as it decides a price: the most tokens of its prompt, and its sampling."""

    prompt: int
    sampling: Sampling


class Meter:
    """The prices of calls to one model, in US dollars.

    `judge_key` is the key of whoever judges each of its replies, which is to be paid as well.
    """

    def __init__(self, ceiling: Ceiling, *, judge_key: str | None = None) -> None:
        self._ceiling = ceiling
        self.judge_key = judge_key
        self.in_flight = 0
        self._replies = 0
        self._longest = 0
        self._over = 1.0
        self._limited = True
        self._priced = 0
        self._priced_usd = 0.0
        self._dearest_usd = 0.0

    @property
    def free(self) -> bool:
        """Whether nothing that it is asked costs anything, as far as is known."""
        return self._ceiling.free and not self._dearest_usd

    def call(self, request: Request) -> Call:
        """What is asked, measured once."""
        return Call(0 if self._ceiling.free else self._ceiling.prompt(request), request.sampling)

    def most_usd(self, call: Call) -> float:
        """What the call may cost at most.

        Where no bound is known: as if its reply were twice as long as the longest one so far. Whoever breaks
        a bound is held to what it has shown from then on.
        """
        if self._ceiling.free:
            return 2 * self._dearest_usd
        known = self._bound(call)
        if known is None:
            at_least = FIRST_REPLY if self._replies < _ENOUGH else 0
            output = max(at_least, 2 * self._longest)
        else:
            output = max(known, self._longest)
        return self._over * self._ceiling.usd(call.prompt, output, call.sampling)

    def has_room(self, call: Call) -> bool:
        """Whether one more may be in flight: few may while nothing is known of the replies' length."""
        few = self._replies < _ENOUGH and self._bound(call) is None
        return self.free or not few or self.in_flight < _AT_FIRST

    def unmetered(self, reply: Reply) -> bool:
        """Whether a reply is charged, and it is not known how much: its tokens are not reported."""
        return not self.free and is_paid(reply) and cost(reply.usage, self._ceiling.prices) is None

    def paid(self, call: Call, reply: Reply) -> float:
        """What an attempt has cost; the bounds follow it. One of unknown cost counts as the mean."""
        usage = reply.usage
        usd = cost(usage, self._ceiling.prices)
        limit, sent = limit_of(call.sampling), reply.parameters
        # It may be sent under a name of the user's own, or lowered; if not at all, nothing limits a reply.
        if limit is not None and sent is not None:
            self._limited &= limit in sent.values() or not sent.keys().isdisjoint(LIMITS)
        self._replies += is_paid(reply)
        self._longest = max(self._longest, usage.completion_tokens or 0)
        if usd is None:
            if not is_paid(reply):
                return 0.0
            return self._priced_usd / self._priced if self._priced else self.most_usd(call)
        self._priced += 1
        self._priced_usd += usd
        self._dearest_usd = max(self._dearest_usd, usd)
        if not self._ceiling.free and (most := self.most_usd(call)) > 0:
            self._over = max(self._over, self._over * usd / most)
        return usd

    def _bound(self, call: Call) -> int | None:
        if not self._limited:
            return self._ceiling.largest
        return self._ceiling.output(call.sampling)
