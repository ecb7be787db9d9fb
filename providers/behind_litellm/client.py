"""Models of all other vendors, translated by litellm, and litellm's list of prices.

litellm takes seconds to import, so it is imported when the first such model is named.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache, partial
from typing import Any

import anyio
import httpx
import orjson

from safemt_client.providers.addresses import shown
from safemt_client.providers.base import Endpoint
from safemt_client.providers.behind_litellm.errors import check_installed, message_of, reply_of_error
from safemt_client.providers.behind_litellm.http import finish_reason_of, patch, received
from safemt_client.providers.behind_litellm.network import use_our_network
from safemt_client.providers.chat_format import ChatFormat
from safemt_client.providers.error_codes import ErrorCode
from safemt_client.providers.errors import InputError, SafemtError
from safemt_client.providers.json_codec import dumps
from safemt_client.providers.keys import Redactor
from safemt_client.providers.limits.permits import Limiter
from safemt_client.providers.limits.rates import rate_limits
from safemt_client.providers.negotiation import Negotiation, given, without_echo
from safemt_client.providers.options import NO_OPTIONS, EndpointOptions
from safemt_client.providers.proxies import secrets_of_proxies
from safemt_client.providers.responses.error_body import one_line
from safemt_client.providers.responses.outcomes import classify_response
from safemt_client.providers.timeouts import DEFAULT_TIMEOUTS, Timeouts
from safemt_client.providers.types import Outcome, Reply, Request

__all__ = ["LiteLLM", "check_extra", "from_anthropic", "to_anthropic"]

_TRANSLATED = frozenset(
    (
        *("functions", "function_call", "tools", "tool_choice", "parallel_tool_calls", "modalities", "audio"),
        *(
            "prediction",
            "presence_penalty",
            "frequency_penalty",
            "logit_bias",
            "logprobs",
            "top_logprobs",
            "n",
        ),
        *("temperature", "max_tokens", "max_completion_tokens", "top_p", "seed", "stop"),
        *("user", "reasoning_effort", "verbosity", "thinking", "web_search_options", "response_format"),
        *("safety_identifier", "service_tier", "store", "prompt_cache_key"),
    )
)
"""Fields of OpenAI's body that litellm translates; all others are the vendor's own."""

_OF_LITELLM = frozenset(
    (
        *(
            "api_key",
            "api_base",
            "base_url",
            "api_version",
            "timeout",
            "extra_headers",
            "extra_body",
            "headers",
        ),
        *(
            "stream",
            "stream_options",
            "model_list",
            "custom_llm_provider",
            "num_retries",
            "max_retries",
            "drop_params",
            "shared_session",
        ),
    )
)
_BY_NAME = "anthropic/"
"""Where litellm merges `extra_body` into nothing, and takes a vendor's own fields by their names."""


@cache
def _litellm() -> Any:
    # Without it, the import fetches a price list from the network.
    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    import litellm

    litellm.suppress_debug_info = True
    # Its warnings, one a request at times, would stand amid the progress of a run.
    for name in ("LiteLLM", "LiteLLM Router", "LiteLLM Proxy"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    litellm.telemetry = False
    # It logs the address of each request, in which some vendors want the key.
    logging.getLogger("httpx").addFilter(_without_query)
    patch()
    use_our_network()
    return litellm


def _without_query(record: logging.LogRecord) -> bool:
    """Take the query strings out of the addresses of a log record."""
    if isinstance(record.args, tuple):
        record.args = tuple(shown(str(one)) if isinstance(one, httpx.URL) else one for one in record.args)
    return True


class LiteLLM(Endpoint):
    """Asks through `litellm.acompletion`, with litellm's own retries off."""

    def __init__(
        self,
        *,
        identity: str,
        limiter: Limiter,
        timeouts: Timeouts = DEFAULT_TIMEOUTS,
        api_key: str | None = None,
        secrets: Sequence[str] = (),
        options: EndpointOptions = NO_OPTIONS,
        model: str | None = None,
        parameters: Mapping[str, str] | None = None,
    ) -> None:
        """`secrets` are keys that litellm finds itself, `parameters` are for litellm, not for the model.

        `model` is what litellm calls the model, if not by the identity.

        Raises:
            InputError: a package is missing that this vendor needs.
        """
        check_installed(identity)
        super().__init__(identity=identity, limiter=limiter, timeouts=timeouts)
        self.negotiation = Negotiation(identity)
        self._model = model or identity
        self._parameters = dict(parameters or {})
        self._api_key = api_key
        self._options = options
        self._redactor = Redactor(api_key, *secrets, *options.secrets, *secrets_of_proxies())
        self._format = ChatFormat()

    @property
    def options(self) -> EndpointOptions:
        """What the user says about its requests."""
        return self._options

    async def arguments(self, request: Request) -> tuple[list[dict[str, Any]], dict[str, Any]]:
        """Messages and options of a request as litellm takes them, after what is known of the endpoint."""
        return await self._format.messages(request), self._as_options(request, self.sent(request))

    def given(self, request: Request) -> frozenset[str]:
        """The names of parameters that are the user's own."""
        return given(request)

    def sent(self, request: Request) -> dict[str, Any]:
        """The parameters as they are sent, after what is known of the endpoint."""
        return self.negotiation.applied(self.parameters(request), given(request))

    def parameters(self, request: Request) -> dict[str, Any]:
        """What is asked for beside the model and the messages; values of the environment by their names."""
        parameters = request.sampling.as_dict()
        if request.response_schema is not None:
            parameters["response_format"] = {
                "type": "json_schema",
                "json_schema": {"name": "answer", "strict": True, "schema": dict(request.response_schema)},
            }
        return parameters

    def _as_options(self, request: Request, parameters: Mapping[str, Any]) -> dict[str, Any]:
        """Parameters as litellm takes them: a vendor's own fields beside those that it translates."""
        filled: dict[str, Any] = self._options.filled(parameters)
        given_names = filled.keys() & request.sampling.extra.keys()
        own = {name: filled[name] for name in given_names if name not in _TRANSLATED}
        options = {name: value for name, value in filled.items() if name not in own}
        if self._identity.startswith(_BY_NAME):
            options |= own
        elif own:
            options["extra_body"] = own
        return options

    async def _send(self, request: Request) -> Reply:
        await anyio.to_thread.run_sync(_litellm)
        messages = await self._format.messages(request)
        return await self.negotiation.ask(
            self.parameters(request),
            given(request),
            partial(self._call, request, messages),
            without_echo(request),
        )

    async def _call(
        self, request: Request, messages: list[dict[str, Any]], parameters: dict[str, Any]
    ) -> Reply:
        litellm = _litellm()
        options = self._as_options(request, parameters) | self._parameters
        if self._api_key is not None:
            options["api_key"] = str(self._api_key)
        if sent := self._options.headers_of() | self._options.session_of(request):
            options["extra_headers"] = sent
        with received() as found:
            try:
                response = await litellm.acompletion(
                    model=self._model,
                    messages=messages,
                    num_retries=0,
                    max_retries=0,
                    drop_params=False,
                    **options,
                )
            except Exception as error:  # noqa: BLE001 - whatever fails in there is a failed request
                return self._redactor.reply(
                    reply_of_error(error, found, self._redactor, request, self._model, self.host)
                )
        headers = found.headers
        body = self._redactor.body(_completion(response, found.body))
        reading = self.negotiation.reading(self._options.reading)
        reply = self.negotiation.saw(classify_response(200, headers, body, reading))
        return replace(self._redactor.reply(reply), rate_limits=rate_limits(headers))


def _completion(response: Any, native: bytes) -> bytes:
    """litellm's completion as JSON, with the vendor's own finish reason from the body that it was made of."""
    content = response.model_dump()
    if (reason := finish_reason_of(native)) is not None and content.get("choices"):
        content["choices"][0]["native_finish_reason"] = reason
    return orjson.dumps(content, default=str)


def check_extra(name: str, extra: Mapping[str, Any]) -> None:
    """Refuse fields of a body that litellm would take for settings of its own.

    Raises:
        InputError: there is one.
    """
    _litellm()
    from litellm.types.utils import all_litellm_params

    for field in extra:
        if field in all_litellm_params or field in _OF_LITELLM:
            raise InputError(f"{name}: extra_body.{field}: litellm would take it for its own: leave it out")


def to_anthropic(model: str, messages: list[dict[str, Any]], options: Mapping[str, Any]) -> dict[str, Any]:
    """The body that litellm sends to Anthropic for these arguments, for requests that go there in batches.

    Raises:
        SafemtError: Anthropic does not take one of the options.
    """
    litellm = _litellm()
    try:
        named = litellm.utils.get_optional_params(model=model, custom_llm_provider="anthropic", **options)
        body: dict[str, Any] = litellm.AnthropicConfig().transform_request(
            model=model, messages=messages, optional_params=named, litellm_params={}, headers={}
        )
    except (_base_error(), *litellm.exceptions.LITELLM_EXCEPTION_TYPES) as error:
        raise SafemtError(one_line(message_of(error))) from None
    return body


def from_anthropic(message: Mapping[str, Any]) -> Reply:
    """The reply that a message of Anthropic amounts to, through litellm and the one table of outcomes."""
    litellm = _litellm()
    raw = dumps(message).decode()
    try:
        response = litellm.AnthropicConfig().transform_parsed_response(
            completion_response=dict(message),
            raw_response=httpx.Response(200),
            model_response=litellm.ModelResponse(),
        )
    except (_base_error(), LookupError, TypeError, ValueError, AttributeError) as error:
        # Paid for, and no message: asking again would give the same result.
        text = one_line(f"not a message of Anthropic's form: {type(error).__name__}: {error}")
        code = ErrorCode.BAD_RESPONSE
        return Reply(Outcome.ERROR_PERMANENT, error=text, error_code=code, status_code=200, raw=raw)
    reply = classify_response(200, {}, _completion(response, raw.encode()))
    # litellm invents an id of its own.
    return replace(reply, response_id=message.get("id"), raw=raw)


def _base_error() -> type[Exception]:
    from litellm.llms.base_llm.chat.transformation import BaseLLMException

    found: type[Exception] = BaseLLMException
    return found
