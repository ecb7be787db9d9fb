"""Addresses: as users type them, as they are asked, and what of them is kept."""

import pytest

from safemt_client.moderator.build import parse_moderator
from safemt_client.providers.addresses import base_url_of, host_of, key_headers, origin_of, shown, url_of
from safemt_client.providers.errors import InputError
from safemt_client.providers.keys import Key
from safemt_client.providers.registry import resolve
from safemt_client.providers.routes import Routes
from safemt_client.providers.vendors import VENDORS


def asked_at(text: str) -> str:
    return base_url_of(text, "--provider 'm'", "MODEL@http://HOST:PORT/v1", "SAFEMT_API_KEY")


@pytest.mark.parametrize(
    ("typed", "asked"),
    [
        ("http://h:1/v1", "http://h:1/v1/chat/completions"),
        ("http://h:1/v1/", "http://h:1/v1/chat/completions"),
        ("http://h:1/v1/chat/completions", "http://h:1/v1/chat/completions"),
        ("http://h:1/v1/chat/completions/", "http://h:1/v1/chat/completions"),
        ("http://h:1/v1/completions", "http://h:1/v1/chat/completions"),
        ("http://h:1/v1/models", "http://h:1/v1/chat/completions"),
        ("http://h", "http://h/chat/completions"),
        (
            "https://h/v1?api-version=2024-10-21",
            "https://h/v1/chat/completions?api-version=2024-10-21",
        ),
        (
            "https://n.openai.azure.com/openai/deployments/d/chat/completions?api-version=2024-10-21",
            "https://n.openai.azure.com/openai/deployments/d/chat/completions?api-version=2024-10-21",
        ),
        ("http://[::1]:8000/v1", "http://[::1]:8000/v1/chat/completions"),
    ],
)
def test_the_path_goes_below_the_address_and_before_its_query(typed: str, asked: str) -> None:
    assert url_of(asked_at(typed), "/chat/completions") == asked


def test_queries_of_address_and_path_come_together() -> None:
    assert (
        url_of("https://h/v1?a=1", "/batches?limit=100", {"b": "2"})
        == "https://h/v1/batches?a=1&limit=100&b=2"
    )


@pytest.mark.parametrize(
    "query",
    [
        *("key=abc", "api_key=abc", "api-key=abc", "apiKey=abc", "subscription-key=abc", "access_token=abc"),
        *("token=abc", "sig=abc", "X-Amz-Signature=abc", "code=abc", "client_secret=abc", "password=abc"),
        *("api-version=2024-10-21&sig=abc", "tenant=4f9a8b7c6d5e4f3a2b1c0d9e8f7a6b5c"),
    ],
)
def test_a_query_with_a_secret_is_refused_without_repeating_it(query: str) -> None:
    with pytest.raises(InputError, match="secret") as caught:
        resolve(f"m@https://h/v1?{query}", None, {})
    assert "abc" not in str(caught.value)
    assert "4f9a8b7c" not in str(caught.value)


@pytest.mark.parametrize(
    "query",
    ["api-version=2024-10-21", "max_tokens=5", "deployment=gpt-4o-mini-2024-07-18-prod", "keyspace=a"],
)
def test_a_harmless_query_stays(query: str) -> None:
    assert resolve(f"m@https://h/v1?{query}", None, {}).base_url == f"https://h/v1?{query}"


@pytest.mark.parametrize(
    "several",
    [
        *("http://a:1/v1,http://b:2/v1", "http://a:1,b:2/v1", "http://a:1/v1, http://b:2/v1"),
        *("http://a:1/v1;http://b:2/v1", "http://a:1/v1,m@http://b:2/v1", "http://a:1/v1 http://b:2/v1"),
    ],
)
def test_a_fleet_is_refused_and_a_router_named(several: str) -> None:
    with pytest.raises(InputError, match=r"router.*docs/endpoints\.md"):
        resolve(f"m@{several}", None, {})


def test_what_is_kept_of_an_address() -> None:
    url = "https://Host.Example:8443/v1?api-version=1"
    assert host_of(url) == "host.example:8443"
    assert host_of("https://h/v1") == "h"
    assert host_of("http://[::1]:8000/v1") == "[::1]:8000"
    assert host_of(None) is None
    assert origin_of("https://h/v1") == origin_of("https://H:443/other") == "https://h:443"
    assert origin_of("http://h/v1") != origin_of("https://h/v1")
    assert shown("http://user:pass@h:1/v1?key=x") == "http://h:1/v1"


def test_azure_takes_keys_in_a_header_of_its_own() -> None:
    assert key_headers("https://n.openai.azure.com/openai/v1", "k") == {"api-key": "k"}
    assert key_headers("https://openai.azure.com.evil.example/v1", "k") == {"Authorization": "Bearer k"}
    assert key_headers("http://127.0.0.1:1/v1", None) == {}


@pytest.mark.parametrize(
    ("given", "identity", "name"),
    [
        ("fast=qwen@http://127.0.0.1:1/v1", "local/qwen#fast", "fast"),
        ("a.b-1=org/qwen@http://127.0.0.1:1/v1?v=1", "local/org/qwen#a.b-1", "a.b-1"),
        ("mini=gpt-4o-mini", "openai/gpt-4o-mini#mini", "mini"),
        ("or=openrouter/a/b:free", "openrouter/a/b:free#or", "or"),
        ("x=m=1@http://127.0.0.1:1/v1", "local/m=1#x", "x"),
        ("m@http://127.0.0.1:1/v1?a=b", "local/m", "m@http://127.0.0.1:1/v1?a=b"),
        ("org/m=1@http://127.0.0.1:1/v1", "local/org/m=1", "org/m=1@http://127.0.0.1:1/v1"),
    ],
)
def test_an_alias_is_the_name_and_tells_models_apart(given: str, identity: str, name: str) -> None:
    spec = resolve(given, None, {"OPENAI_API_KEY": "sk-o", "OPENROUTER_API_KEY": "sk-r"})
    assert (spec.identity, spec.name) == (identity, name)
    assert "#" not in spec.listed
    assert "#" not in spec.model


def test_a_guard_may_have_an_alias() -> None:
    spec = parse_moderator("llama-guard-4+block=g=guard@http://127.0.0.1:1/v1?v=1")
    assert (spec.head, spec.provider) == ("llama-guard-4+block", "g=guard@http://127.0.0.1:1/v1?v=1")
    assert resolve(spec.provider or "", None, {}).identity == "local/guard#g"


@pytest.mark.parametrize("alias", ["demo", "demo-judge", "none"])
def test_an_alias_with_a_meaning_of_its_own_is_refused(alias: str) -> None:
    with pytest.raises(InputError, match="choose another"):
        resolve(f"{alias}=m@http://127.0.0.1:1/v1", None, {})


@pytest.mark.parametrize(
    ("name", "proposed"),
    [
        ("opnai/gpt-4o", "openai/gpt-4o"),
        ("OpenAI/gpt-4o", "openai/gpt-4o"),
        ("together/x", "together_ai/x"),
        ("google/gemini-x", "gemini/gemini-x"),
        ("lmstudio/x", "lm_studio/x"),
        ("kimi/x", "moonshot/x"),
        ("gtp-4o-mini", "gpt-4o-mini"),
        ("claud-3-5-haiku", "claude-3-5-haiku"),
        ("qwen@127.0.0.1:8000/v1", "qwen@http://127.0.0.1:8000/v1"),
        ("nothing-like-it/x", "VENDOR/MODEL"),
    ],
)
def test_an_unknown_name_proposes_near_ones_and_the_form(name: str, proposed: str) -> None:
    with pytest.raises(InputError, match="not known") as caught:
        resolve(name, None, {})
    assert proposed in str(caught.value)
    assert "http://" in str(caught.value)


MOVED = [(vendor, variable) for vendor in VENDORS for variable in vendor.addresses]


@pytest.mark.parametrize(
    ("vendor", "variable"), MOVED, ids=[f"{vendor.name}-{variable.name}" for vendor, variable in MOVED]
)
def test_every_variable_moves_its_vendor_and_says_so(vendor: object, variable: object) -> None:
    env = dict.fromkeys(vendor.keys, "sk-any")  # type: ignore[attr-defined]
    moved = env | {variable.name: "http://127.0.0.1:1/p/"}  # type: ignore[attr-defined]
    spec = resolve(f"{vendor.name}/m", None, moved)  # type: ignore[attr-defined]
    assert spec.base_url == "http://127.0.0.1:1/p" + variable.path  # type: ignore[attr-defined]
    assert spec.moved_by == variable.name  # type: ignore[attr-defined]
    routes = Routes()
    routes.add(spec)
    assert variable.name in routes.notes[0]  # type: ignore[attr-defined]
    assert "http://127.0.0.1:1/p" in routes.notes[0]


@pytest.mark.parametrize(
    ("given", "asked"),
    [
        ("127.0.0.1", "http://127.0.0.1:11434/v1"),
        ("0.0.0.0", "http://127.0.0.1:11434/v1"),
        ("0.0.0.0:1234", "http://127.0.0.1:1234/v1"),
        (":1234", "http://127.0.0.1:1234/v1"),
        ("[::1]:1234", "http://[::1]:1234/v1"),
        ("https://o.example", "https://o.example/v1"),
        ("http://o.example:80/sub/", "http://o.example:80/sub/v1"),
    ],
)
def test_ollamas_host_is_read_as_ollama_does(given: str, asked: str) -> None:
    assert resolve("ollama/m", None, {"OLLAMA_HOST": given}).base_url == asked


@pytest.mark.parametrize("given", ["http://h:port", "[x", "h:99999"])
def test_a_broken_host_of_ollamas_is_named(given: str) -> None:
    with pytest.raises(InputError, match="OLLAMA_HOST"):
        resolve("ollama/m", None, {"OLLAMA_HOST": given})


def test_a_program_on_this_machine_is_the_users_own_and_free_only_here() -> None:
    here = resolve("ollama/m", None, {})
    assert (here.own, here.free, here.api_key) == (True, True, None)
    there = resolve("ollama/m", None, {"OLLAMA_HOST": "https://o.example", "OLLAMA_API_KEY": "k"})
    assert (there.own, there.free, there.api_key) == (True, False, Key("k"))
    assert resolve("ollama/m", None, {"SAFEMT_API_KEY": "k"}).api_key is None


def test_a_moved_address_is_checked_like_any_other() -> None:
    for given in ("http://u:p@h/v1", "ftp://h", "https://h/v1?key=abc", "http://a,http://b"):
        with pytest.raises(InputError, match="OPENAI_BASE_URL"):
            resolve("gpt-4o", None, {"OPENAI_API_KEY": "sk-o", "OPENAI_BASE_URL": given})


def test_azure_needs_an_address_and_knows_its_own_variables() -> None:
    with pytest.raises(InputError, match="AZURE_API_BASE"):
        resolve("azure/m", None, {"AZURE_API_KEY": "k"})
    env = {
        "AZURE_OPENAI_API_KEY": "k",
        "AZURE_OPENAI_ENDPOINT": "https://n.openai.azure.com/",
        "OPENAI_API_VERSION": "2024-10-21",
    }
    spec = resolve("azure/m", None, env)
    assert (spec.kind, spec.api_key) == ("litellm", "k")
    assert spec.parameters == {"api_base": "https://n.openai.azure.com", "api_version": "2024-10-21"}
    newer = resolve("azure/m", None, env | {"AZURE_OPENAI_ENDPOINT": "https://n.openai.azure.com/openai/v1/"})
    assert (newer.kind, newer.base_url) == ("openai", "https://n.openai.azure.com/openai/v1")
    assert newer.identity == spec.identity == "azure/m"
    assert resolve("azure/m", None, {"AZURE_API_BASE": "https://n", "AZURE_AD_TOKEN": "t"}).secrets == ("t",)


def test_a_key_goes_to_one_host() -> None:
    env = {"SAFEMT_API_KEY": "sk-own", "OTHER_KEY": "sk-other"}
    routes = Routes()
    routes.add(resolve("m@http://127.0.0.1:1/v1", None, env))
    routes.add(resolve("n@http://127.0.0.1:1/other/path", None, env))
    routes.add(resolve("o@http://127.0.0.1:2/v1", None, env, "OTHER_KEY"))
    with pytest.raises(InputError, match=r"SAFEMT_API_KEY.*127\.0\.0\.1:1.*127\.0\.0\.1:3.*api_key_env"):
        routes.add(resolve("p@http://127.0.0.1:3/v1", None, env))
    with pytest.raises(InputError, match="OTHER_KEY"):
        routes.add(resolve("q@http://127.0.0.1:3/v1", None, env, "OTHER_KEY"))
    routes.add(resolve("dashscope/m", None, {"DASHSCOPE_API_KEY": "k"}))
    with pytest.raises(InputError, match="DASHSCOPE_API_KEY"):
        routes.add(resolve("dashscope_cn/m", None, {"DASHSCOPE_API_KEY": "k"}))


def test_without_a_key_there_may_be_many_hosts() -> None:
    routes = Routes()
    for port in range(1, 4):
        routes.add(resolve(f"m@http://127.0.0.1:{port}/v1", None, {}))
    assert routes.notes == ()


def test_a_variable_that_is_named_must_be_set() -> None:
    with pytest.raises(InputError, match="OTHER_KEY"):
        resolve("m@http://127.0.0.1:1/v1", None, {"SAFEMT_API_KEY": "k"}, "OTHER_KEY")


def test_an_alias_stands_for_one_model() -> None:
    routes = Routes()
    routes.add(resolve("a=m@http://127.0.0.1:1/v1", None, {}))
    routes.add(resolve("a=m@http://127.0.0.1:1/v1", None, {}))
    with pytest.raises(InputError, match="two models"):
        routes.add(resolve("a=m@http://127.0.0.1:2/v1", None, {}))
