"""A model behind an OpenAI-compatible chat endpoint, hosted or local, over plain HTTP."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import httpx

from safemt_client.providers.chat_format import ChatFormat
from safemt_client.providers.http import HttpEndpoint
from safemt_client.providers.limits.permits import Limiter
from safemt_client.providers.limits.rates import NO_LIMITS, rate_limits
from safemt_client.providers.negotiation import OWN_REASONING, Negotiation, given, without_echo
from safemt_client.providers.options import NO_OPTIONS, EndpointOptions
from safemt_client.providers.responses.outcomes import classify_response
from safemt_client.providers.timeouts import DEFAULT_TIMEOUTS, Timeouts
from safemt_client.providers.types import Reply, Request, Sampling
from safemt_client.providers.vendor import Vendor
from safemt_client.providers.vendors import OWN

__all__ = ["OpenAICompatible"]


_MOST_PREPARED = 64


@dataclass(frozen=True, slots=True)
class _Prepared:
    """What requests with this sampling and this schema ask for, and what of it the user has given."""

    sampling: Sampling
    schema: Mapping[str, Any] | None
    wanted: Mapping[str, Any]
    given: frozenset[str]


def _has_own(request: Request) -> bool:
    """Whether a request contains a turn of the model's own."""
    return "assistant" in [message.role for message in request.messages]


class OpenAICompatible(HttpEndpoint):
    """Asks `POST {base_url}/chat/completions`. Retries are its own; the client's are off."""

    path = "/chat/completions"
    max_body = 32 * 2**20

    # 9 parameters: see `HttpEndpoint`.
    def __init__(
        self,
        *,
        identity: str,
        model: str,
        base_url: str,
        api_key: str | None,
        transport: httpx.AsyncBaseTransport,
        limiter: Limiter,
        timeouts: Timeouts = DEFAULT_TIMEOUTS,
        vendor: Vendor = OWN,
        options: EndpointOptions = NO_OPTIONS,
    ) -> None:
        super().__init__(
            identity=identity,
            model=model,
            base_url=base_url,
            api_key=api_key,
            transport=transport,
            limiter=limiter,
            timeouts=timeouts,
            charging=vendor.charging,
            options=options,
        )
        self.negotiation = Negotiation(identity)
        self._format = ChatFormat(options.image_format)
        self._prepared: dict[tuple[int, int, bool], _Prepared] = {}
        self._filled_last: tuple[Mapping[str, Any] | None, dict[str, Any]] = None, {}
        if vendor.kind == "demo" or vendor.managed:
            # The program itself or a server of its own, on another port each time.
            self.host = None

    @property
    def options(self) -> EndpointOptions:
        """What the user says about its requests."""
        return self._options

    async def _send(self, request: Request) -> Reply:
        async def send(parameters: dict[str, Any]) -> Reply:
            response = await self._post(request, await self._body(request, parameters))
            if isinstance(response, Reply):
                return response
            reply = self.read(response.status, response.headers, response.body, request)
            reply, stated = self._redactor.reply(reply), rate_limits(response.headers)
            return reply if stated == NO_LIMITS else reply.but(rate_limits=stated)

        prepared = self._prepare(request)
        return await self.negotiation.ask(prepared.wanted, prepared.given, send, without_echo(request))

    def _prepare(self, request: Request) -> _Prepared:
        """What is asked for beside the messages: made once for all requests with the very same parameters."""
        own = _has_own(request)
        key = id(request.sampling), id(request.response_schema), own
        found = self._prepared.get(key)
        # They are held, so that nothing else can have their ids.
        if found is None:
            # Some servers stream unless they are told not to; others do nothing else, and count tokens if
            # asked.
            wanted = {"stream": False, "stream_options": {"include_usage": True}} | self._wanted(request)
            found = _Prepared(request.sampling, request.response_schema, wanted, self.given(request))
            if len(self._prepared) >= _MOST_PREPARED:
                self._prepared.clear()
            self._prepared[key] = found
        return found

    def given(self, request: Request) -> frozenset[str]:
        """The names of parameters that are the user's own."""
        return given(request) | {self._options.max_tokens_field or ""}

    def read(
        self, status: int, headers: Mapping[str, str], body: bytes, request: Request | None = None
    ) -> Reply:
        """The reply that a response amounts to, read with what is known of the model's reasoning."""
        reading = self.negotiation.reading(self._options.reading)
        return self.negotiation.saw(
            classify_response(status, headers, body, reading, request=request, model=self._model)
        )

    def parameters(self, request: Request) -> dict[str, Any]:
        """What is asked for beside the model and the messages.

        Values of the environment stand in it by their names, so that it can be kept.
        """
        named, field = request.sampling.named, self._options.max_tokens_field
        if field is not None and "max_tokens" in named:
            named[field] = named.pop("max_tokens")
        parameters = named | dict(request.sampling.extra)
        if request.response_schema is not None:
            parameters["response_format"] = {
                "type": "json_schema",
                "json_schema": {"name": "answer", "strict": True, "schema": request.response_schema},
            }
        return parameters

    def sent(self, request: Request) -> dict[str, Any]:
        """The parameters as they are sent, after what is known of the endpoint."""
        return self.negotiation.applied(self._wanted(request), self.given(request))

    async def body(self, request: Request) -> dict[str, Any]:
        """The JSON body of a request, `stream` left out: in a batch nothing is streamed."""
        return await self._body(request, self.sent(request))

    def _wanted(self, request: Request) -> dict[str, Any]:
        """The parameters before what is known of the endpoint."""
        return self.parameters(request) | ({OWN_REASONING: False} if _has_own(request) else {})

    async def _body(self, request: Request, parameters: Mapping[str, Any]) -> dict[str, Any]:
        if parameters is not self._filled_last[0]:  # mostly the very same as those of the request before
            self._filled_last = parameters, self._options.filled(parameters)
        filled = self._filled_last[1]
        messages = await self._format.messages(request, with_reasoning=filled.get(OWN_REASONING, False))
        body = {"model": self._model, "messages": messages} | filled
        body.pop(OWN_REASONING, None)
        return body
