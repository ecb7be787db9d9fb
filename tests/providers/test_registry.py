"""From a name to an endpoint."""

from pathlib import Path

import pytest

from safemt_client.providers.errors import InputError
from safemt_client.providers.registry import resolve
from safemt_client.providers.vendor import Vendor
from safemt_client.providers.vendors import DEMO_NAMES, VENDORS, vendors_table

DOC = Path(__file__).parents[2] / "docs" / "endpoints.md"

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


KEYS = {
    variable: f"sk-{number}"
    for number, vendor in enumerate(VENDORS)
    for variable in (*vendor.keys[:1], *vendor.further_keys)
} | {"AZURE_API_BASE": "https://name.openai.azure.com"}
# Identities are in the hashes of all that is stored, accounts in what users state limits for.
PINNED = {
    "openai": ("openai", "openai/m", True, "openai"),
    "openrouter": ("openai", "openrouter", False, None),
    "groq": ("openai", "groq/m", False, "openai"),
    "together_ai": ("openai", "together_ai", False, None),
    "fireworks_ai": ("openai", "fireworks_ai", False, None),
    "deepseek": ("openai", "deepseek", False, None),
    "mistral": ("openai", "mistral/m", False, None),
    "xai": ("openai", "xai/m", False, None),
    "anthropic": ("litellm", "anthropic/m", False, "anthropic"),
    "gemini": ("litellm", "gemini/m", False, None),
    "bedrock": ("litellm", "bedrock", False, None),
    "vertex_ai": ("litellm", "vertex_ai", False, None),
    "azure": ("litellm", "azure", False, None),
    "cohere": ("litellm", "cohere", False, None),
    "dashscope": ("openai", "dashscope", False, None),
    "dashscope_cn": ("openai", "dashscope_cn", False, None),
    "moonshot": ("openai", "moonshot", False, None),
    "moonshot_cn": ("openai", "moonshot_cn", False, None),
    "zai": ("openai", "zai", False, None),
    "zhipu": ("openai", "zhipu", False, None),
    "siliconflow": ("openai", "siliconflow", False, None),
    "siliconflow_cn": ("openai", "siliconflow_cn", False, None),
    "cerebras": ("openai", "cerebras/m", True, None),
    "nvidia_nim": ("openai", "nvidia_nim", False, None),
    "huggingface": ("openai", "huggingface", False, None),
    "perplexity": ("openai", "perplexity/m", False, None),
    "minimax": ("openai", "minimax", False, None),
    "minimax_cn": ("openai", "minimax_cn", False, None),
    "ollama": ("openai", "ollama", False, None),
    "lm_studio": ("openai", "lm_studio", False, None),
}


@pytest.mark.parametrize("vendor", VENDORS, ids=lambda vendor: vendor.name)
def test_every_vendor_is_a_row(vendor: Vendor) -> None:
    spec = resolve(f"{vendor.name}/m", None, KEYS)
    local = vendor.name in ("ollama", "lm_studio")
    assert (spec.identity, spec.model, spec.own, spec.free) == (f"{vendor.name}/m", "m", local, local)
    reserved = vendor.charging == "reserved"
    assert (spec.kind, spec.account, reserved, vendor.batches) == PINNED[vendor.name]
    assert (spec.base_url is None) == (vendor.name in ("bedrock", "vertex_ai"))
    assert spec.api_key == (KEYS[vendor.keys[0]] if vendor.keys else None)
    assert spec.moved_by == ("AZURE_API_BASE" if vendor.name == "azure" else None)
    assert list(spec.secrets) == [KEYS[variable] for variable in vendor.further_keys]
    for prefix in vendor.bare:
        assert resolve(f"{prefix}x", None, KEYS).identity == f"{vendor.name}/{prefix}x"
    address = {"AZURE_API_BASE": KEYS["AZURE_API_BASE"]}
    if vendor.keys and vendor.key_needed:
        with pytest.raises(InputError, match=vendor.keys[0]):
            resolve(f"{vendor.name}/m", None, address)
    else:
        assert resolve(f"{vendor.name}/m", None, address).api_key is None
    for variable in vendor.keys:
        assert resolve(f"{vendor.name}/m", None, address | {variable: "sk-any"}).key_variable == variable


def test_the_table_in_the_docs_is_that_of_the_vendors() -> None:
    """python -m safemt_client.providers.vendors makes it."""
    assert vendors_table() in DOC.read_text(encoding="utf-8")


@pytest.mark.parametrize("name", DEMO_NAMES)
def test_the_demo_is_free_and_needs_no_key(name: str) -> None:
    spec = resolve(name, None, {})
    assert (spec.identity, spec.kind, spec.account) == (f"demo/{name}", "demo", "demo")
    assert spec.free
    assert not spec.own


def test_an_endpoint_of_ones_own_is_not_free() -> None:
    spec = resolve("m@http://127.0.0.1:1/v1", None, {})
    assert spec.own
    assert not spec.free


def test_anthropics_address_is_where_litellm_sends_to() -> None:
    moved = {"ANTHROPIC_BASE_URL": "http://127.0.0.1:1/v1/messages"}
    assert resolve("claude-x", None, KEYS | moved).base_url == "http://127.0.0.1:1"
    assert resolve("claude-x", None, KEYS).base_url == "https://api.anthropic.com"


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
