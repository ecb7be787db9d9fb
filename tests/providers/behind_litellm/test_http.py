"""The vendors behind litellm over real HTTP: what the endpoint said decides, not what litellm makes of it."""

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from shutil import which
from typing import Any

import anyio
import pytest
from support.faults import Behaviour, answer, raw, response, serve
from support.network import make_certificate, serve_tls

from safemt_client.__main__ import main
from safemt_client.providers.behind_litellm import errors as litellm_errors
from safemt_client.providers.error_codes import ErrorCode
from safemt_client.providers.errors import TargetStoppedError
from safemt_client.providers.limits.limiter import Limits
from safemt_client.providers.registry import build, resolve
from safemt_client.providers.timeouts import Timeouts
from safemt_client.providers.transport import make_transport
from safemt_client.providers.types import Message, Outcome, Reply, Request, Sampling

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
HELLO = Request((Message("user", "When does the library open?"),), Sampling(max_tokens=5))
MODELS = {
    "anthropic": "anthropic/claude-x",
    "gemini": "gemini/gemini-x",
    "azure": "azure/d",
    "cohere": "cohere/command-x",
    "bedrock": "bedrock/anthropic.claude-3-haiku-20240307-v1:0",
}
KEYS = {
    **{f"{vendor}_API_KEY": "sk-planted-42" for vendor in ("ANTHROPIC", "GEMINI", "AZURE", "COHERE")},
    "AZURE_API_VERSION": "2024-10-21",
    "AWS_BEARER_TOKEN_BEDROCK": "sk-planted-42",
    "AWS_REGION_NAME": "us-east-1",
}
ADDRESSES = {
    "anthropic": "ANTHROPIC_API_BASE",
    "gemini": "GEMINI_API_BASE",
    "azure": "AZURE_API_BASE",
    "cohere": "COHERE_API_BASE",
    "bedrock": "AWS_BEDROCK_RUNTIME_ENDPOINT",
}


@dataclass
class Asked:
    """What came of one request with its retries."""

    reply: Reply | None
    stop: TargetStoppedError | None
    before: list[tuple[Reply, float]]
    requests: int


def ask(monkeypatch: pytest.MonkeyPatch, vendor: str, *script: Behaviour, max_wait_s: float = 0) -> Asked:
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv(ADDRESSES[vendor], "")  # set again in there, and put back afterwards
    return anyio.run(lambda: ask_in_this_loop(vendor, *script, max_wait_s=max_wait_s))


async def ask_in_this_loop(vendor: str, *script: Behaviour, max_wait_s: float = 0) -> Asked:
    async with serve(script, script[-1]) as endpoint, make_transport() as transport:
        os.environ[ADDRESSES[vendor]] = address = endpoint.url.removesuffix("/v1")
        spec = resolve(MODELS[vendor], None, KEYS | {ADDRESSES[vendor]: address})
        timeouts = Timeouts(max_wait_s=max_wait_s)
        provider = build(spec, transport=transport, limits=Limits(), timeouts=timeouts)
        found = Asked(None, None, [], 0)
        try:
            found.reply = await provider.ask(HELLO, lambda *retry: found.before.append(retry))
        except TargetStoppedError as stop:
            found.stop = stop
        found.requests = len(endpoint.requests)
        return found


def google(code: int, status: str, message: str, *details: dict[str, Any]) -> dict[str, Any]:
    return {"error": {"code": code, "status": status, "message": message, "details": list(details)}}


def claude(kind: str, message: str) -> dict[str, Any]:
    return {"type": "error", "error": {"type": kind, "message": message}}


FILTERED = {"error": {"code": "content_filter", "status": 400, "message": "The response was filtered"}}


@pytest.mark.parametrize("vendor", MODELS)
def test_a_wait_that_is_asked_for_is_known(vendor: str, monkeypatch: pytest.MonkeyPatch) -> None:
    busy = response(429, {"message": "slow down"}, retry_after="7")
    reply = ask(monkeypatch, vendor, busy).reply
    assert reply is not None
    assert (reply.outcome, reply.error_code) == (Outcome.ERROR_TRANSIENT, ErrorCode.RATE_LIMITED)
    assert (reply.status_code, reply.retry_after_s) == (429, 7)


def test_a_wait_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    found = ask(
        monkeypatch,
        "anthropic",
        response(529, claude("overloaded_error", "Overloaded"), retry_after="1"),
        response(200, message("The library opens at nine.")),
        max_wait_s=30,
    )
    assert [wait for _, wait in found.before] == [1]
    assert found.before[0][0].status_code == 529
    assert found.reply is not None
    assert (found.reply.text, found.requests) == ("The library opens at nine.", 2)


def message(text: str, stop_reason: str = "end_turn") -> dict[str, Any]:
    return {
        "id": "m1",
        "type": "message",
        "role": "assistant",
        "model": "claude-x",
        "content": [{"type": "text", "text": text}] if text else [],
        "stop_reason": stop_reason,
        "usage": {"input_tokens": 3, "output_tokens": 6},
    }


@pytest.mark.parametrize(
    ("vendor", "status", "body", "outcome", "code"),
    [
        ("anthropic", 529, claude("overloaded_error", "Overloaded"), "error_transient", "overloaded"),
        ("anthropic", 500, claude("api_error", "Internal server error"), "error_transient", "server_error"),
        ("gemini", 503, google(503, "UNAVAILABLE", "overloaded"), "error_transient", "overloaded"),
        ("bedrock", 503, {"message": "Bedrock is busy"}, "error_transient", "overloaded"),
        ("bedrock", 400, {"message": "The text field is blank."}, "error_permanent", "bad_request"),
        ("cohere", 504, "<html>too late</html>", "error_transient", "timeout"),
        ("azure", 502, "<html>bad</html>", "error_transient", "server_error"),
        *((vendor, 200, "<html>hi</html>", "error_transient", "bad_response") for vendor in MODELS),
        ("gemini", 200, {}, "error_transient", "bad_response"),
        ("anthropic", 200, claude("overloaded_error", "Overloaded"), "error_transient", None),
        ("gemini", 200, google(429, "RESOURCE_EXHAUSTED", "busy"), "error_transient", "rate_limited"),
    ],
)
def test_an_error_is_what_the_endpoint_says(
    vendor: str, status: int, body: Any, outcome: str, code: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    reply = ask(monkeypatch, vendor, response(status, body)).reply
    assert reply is not None
    assert (reply.outcome, reply.error_code) == (outcome, code or reply.error_code), reply
    assert reply.status_code == status or status == 200
    assert "litellm" not in (reply.error or "") or status == 200


@pytest.mark.parametrize(
    ("vendor", "status", "body", "code"),
    [
        ("anthropic", 401, claude("authentication_error", "invalid x-api-key"), "authentication"),
        ("gemini", 404, google(404, "NOT_FOUND", "models/gemini-x is not found"), "model_not_found"),
        ("azure", 429, {"error": {"code": "insufficient_quota", "message": "no quota"}}, "quota"),
        ("anthropic", 400, claude("invalid_request_error", "Your credit balance is too low"), "quota"),
    ],
)
def test_what_stops_a_target(
    vendor: str, status: int, body: dict[str, Any], code: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = ask(monkeypatch, vendor, response(status, body), max_wait_s=100)
    assert found.stop is not None
    assert (found.stop.code, found.stop.status, found.requests) == (code, status, 1)


def google_reply(reason: str, text: str = "") -> dict[str, Any]:
    candidate: dict[str, Any] = {"finishReason": reason, "index": 0}
    if text:
        candidate["content"] = {"role": "model", "parts": [{"text": text}]}
    return {"candidates": [candidate], "usageMetadata": {"promptTokenCount": 4, "totalTokenCount": 4}}


def cohere_reply(reason: str, text: str) -> dict[str, Any]:
    return {
        "id": "c1",
        "message": {"role": "assistant", "content": [{"type": "text", "text": text}]},
        "finish_reason": reason,
        "usage": {"tokens": {"input_tokens": 3, "output_tokens": 1}},
    }


def bedrock_reply(reason: str, text: str) -> dict[str, Any]:
    return {
        "output": {"message": {"role": "assistant", "content": [{"text": text}]}},
        "stopReason": reason,
        "usage": {"inputTokens": 3, "outputTokens": 1, "totalTokens": 4},
        "metrics": {"latencyMs": 1},
    }


@pytest.mark.parametrize(
    ("vendor", "status", "body"),
    [
        ("azure", 400, FILTERED),
        ("anthropic", 400, claude("invalid_request_error", "Output blocked by content filtering policy")),
        ("anthropic", 200, message("", "refusal")),
        ("gemini", 400, google(400, "INVALID_ARGUMENT", "The prompt was blocked due to safety settings")),
        (
            "gemini",
            200,
            {"promptFeedback": {"blockReason": "SAFETY"}, "usageMetadata": {"totalTokenCount": 4}},
        ),
        ("gemini", 200, google_reply("PROHIBITED_CONTENT")),
        ("bedrock", 200, bedrock_reply("guardrail_intervened", "Sorry.")),
        ("bedrock", 200, bedrock_reply("content_filtered", "Sorry.")),
        ("cohere", 200, cohere_reply("ERROR_TOXIC", "")),
    ],
)
def test_a_block_is_a_block(
    vendor: str, status: int, body: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    reply = ask(monkeypatch, vendor, response(status, body)).reply
    assert reply is not None
    assert reply.outcome is Outcome.REFUSED_BY_PROVIDER, reply


@pytest.mark.parametrize(
    ("vendor", "body", "outcome"),
    [
        ("cohere", cohere_reply("ERROR", "The library op"), "error_transient"),
        ("cohere", cohere_reply("COMPLETE", "At nine."), "answered"),
        ("cohere", cohere_reply("MAX_TOKENS", "At"), "truncated"),
        ("gemini", google_reply("MALFORMED_FUNCTION_CALL"), "error_transient"),
        ("gemini", google_reply("STOP", "At nine."), "answered"),
        ("gemini", google_reply("MAX_TOKENS", "At"), "truncated"),
        ("anthropic", message("At nine.", "stop_sequence"), "answered"),
        ("anthropic", message("At", "model_context_window_exceeded"), "truncated"),
        ("bedrock", bedrock_reply("end_turn", "At nine."), "answered"),
    ],
)
def test_why_a_reply_ended_is_the_vendors_own_word(
    vendor: str, body: dict[str, Any], outcome: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    reply = ask(monkeypatch, vendor, response(200, body)).reply
    assert reply is not None
    assert reply.outcome == outcome, reply
    assert reply.oddities == ()


def test_a_wait_in_the_body_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    wait = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "2s"}
    busy = response(429, google(429, "RESOURCE_EXHAUSTED", "Please retry in 2.07s.", wait))
    reply = ask(monkeypatch, "gemini", busy).reply
    assert reply is not None
    assert 2 <= (reply.retry_after_s or 0) <= 2.1


def test_a_parameter_that_the_vendor_does_not_take_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    refused = claude("invalid_request_error", "temperature is deprecated for this model")
    found = ask(monkeypatch, "anthropic", response(400, refused), response(200, message("At nine.")))
    assert found.reply is not None
    assert (found.reply.text, found.requests) == ("At nine.", 2)


@pytest.mark.parametrize("vendor", MODELS)
def test_a_broken_connection_is_asked_again(vendor: str, monkeypatch: pytest.MonkeyPatch) -> None:
    found = ask(monkeypatch, vendor, raw(b""))
    reply = found.reply
    assert reply is not None
    assert reply.error_code == ErrorCode.CONNECTION_FAILED
    assert reply.error == "connection failed: Server disconnected"
    assert found.requests == 1


@pytest.mark.skipif(which("openssl") is None, reason="openssl makes the certificate")
@pytest.mark.parametrize("vendor", ["anthropic", "azure"])
def test_a_certificate_that_is_not_trusted_stops_the_target(
    vendor: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def once() -> str:
        async with (
            serve_tls(*make_certificate(tmp_path, "localhost"), answer()) as url,
            make_transport() as ours,
        ):
            spec = resolve(MODELS[vendor], None, KEYS | {ADDRESSES[vendor]: url})
            provider = build(spec, transport=ours, limits=Limits(), timeouts=Timeouts(max_wait_s=100))
            with pytest.raises(TargetStoppedError) as stop:
                await provider.ask(HELLO)
            return str(stop.value)

    said = anyio.run(once)
    assert "the certificate of 127.0.0.1" in said
    assert "SSL_CERT_FILE" in said


def test_what_stands_in_the_way_of_asking_stops_the_target(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name in ("AWS_BEARER_TOKEN_BEDROCK", "AWS_ACCESS_KEY_ID", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    keys = {name: value for name, value in KEYS.items() if name != "AWS_BEARER_TOKEN_BEDROCK"}
    monkeypatch.setattr(f"{__name__}.KEYS", keys)
    found = ask(monkeypatch, "bedrock", answer())
    assert found.stop is not None
    assert found.stop.code == ErrorCode.CONFIGURATION
    assert "Unable to locate credentials" in str(found.stop)
    assert len(str(found.stop).splitlines()) == 1
    assert found.requests == 0


IN_A_LOOP = """
import anyio
from test_http import ask_in_this_loop
from safemt_client.providers.prices import prices
from support.faults import response

async def main():
    # The first import of litellm, as when a run is planned.
    prices("gemini/gemini-x")
    found = await ask_in_this_loop("gemini", response(302, "", location="http://127.0.0.1:9/"))
    assert found.requests == 1 and "302" in f"{found.reply} {found.stop}", found

anyio.run(main)
"""


@pytest.mark.slow
def test_clients_that_litellm_opens_when_it_is_imported_follow_no_redirect() -> None:
    path = os.pathsep.join(map(str, (ROOT, ROOT / "tests", HERE)))
    done = subprocess.run(
        [sys.executable, "-c", IN_A_LOOP],
        env=os.environ | KEYS | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("model", "package"), [("vertex_ai/gemini-x", "google-auth"), ("bedrock/m", "boto3")]
)
def test_a_missing_package_is_said_before_the_run(
    model: str, package: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(litellm_errors, "find_spec", lambda module: None)
    assert main(["--data", "sample", "--provider", model, "--judge", "none", "--dry-run"]) == 2
    assert capsys.readouterr().err == (
        f"safemt: {model}: the package {package} is missing: pip install {package}\n"
    )


@pytest.mark.parametrize(
    ("vendor", "refusal"),
    [
        ("anthropic", claude("invalid_request_error", "`temperature` is deprecated for this model.")),
        ("azure", {"error": {"message": "Unsupported value: 'temperature'", "param": "temperature"}}),
    ],
)
def test_what_an_endpoint_does_not_take_is_left_out(
    vendor: str, refusal: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    good = response(200, message("at nine")) if vendor == "anthropic" else answer("at nine")
    found = ask(monkeypatch, vendor, response(400, refusal), good)
    assert found.reply is not None
    assert (found.reply.outcome, found.reply.text) == (Outcome.ANSWERED, "at nine")
    assert (found.reply.parameters, found.requests, found.before) == ({"max_tokens": 5}, 2, [])


def test_what_litellm_knows_of_a_model_is_left_out_too(monkeypatch: pytest.MonkeyPatch) -> None:
    # It refuses by itself, before anything is sent.
    request = Request(HELLO.messages, Sampling(max_tokens=5, seed=3))
    monkeypatch.setattr(sys.modules[__name__], "HELLO", request)
    found = ask(monkeypatch, "anthropic", response(200, message("at nine")))
    assert found.reply is not None
    assert found.reply.outcome is Outcome.ANSWERED, found.reply.error
    assert (found.reply.parameters, found.requests) == ({"temperature": 0.0, "max_tokens": 5}, 1)
