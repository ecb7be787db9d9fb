"""A provider that is asked only while the cap leaves room for what the answer may cost."""

from __future__ import annotations

import math
from collections.abc import Callable

import anyio

from safemt_client.engine.meter import Meter
from safemt_client.engine.spending import Spending
from safemt_client.providers.adjusted import Adjusted
from safemt_client.providers.errors import PermitStoppedError, TargetStoppedError
from safemt_client.providers.provider import Observer, Provider, ProviderWrapper
from safemt_client.providers.types import Reply, Request

__all__ = ["PaidProvider"]


class PaidProvider(ProviderWrapper):
    """A provider under a cost cap: each attempt is paid as it ends.

    `refused` is told of what a call may cost that is not sent, in US dollars; `ended` says whether nothing
    more is to be sent, even if there is money for it.
    """

    def __init__(
        self,
        provider: Provider,
        budget: Spending,
        meter: Meter,
        ended: Callable[[], bool],
        refused: Callable[[float], None],
    ) -> None:
        super().__init__(provider)
        self._budget = budget
        self._meter = meter
        self._ended = ended
        self._refused = refused

    async def ask(self, request: Request, on_retry: Observer | None = None) -> Reply:
        """See `Provider.ask`.

        Raises:
            PermitStoppedError: the cap leaves no room for it, or the session is ending.
        """
        inner = self._provider
        call = self._meter.call(inner.adjusted(request) if isinstance(inner, Adjusted) else request)
        if (held := await self._budget.begin(self._meter, call)) is None:
            raise self._no_money(self._meter.most_usd(call))
        if self._ended():
            self._budget.end(self._meter, held, 0.0)
            raise PermitStoppedError("the session is ending")
        waits_until = -math.inf
        last: Reply | None = None

        def retrying(reply: Reply, wait_s: float) -> None:
            nonlocal held, waits_until, last
            last, waits_until = reply, anyio.current_time() + wait_s
            if held is not None and (paid := self._meter.paid(call, reply)):
                held = self._budget.again(self._meter, call, held, paid)
            if on_retry is not None:
                on_retry(reply, wait_s)
            if held is None:
                raise self._no_money(self._meter.most_usd(call))

        paid, unsure = 0.0, False
        try:
            reply = await self._provider.ask(request, retrying)
            paid, unsure = self._meter.paid(call, reply), self._meter.unmetered(reply)
        except PermitStoppedError:
            raise  # Nothing was sent.
        except TargetStoppedError as error:
            if error.reply is not None and error.reply is not last:
                paid = self._meter.paid(call, error.reply)
            raise
        except BaseException:
            # Given up while it may have been in flight: then it may be charged.
            if unsure := anyio.current_time() >= waits_until:
                paid = held or 0.0
            raise
        finally:
            if held is not None:
                self._budget.end(self._meter, held, paid, unsure=unsure)
        return reply

    def _no_money(self, usd: float) -> PermitStoppedError:
        self._refused(usd)
        return PermitStoppedError("--max-cost is reached")
