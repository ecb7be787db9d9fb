"""From a name to an endpoint."""

import pytest

from safemt_client.providers.errors import InputError
from safemt_client.providers.registry import resolve

ENV = {"OPENAI_API_KEY": "sk-openai", "ANTHROPIC_API_KEY": "sk-ant", "SAFEMT_API_KEY": "sk-own"}


@pytest.mark.parametrize(
    ("name", "identity", "kind", "account"),
    [
        ("gpt-4o", "openai/gpt-4o", "openai", "openai/gpt-4o"),
        ("openai/gpt-4o", "openai/gpt-4o", "openai", "openai/gpt-4o"),
        ("o3-mini", "openai/o3-mini", "openai", "openai/o3-mini"),
        ("claude-3-5-haiku", "anthropic/claude-3-5-haiku", "litellm", "anthropic/claude-3-5-haiku"),
        ("bedrock/some.model", "bedrock/some.model", "litellm", "bedrock"),
        ("qwen@http://127.0.0.1:8000/v1", "local/qwen", "openai", "127.0.0.1:8000"),
        ("org/qwen@http://127.0.0.1:8000/v1", "local/org/qwen", "openai", "127.0.0.1:8000"),
    ],
)
def test_names(name: str, identity: str, kind: str, account: str) -> None:
    spec = resolve(name, None, ENV)
    assert (spec.identity, spec.kind, spec.account) == (identity, kind, account)
    assert "sk-" not in repr(spec)


def test_a_vendors_key_goes_nowhere_else() -> None:
    assert resolve("gpt-4o", None, ENV).api_key == "sk-openai"
    assert resolve("gpt-4o", "http://127.0.0.1:1/v1", ENV).api_key == "sk-own"
    assert resolve("m@http://127.0.0.1:1/v1", None, {"OPENAI_API_KEY": "sk-openai"}).api_key is None


@pytest.mark.parametrize(
    ("name", "url", "said"),
    [
        ("gpt-4o", None, "OPENAI_API_KEY"),
        ("claude-x", None, "ANTHROPIC_API_KEY"),
        ("somebody", None, "not known"),
        ("m@ftp://host/v1", None, "MODEL@http"),
        ("m@http://", None, "MODEL@http"),
        ("@http://host/v1", None, "MODEL@http"),
        ("m@http://user:secret@host/v1", None, "SAFEMT_API_KEY"),
        ("m@http://host:99999/v1", None, "MODEL@http"),
    ],
)
def test_a_wrong_name_is_one_line_without_the_secret(name: str, url: str | None, said: str) -> None:
    with pytest.raises(InputError) as caught:
        resolve(name, url, {})
    assert said in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1
    assert "secret" not in str(caught.value)
