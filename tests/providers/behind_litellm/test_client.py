"""litellm's answers and exceptions through our table; it is imported late and keeps off the network."""

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import anyio
import pytest

from safemt_client.providers.behind_litellm import client as litellm_client
from safemt_client.providers.behind_litellm.client import LiteLLM
from safemt_client.providers.errors import TargetStoppedError
from safemt_client.providers.limits.limiter import AccountLimiter
from safemt_client.providers.prices import prices
from safemt_client.providers.timeouts import Timeouts
from safemt_client.providers.types import Image, Message, Outcome, Reply, Request, Sampling

ROOT = Path(__file__).resolve().parents[2]


def ask(
    monkeypatch: pytest.MonkeyPatch, result: Any, request: Request | None = None
) -> tuple[Reply, dict[str, Any]]:
    litellm = litellm_client._litellm()
    seen: dict[str, Any] = {}

    async def acompletion(**given: Any) -> Any:
        seen.update(given)
        if isinstance(result, Exception):
            raise result
        return SimpleNamespace(model_dump=lambda: result)

    monkeypatch.setattr(litellm, "acompletion", acompletion)
    provider = LiteLLM(
        identity="anthropic/claude-x",
        limiter=AccountLimiter(rpm=None, tpm=None, concurrency=1),
        timeouts=Timeouts(max_wait_s=0),
    )
    asked = request or Request((Message("user", "hi"),), Sampling(max_tokens=5))
    return anyio.run(provider.ask, asked), seen


def completion(text: str | None, finish: str = "stop") -> dict[str, Any]:
    return {
        "id": "r",
        "model": "claude-x-1",
        "choices": [{"message": {"content": text, "role": "assistant"}, "finish_reason": finish}],
        "usage": {"prompt_tokens": 3, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 1}},
    }


def test_an_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    image = Image("a" * 64, "image/png", 3, 1, 1, lambda: b"png")
    request = Request((Message("user", "hi", (image,)),), Sampling(max_tokens=5), {"type": "object"})
    reply, seen = ask(monkeypatch, completion("hello"), request)
    assert (reply.outcome, reply.text, reply.resolved_model) == (Outcome.ANSWERED, "hello", "claude-x-1")
    assert (reply.usage.prompt_tokens, reply.usage.cached_tokens) == (3, 1)
    assert (seen["num_retries"], seen["max_retries"], seen["max_tokens"]) == (0, 0, 5)
    assert [part["type"] for part in seen["messages"][0]["content"]] == ["image_url", "text"]
    assert seen["response_format"]["type"] == "json_schema"


@pytest.mark.parametrize(
    ("result", "outcome"),
    [
        (completion("half", "length"), Outcome.TRUNCATED),
        (completion("half", "content_filter"), Outcome.REFUSED_BY_PROVIDER),
        (completion(None), Outcome.EMPTY),
    ],
)
def test_forms_of_an_answer(
    monkeypatch: pytest.MonkeyPatch, result: dict[str, Any], outcome: Outcome
) -> None:
    assert ask(monkeypatch, result)[0].outcome is outcome


@pytest.mark.parametrize(
    ("name", "outcome"),
    [
        ("ContentPolicyViolationError", Outcome.REFUSED_BY_PROVIDER),
        ("RateLimitError", Outcome.ERROR_TRANSIENT),
        ("Timeout", Outcome.ERROR_TRANSIENT),
        ("APIConnectionError", Outcome.ERROR_TRANSIENT),
        ("InternalServerError", Outcome.ERROR_TRANSIENT),
        ("ServiceUnavailableError", Outcome.ERROR_TRANSIENT),
        ("BadRequestError", Outcome.ERROR_PERMANENT),
        ("AuthenticationError", None),
        ("NotFoundError", None),
    ],
)
def test_exceptions(monkeypatch: pytest.MonkeyPatch, name: str, outcome: Outcome | None) -> None:
    error = getattr(litellm_client._litellm(), name)("it said no", llm_provider="anthropic", model="claude-x")
    if outcome is None:
        with pytest.raises(TargetStoppedError):
            ask(monkeypatch, error)
    else:
        reply, _ = ask(monkeypatch, error)
        assert reply.outcome is outcome
        assert "it said no" in (reply.error or "")


def test_prices_are_a_number_or_unknown() -> None:
    known = prices("openai/gpt-4o")
    assert known is not None
    assert 0 < known["input"] < known["output"] < 1
    assert prices("openai/there-is-no-such-model") is None


def test_an_endpoint_of_ones_own_never_imports_litellm() -> None:
    code = (
        "import sys; from safemt_client.providers.registry import resolve, build\n"
        "from safemt_client.providers.limits.limiter import Limits\n"
        "from safemt_client.providers.timeouts import Timeouts\n"
        "build(resolve('m@http://127.0.0.1:1/v1', None, {}), transport=None, limits=Limits(),\n"
        "  timeouts=Timeouts())\n"
        "sys.exit('litellm' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
