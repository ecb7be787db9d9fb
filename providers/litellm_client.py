"""Models of all other vendors, translated by litellm, and litellm's list of prices.

litellm takes seconds to import, so it is imported when the first such model is named.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from typing import Any

import anyio
import orjson

from safemt_client.providers.endpoint import Endpoint
from safemt_client.providers.outcomes import classify_response, one_line
from safemt_client.providers.rates import rate_limits
from safemt_client.providers.types import Message, Outcome, Reply, Request

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


class LiteLLM(Endpoint):
    """Asks through `litellm.acompletion`, with litellm's own retries off."""

    async def _send(self, request: Request) -> Reply:
        litellm = await anyio.to_thread.run_sync(_litellm)
        options = request.sampling.as_dict()
        if request.response_schema is not None:
            options["response_format"] = {
                "type": "json_schema",
                "json_schema": {"name": "answer", "strict": True, "schema": dict(request.response_schema)},
            }
        try:
            response = await litellm.acompletion(
                model=self._identity,
                messages=[await _message(message) for message in request.messages],
                num_retries=0,
                max_retries=0,
                drop_params=False,
                **options,
            )
        except litellm.ContentPolicyViolationError as error:
            return Reply(Outcome.REFUSED_BY_PROVIDER, error=_said(error), status_code=400)
        except litellm.Timeout as error:
            return Reply(Outcome.ERROR_TRANSIENT, error=_said(error), status_code=408)
        except (litellm.APIConnectionError, litellm.InternalServerError) as error:
            return Reply(Outcome.ERROR_TRANSIENT, error=_said(error), status_code=_status(error))
        except tuple(litellm.exceptions.LITELLM_EXCEPTION_TYPES) as error:
            return _of_error(error)
        hidden = getattr(response, "_hidden_params", {})
        stated = hidden.get("additional_headers") or {} if isinstance(hidden, dict) else {}
        headers = {str(n).lower().removeprefix("llm_provider-"): str(v) for n, v in stated.items()}
        reply = classify_response(200, headers, orjson.dumps(response.model_dump(), default=str))
        return replace(reply, rate_limits=rate_limits(headers))


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
