"""From the name that a user types to the endpoint that is asked. Never imports litellm."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import urlsplit

import httpx

from safemt_client.providers.batch.base import BatchEndpoint
from safemt_client.providers.batch.openai import OpenAIBatches
from safemt_client.providers.errors import InputError
from safemt_client.providers.keys import Key, find_key
from safemt_client.providers.limits import Limits
from safemt_client.providers.openai_compatible import OpenAICompatible
from safemt_client.providers.plugins import adopt, find, say_hidden
from safemt_client.providers.provider import Provider
from safemt_client.providers.tokens import Charging

__all__ = ["ProviderSpec", "build", "build_batches", "built_in", "own_spec", "resolve"]

# Vendors that speak OpenAI's protocol: base URL and the environment variable of the key.
_COMPATIBLE = {
    "openai": ("https://api.openai.com/v1", "OPENAI_API_KEY"),
    "openrouter": ("https://openrouter.ai/api/v1", "OPENROUTER_API_KEY"),
    "groq": ("https://api.groq.com/openai/v1", "GROQ_API_KEY"),
    "together_ai": ("https://api.together.xyz/v1", "TOGETHERAI_API_KEY"),
    "fireworks_ai": ("https://api.fireworks.ai/inference/v1", "FIREWORKS_AI_API_KEY"),
    "deepseek": ("https://api.deepseek.com/v1", "DEEPSEEK_API_KEY"),
    "mistral": ("https://api.mistral.ai/v1", "MISTRAL_API_KEY"),
    "xai": ("https://api.x.ai/v1", "XAI_API_KEY"),
}
# Vendors whose token limit counts `max_tokens`, whatever was used of it.
_RESERVED = {"openai"}
# Vendors that take batches in OpenAI's form; an endpoint of one's own may.
_BATCHES = {"openai", "groq", "local", "demo"}
# Vendors that limit each model by itself, so that a model is an account; by their guides to rate limits.
_BY_MODEL = {"openai", "anthropic", "gemini", "groq", "mistral", "xai"}
# Vendors that litellm translates for, and the variable whose absence can be told beforehand.
_TRANSLATED = {
    "anthropic": "ANTHROPIC_API_KEY",
    "gemini": "GEMINI_API_KEY",
    "bedrock": None,
    "vertex_ai": None,
    "azure": "AZURE_API_KEY",
    "cohere": "COHERE_API_KEY",
}
# What else the SDKs of these vendors read as a key.
_FURTHER_SECRETS = {
    "bedrock": (
        "AWS_SECRET_ACCESS_KEY",
        "AWS_SESSION_TOKEN",
        "AWS_BEARER_TOKEN_BEDROCK",
        "AWS_ACCESS_KEY_ID",
    ),
    "azure": ("AZURE_AD_TOKEN", "AZURE_CLIENT_SECRET", "AZURE_PASSWORD"),
}
_BARE = (
    ("gpt-", "openai"),
    ("chatgpt-", "openai"),
    ("o1", "openai"),
    ("o3", "openai"),
    ("o4", "openai"),
    ("claude-", "anthropic"),
    ("gemini-", "gemini"),
    ("deepseek-", "deepseek"),
    ("mistral-", "mistral"),
    ("pixtral-", "mistral"),
    ("grok-", "xai"),
)


@dataclass(frozen=True)
class ProviderSpec:
    """An endpoint that a name stands for. `account` groups what shares one rate limit."""

    name: str
    identity: str
    model: str
    kind: Literal["openai", "litellm", "demo", "plugin"]
    account: str
    base_url: str | None = None
    api_key: Key | None = field(default=None, repr=False)
    charging: Charging = "used"
    secrets: tuple[Key, ...] = field(default=(), repr=False)
    """Keys of a vendor's own SDK beside `api_key`, which must not stand in what is kept either."""
    own_model: object | None = field(default=None, repr=False, compare=False)
    """A user's own model or a plug-in's, of kind `plugin`: what `plugins.adopt` takes."""


def build_batches(
    spec: ProviderSpec, provider: Provider, *, transport: httpx.AsyncBaseTransport, max_wait_s: float
) -> BatchEndpoint | None:
    """The batch endpoint beside a provider, None where the vendor has none that is known here."""
    vendor = spec.identity.partition("/")[0]
    if spec.base_url is None:
        return None
    common: dict[str, Any] = {"base_url": spec.base_url, "transport": transport, "max_wait_s": max_wait_s}
    if isinstance(provider, OpenAICompatible) and vendor in _BATCHES:
        headers = {"Authorization": f"Bearer {spec.api_key}"} if spec.api_key else {}
        # An endpoint of one's own may or may not keep metadata.
        keeps_marks = vendor in _COMPATIBLE
        return OpenAIBatches(
            provider, keeps_marks=keeps_marks, headers=headers, secret=spec.api_key, **common
        )
    if vendor == "anthropic" and spec.api_key is not None:
        from safemt_client.providers.batch.anthropic import AnthropicBatches
        from safemt_client.providers.litellm_client import LiteLLM

        assert isinstance(provider, LiteLLM)
        return AnthropicBatches(provider, model=spec.model, api_key=spec.api_key, **common)
    return None


def resolve(name: str, base_url: str | None, env: Mapping[str, str]) -> ProviderSpec:
    """What `name` stands for; `base_url` sends it to another OpenAI-compatible endpoint.

    The key of an endpoint of one's own is `SAFEMT_API_KEY`: a vendor's key never goes elsewhere.

    Raises:
        InputError: the name is not known, the URL is wrong, or the key is missing.
    """
    plugged, _, rest = name.partition("/")
    if built_in(name, base_url):
        say_hidden("providers", plugged)
    if name == "demo":
        return ProviderSpec(name, "demo/demo", "demo", "demo", "demo")
    # At the first mark before a scheme: a password in the URL may hold another.
    found = re.fullmatch(r"(.*?)@([a-zA-Z]+://.*)", name)
    model, at, url = (found[1], "@", found[2]) if found else ("", "", name)
    if not at and base_url is not None:
        model, url = name, base_url
    if url and (at or base_url is not None):
        return _own(name, model, url, env)
    vendor, model = _vendor(name)
    account = f"{vendor}/{model}" if vendor in _BY_MODEL else vendor
    if vendor in _COMPATIBLE:
        address, variable = _COMPATIBLE[vendor]
        key = _key(name, variable, env)
        charging: Charging = "reserved" if vendor in _RESERVED else "used"
        return ProviderSpec(name, f"{vendor}/{model}", model, "openai", account, address, key, charging)
    if vendor in _TRANSLATED:
        required = _TRANSLATED[vendor]
        secret = None if required is None else _key(name, required, env)
        where = _anthropic(env) if vendor == "anthropic" else None
        further = tuple(Key(env[name]) for name in _FURTHER_SECRETS.get(vendor, ()) if env.get(name))
        identity = f"{vendor}/{model}"
        return ProviderSpec(name, identity, model, "litellm", account, where, secret, secrets=further)
    if not built_in(name) and (plugin := find("providers", plugged)) is not None:
        model_of_plugin = plugin.make(rest)
        with plugin.blamed():
            return own_spec(name, model_of_plugin)
    known = ", ".join(sorted([*_COMPATIBLE, *_TRANSLATED]))
    raise InputError(
        f"--provider {name!r}: not known: write VENDOR/MODEL (vendors: {known}) or MODEL@http://HOST:PORT/v1"
    )


def own_spec(name: str, model: object) -> ProviderSpec:
    """What a user's own model stands for; the account that is asked is the model itself.

    Raises:
        InputError: it has no identity, or cannot be asked.
    """
    identity = adopt(model).identity
    return ProviderSpec(name, identity, identity, "plugin", identity, own_model=model)


def built_in(name: str, base_url: str | None = None) -> bool:
    """Whether a name is that of an endpoint or of a vendor that is known here, and so no plug-in's."""
    vendors = {"demo", *_COMPATIBLE, *_TRANSLATED}
    return base_url is not None or "@" in name or name in vendors or _vendor(name)[0] in vendors


def _vendor(name: str) -> tuple[str, str]:
    """Vendor and model; the vendor is empty where a name without one is not known."""
    vendor, slash, model = name.partition("/")
    if slash:
        return vendor, model
    return next((v for prefix, v in _BARE if name.startswith(prefix)), ""), name


def _anthropic(env: Mapping[str, str]) -> str:
    """Where litellm sends what is for Anthropic: batches go nowhere else."""
    base = env.get("ANTHROPIC_API_BASE") or env.get("ANTHROPIC_BASE_URL") or "https://api.anthropic.com"
    return base.rstrip("/").removesuffix("/v1/messages")


def _own(name: str, model: str, url: str, env: Mapping[str, str]) -> ProviderSpec:
    if "@" in url:
        raise InputError("--provider: leave the password out of the URL: set SAFEMT_API_KEY instead")
    try:
        parts = urlsplit(url)
        valid = parts.scheme in ("http", "https") and parts.hostname and (parts.port or True)
    except ValueError:
        valid = False
    if not valid or not model:
        raise InputError(f"--provider {name!r}: write MODEL@http://HOST:PORT/v1")
    key = find_key("SAFEMT_API_KEY", env)
    return ProviderSpec(name, f"local/{model}", model, "openai", parts.netloc, url, key)


def _key(name: str, variable: str, env: Mapping[str, str]) -> Key:
    key = find_key(variable, env)
    if key is None:
        raise InputError(f"{name}: no key: set the environment variable {variable}")
    return key


def build(
    spec: ProviderSpec,
    *,
    transport: httpx.AsyncBaseTransport,
    limits: Limits,
    max_wait_s: float,
    attempt_timeout_s: float,
    turn_timeout_s: float,
) -> Provider:
    """A provider for a resolved name, with the limiter of its account."""
    limiter = limits.for_account(spec.account)
    if spec.kind == "plugin":
        return adopt(
            spec.own_model,
            limiter=limiter,
            max_wait_s=max_wait_s,
            attempt_timeout_s=attempt_timeout_s,
            turn_timeout_s=turn_timeout_s,
        )
    if spec.kind == "litellm":
        from safemt_client.providers.litellm_client import LiteLLM

        return LiteLLM(
            api_key=spec.api_key,
            secrets=spec.secrets,
            identity=spec.identity,
            limiter=limiter,
            max_wait_s=max_wait_s,
            attempt_timeout_s=attempt_timeout_s,
            turn_timeout_s=turn_timeout_s,
        )
    assert spec.base_url is not None
    return OpenAICompatible(
        charging=spec.charging,
        identity=spec.identity,
        model=spec.model,
        base_url=spec.base_url,
        api_key=spec.api_key,
        transport=transport,
        limiter=limiter,
        max_wait_s=max_wait_s,
        attempt_timeout_s=attempt_timeout_s,
        turn_timeout_s=turn_timeout_s,
    )
