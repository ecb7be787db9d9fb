"""What the user says about the requests to one endpoint, on the wire of every kind of client."""

import json
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import anyio
import pytest
from support.faults import Endpoint, answer, error, response, serve

from safemt_client.providers.adjusted import Adjusted
from safemt_client.providers.behind_litellm.client import check_extra
from safemt_client.providers.errors import InputError
from safemt_client.providers.limits.limiter import AccountLimiter, Limits
from safemt_client.providers.moderations import ModerationEndpoint
from safemt_client.providers.options import EndpointOptions, environment_of, is_reference
from safemt_client.providers.registry import ProviderSpec, build, build_batches, resolve
from safemt_client.providers.timeouts import Timeouts
from safemt_client.providers.transport import make_transport
from safemt_client.providers.types import Image, Message, Reply, Request, Sampling

SECRET = "planted-value-8642"
KEY = "sk-planted-1234567890"
EXTRA = {"route": ["$ROUTE_KEY", {"as": "Bearer ${ROUTE_KEY}"}], "top_k": 5}
FILLED = {"route": [SECRET, {"as": f"Bearer {SECRET}"}], "top_k": 5}
OPTIONS = EndpointOptions(
    headers={"X-Route": "blue", "X-Key": "$ROUTE_KEY"},
    query={"sig": "$ROUTE_KEY", "v": "2"},
    environment=environment_of("m", EXTRA, {"ROUTE_KEY": SECRET}),
)
PICTURE = Image("a" * 64, "image/png", 3, 1, 1, lambda: b"png")
ASKED = Request((Message("user", "hi", (PICTURE,)),), Sampling(None, 9, extra=EXTRA, stop=("END",)))
TIMES = Timeouts(max_wait_s=0, attempt_s=20, turn_s=20)


def with_spec(
    name: str, behaviours: list[Any], options: EndpointOptions, main: Callable[..., Awaitable[Any]]
) -> tuple[Any, Endpoint]:
    async def run() -> tuple[Any, Endpoint]:
        async with serve(behaviours) as endpoint, make_transport() as transport:
            env = {"ANTHROPIC_API_KEY": KEY, "ANTHROPIC_API_BASE": endpoint.url.removesuffix("/v1")}
            spec = replace(resolve(name.replace("URL", endpoint.url), None, env), options=options)
            return await main(spec, transport), endpoint

    return anyio.run(run)


def ask(
    name: str, request: Request = ASKED, options: EndpointOptions = OPTIONS, behaviour: Any = None
) -> tuple[Reply, Any]:
    async def main(spec: ProviderSpec, transport: Any) -> Any:
        return await build(spec, transport=transport, limits=Limits(), timeouts=TIMES).ask(request)

    reply, endpoint = with_spec(name, [behaviour or answer(f"It is {SECRET}.")], options, main)
    return reply, endpoint.requests[0]


def batch(name: str, behaviours: list[Any], options: EndpointOptions = OPTIONS) -> tuple[Any, Endpoint]:
    async def main(spec: ProviderSpec, transport: Any) -> Any:
        provider = build(spec, transport=transport, limits=Limits(), timeouts=TIMES)
        batches = build_batches(spec, provider, transport=transport, max_wait_s=0)
        assert batches is not None
        await batches.submit("mark", [await batches.encode("id", ASKED)])
        return await batches.list_since(datetime.now(UTC))

    return with_spec(name, behaviours, options, main)


def test_an_endpoint_of_ones_own_gets_headers_query_and_body() -> None:
    reply, sent = ask("m@URL?v=1")
    assert sent.target == f"/v1/chat/completions?v=2&sig={SECRET}"
    assert (sent.headers["x-route"], sent.headers["x-key"]) == ("blue", SECRET)
    assert sent.json["stop"] == ["END"]
    assert {name: sent.json[name] for name in FILLED} == FILLED
    assert SECRET not in repr(reply)
    assert SECRET not in repr(OPTIONS)


def test_a_header_replaces_the_program_s_own() -> None:
    _, sent = ask("m@URL", options=EndpointOptions(headers={"user-agent": "ours/1"}))
    assert sent.headers["user-agent"] == "ours/1"


@pytest.mark.parametrize(
    ("form", "url"),
    [("object", {"url": "data:image/png;base64,cG5n"}), ("string", "data:image/png;base64,cG5n")],
)
def test_the_form_of_an_image_and_the_name_of_the_limit(form: Any, url: Any) -> None:
    options = EndpointOptions(image_format=form, max_tokens_field="max_new_tokens")
    _, sent = ask("m@URL", replace(ASKED, sampling=Sampling(max_tokens=9)), options)
    assert sent.json["messages"][0]["content"][0] == {"type": "image_url", "image_url": url}
    assert sent.json["max_new_tokens"] == 9
    assert "max_tokens" not in sent.json


def test_a_conversation_s_id_or_one_of_how_the_request_begins() -> None:
    options = EndpointOptions(session_header="X-Session-Id")

    def id_of(request: Request) -> str:
        found: str = ask("m@URL", request, options)[1].headers["x-session-id"]
        return found

    plain = Request((Message("user", "hi"),))
    assert id_of(replace(plain, conversation="c-1")) == "c-1"
    longer = Request((*plain.messages, Message("assistant", "yes"), Message("user", "and?")))
    assert id_of(plain) == id_of(longer) != id_of(Request((Message("user", "hello"),)))


def test_litellm_s_anthropic_gets_headers_and_body() -> None:
    message = {
        **{"id": "r", "type": "message", "role": "assistant", "model": "c", "stop_reason": "end_turn"},
        **{
            "content": [{"type": "text", "text": f"It is {SECRET}."}],
            "usage": {"input_tokens": 1, "output_tokens": 1},
        },
    }
    options = replace(OPTIONS, query={}, session_header="X-Session-Id")
    reply, sent = ask("anthropic/claude-haiku-4-5", options=options, behaviour=response(200, message))
    assert (sent.headers["x-route"], sent.headers["x-key"], sent.headers["x-api-key"]) == (
        "blue",
        SECRET,
        KEY,
    )
    assert len(sent.headers["x-session-id"]) == 32
    assert {name: sent.json[name] for name in FILLED} == FILLED
    assert sent.json["stop_sequences"] == ["END"]
    assert "temperature" not in sent.json
    assert reply.text == "It is [key]."


def test_batches_get_headers_query_and_body() -> None:
    begun = [response(200, {"id": "f"}), response(200, {"id": "b"}), response(200, {"data": []})]
    _, endpoint = batch("m@URL", begun)
    for request, route in zip(endpoint.requests, ("files", "batches", "batches"), strict=True):
        place, _, query = request.target.partition("?")
        assert place == f"/v1/{route}"
        assert {f"sig={SECRET}", "v=2"} <= set(query.split("&"))
        assert (request.headers["x-route"], request.headers["x-key"]) == ("blue", SECRET)
    line = next(line for line in endpoint.requests[0].body.splitlines() if line.startswith(b"{"))
    body = json.loads(line)["body"]
    assert {name: body[name] for name in FILLED} == FILLED
    assert "stream" not in body


def test_batches_of_anthropic_get_headers_and_body() -> None:
    begun = [response(200, {"id": "b"}), response(200, {"data": []})]
    _, endpoint = batch("anthropic/claude-haiku-4-5", begun, replace(OPTIONS, query={}))
    assert endpoint.requests[0].headers["x-key"] == SECRET
    params = endpoint.requests[0].json["requests"][0]["params"]
    assert {name: params[name] for name in FILLED} == FILLED
    assert params["stop_sequences"] == ["END"]


def test_a_moderation_endpoint_gets_headers_query_and_body() -> None:
    async def main() -> Endpoint:
        async with serve([error(400)]) as endpoint, make_transport() as transport:
            provider = ModerationEndpoint(
                model="omni",
                base_url=endpoint.url,
                api_key=None,
                transport=transport,
                identity="openai/omni",
                limiter=AccountLimiter(concurrency=1),
                timeouts=TIMES,
                options=OPTIONS,
            )
            await Adjusted(provider, {"extra": EXTRA}).ask(Request((Message("user", "hi"),)))
            return endpoint

    (sent,) = anyio.run(main).requests
    assert sent.target == f"/v1/moderations?sig={SECRET}&v=2"
    assert sent.headers["x-route"] == "blue"
    assert {name: sent.json[name] for name in FILLED} == FILLED


def test_what_litellm_would_take_for_its_own_is_refused() -> None:
    check_extra("anthropic/m", {"top_k": 1, "thinking": {"type": "enabled"}})
    for name in ("api_base", "extra_headers", "mock_response", "metadata"):
        with pytest.raises(InputError, match=rf"anthropic/m: extra_body\.{name}: litellm would take it"):
            check_extra("anthropic/m", {name: "x"})


@pytest.mark.parametrize(
    ("text", "sent"),
    [
        ("$A", "value"),
        ("${A}", "value"),
        ("Bearer $A", "Bearer value"),
        ("$$A", "$A"),
        ("$${A}", "${A}"),
        ("$B", "$B"),
        ("two words $A", "two words $A"),
        ("$A.", "$A."),
        ("$$x$$", "$$x$$"),
        ("$1", "$1"),
        ("", ""),
    ],
)
def test_what_stands_for_a_value_of_the_environment(text: str, sent: str) -> None:
    options = EndpointOptions(environment=environment_of("m", "$A", {"A": " value\n"}))
    assert options.filled({"x": [text, 1, None, True]}) == {"x": [sent, 1, None, True]}
    assert is_reference(text) == (sent.endswith("value") or text == "$B")


def test_a_value_that_cannot_be_sent_is_refused() -> None:
    with pytest.raises(InputError, match="m: the environment variable A contains characters"):
        environment_of("m", {"x": "$A"}, {"A": "a\nb"})
