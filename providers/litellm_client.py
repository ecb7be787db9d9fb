"""Models of all other vendors, translated by litellm, and litellm's list of prices.

litellm takes seconds to import, so it is imported when the first such model is named.
"""

from __future__ import annotations

import base64
import os
import time
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from functools import cache
from typing import Any

import anyio
import orjson

from safemt_client.providers.limits import AccountLimiter
from safemt_client.providers.outcomes import classify_response, one_line
from safemt_client.providers.retry import with_retries
from safemt_client.providers.types import Message, Observer, Outcome, Reply, Request

__all__ = ["LiteLLM", "prices"]


@cache
def _litellm() -> Any:
    # Without it, the import fetches a price list from the network.
    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    import litellm

    litellm.suppress_debug_info = True
    litellm.telemetry = False
    return litellm


def prices(identity: str) -> Mapping[str, float] | None:
    """US dollars a token (`input`, `output`, `cached_input`) from litellm's list, None if not in it."""
    costs = _litellm().model_cost
    found = costs.get(identity) or costs.get(identity.partition("/")[2])
    if not found or found.get("input_cost_per_token") is None:
        return None
    price = {
        "input": float(found["input_cost_per_token"]),
        "output": float(found.get("output_cost_per_token") or 0.0),
    }
    if found.get("cache_read_input_token_cost") is not None:
        price["cached_input"] = float(found["cache_read_input_token_cost"])
    return price


class LiteLLM:
    """Asks through `litellm.acompletion`, with litellm's own retries off."""

    def __init__(
        self,
        *,
        identity: str,
        limiter: AccountLimiter,
        max_wait_s: float = 3600,
        attempt_timeout_s: float = 180,
        turn_timeout_s: float = 7200,
    ) -> None:
        self._identity = identity
        self._limiter = limiter
        self._max_wait_s = max_wait_s
        self._attempt_timeout_s = attempt_timeout_s
        self._turn_timeout_s = turn_timeout_s

    @property
    def identity(self) -> str:
        """Provider and model."""
        return self._identity

    async def aclose(self) -> None:
        """Nothing: litellm keeps its own connections."""

    async def ask(self, request: Request, on_retry: Observer | None = None) -> Reply:
        """Ask once, with retries. See `Provider.ask`."""
        with anyio.move_on_after(self._turn_timeout_s):
            return await with_retries(
                lambda: self._attempt(request), max_wait_s=self._max_wait_s, on_retry=on_retry
            )
        return Reply(
            Outcome.ERROR_TRANSIENT,
            error=f"no answer within {self._turn_timeout_s:g} s, all attempts together",
            started_at=datetime.now(UTC),
        )

    async def _attempt(self, request: Request) -> Reply:
        litellm = await anyio.to_thread.run_sync(_litellm)
        async with self._limiter.permit():
            started_at, begin = datetime.now(UTC), time.perf_counter()
            reply = await self._send(litellm, request)
        if reply.retry_after_s:
            self._limiter.pause(reply.retry_after_s)
        return replace(reply, started_at=started_at, latency_s=time.perf_counter() - begin)

    async def _send(self, litellm: Any, request: Request) -> Reply:
        options = request.sampling.as_dict()
        if request.response_schema is not None:
            options["response_format"] = {
                "type": "json_schema",
                "json_schema": {"name": "answer", "strict": True, "schema": dict(request.response_schema)},
            }
        try:
            with anyio.fail_after(self._attempt_timeout_s):
                response = await litellm.acompletion(
                    model=self._identity,
                    messages=[await _message(message) for message in request.messages],
                    num_retries=0,
                    max_retries=0,
                    drop_params=False,
                    **options,
                )
        except TimeoutError:
            return Reply(Outcome.ERROR_TRANSIENT, error=f"no answer within {self._attempt_timeout_s:g} s")
        except litellm.ContentPolicyViolationError as error:
            return Reply(Outcome.REFUSED_BY_PROVIDER, error=_said(error), status_code=400)
        except litellm.Timeout as error:
            return Reply(Outcome.ERROR_TRANSIENT, error=_said(error), status_code=408)
        except (litellm.APIConnectionError, litellm.InternalServerError) as error:
            return Reply(Outcome.ERROR_TRANSIENT, error=_said(error), status_code=_status(error))
        except tuple(litellm.exceptions.LITELLM_EXCEPTION_TYPES) as error:
            return _of_error(error)
        return classify_response(200, {}, orjson.dumps(response.model_dump(), default=str))


def _of_error(error: Any) -> Reply:
    """litellm's exception through the same table as an HTTP error of an endpoint."""
    status = _status(error) or 500
    response = getattr(error, "response", None)
    headers = {} if response is None else dict(response.headers)
    body = orjson.dumps({"error": {"message": _said(error)}})
    return classify_response(status, headers, body)


def _status(error: Any) -> int | None:
    status = getattr(error, "status_code", None)
    return status if isinstance(status, int) else None


def _said(error: Any) -> str:
    return one_line(str(getattr(error, "message", error)))


async def _message(message: Message) -> dict[str, Any]:
    if not message.images:
        return {"role": message.role, "content": message.text}
    parts: list[dict[str, Any]] = []
    for image in message.images:
        data = base64.b64encode(await anyio.to_thread.run_sync(image.load)).decode()
        parts.append({"type": "image_url", "image_url": {"url": f"data:{image.media_type};base64,{data}"}})
    parts.append({"type": "text", "text": message.text})
    return {"role": message.role, "content": parts}
