"""From the name that a user types to the endpoint that is asked. Never imports litellm."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import httpx

from safemt_client.providers.batch.base import BatchEndpoint
from safemt_client.providers.batch.openai import OpenAIBatches
from safemt_client.providers.errors import InputError
from safemt_client.providers.keys import Key, find_key
from safemt_client.providers.limits import Limits
from safemt_client.providers.openai_compatible import OpenAICompatible
from safemt_client.providers.options import NO_OPTIONS, EndpointOptions
from safemt_client.providers.plugins import adopt, find, say_hidden
from safemt_client.providers.provider import Provider
from safemt_client.providers.timeouts import Timeouts
from safemt_client.providers.vendors import DEMO, DEMO_NAMES, OWN, PLUGIN, VENDORS, Kind, Vendor, vendor_of

__all__ = ["ProviderSpec", "build", "build_batches", "built_in", "own_spec", "resolve"]


@dataclass(frozen=True)
class ProviderSpec:
    """An endpoint that a name stands for. `account` groups what shares one rate limit."""

    name: str
    identity: str
    model: str
    account: str
    vendor: Vendor
    base_url: str | None = None
    api_key: Key | None = field(default=None, repr=False)
    secrets: tuple[Key, ...] = field(default=(), repr=False)
    """Keys of a vendor's own SDK beside `api_key`, which must not stand in what is kept either."""
    own_model: object | None = field(default=None, repr=False, compare=False)
    """A user's own model or a plug-in's, of kind `plugin`: what `plugins.adopt` takes."""
    options: EndpointOptions = NO_OPTIONS
    """What the user says about its requests."""

    @property
    def kind(self) -> Kind:
        """How it is asked."""
        return self.vendor.kind

    @property
    def own(self) -> bool:
        """Whether it is an endpoint of the user's own, whose prices nobody lists."""
        return self.vendor is OWN

    @property
    def free(self) -> bool:
        """Whether asking it costs nothing: the demo."""
        return self.vendor is DEMO


def build_batches(
    spec: ProviderSpec, provider: Provider, *, transport: httpx.AsyncBaseTransport, max_wait_s: float
) -> BatchEndpoint | None:
    """The batch endpoint beside a provider, None where the vendor has none that is known here."""
    vendor = spec.vendor
    if spec.base_url is None:
        return None
    if isinstance(provider, OpenAICompatible) and vendor.batches == "openai":
        return OpenAIBatches(
            provider,
            keeps_marks=vendor.keeps_marks,
            base_url=spec.base_url,
            api_key=spec.api_key,
            transport=transport,
            max_wait_s=max_wait_s,
        )
    if vendor.batches == "anthropic" and spec.api_key is not None:
        from safemt_client.providers.batch.anthropic import AnthropicBatches
        from safemt_client.providers.litellm_client import LiteLLM

        assert isinstance(provider, LiteLLM)
        return AnthropicBatches(
            provider,
            model=spec.model,
            base_url=spec.base_url,
            api_key=spec.api_key,
            transport=transport,
            max_wait_s=max_wait_s,
        )
    return None


def resolve(name: str, base_url: str | None, env: Mapping[str, str]) -> ProviderSpec:
    """What `name` stands for; `base_url` sends it to another OpenAI-compatible endpoint.

    The key of the user's own endpoint is `SAFEMT_API_KEY`: a vendor's key never goes elsewhere.

    Raises:
        InputError: the name is not known, the URL is wrong, or the key is missing.
    """
    plugged, _, rest = name.partition("/")
    if built_in(name, base_url):
        say_hidden("providers", plugged)
    if name in DEMO_NAMES:
        return ProviderSpec(name, f"demo/{name}", name, "demo", DEMO)
    # At the first mark before a scheme: a password in the URL may hold another.
    found = re.fullmatch(r"(.*?)@([a-zA-Z]+://.*)", name)
    model, at, url = (found[1], "@", found[2]) if found else ("", "", name)
    if not at and base_url is not None:
        model, url = name, base_url
    if url and (at or base_url is not None):
        return _own(name, model, url, env)
    vendor, model = vendor_of(name)
    if vendor is not None:
        return _of_vendor(name, vendor, model, env)
    if not built_in(name) and (plugin := find("providers", plugged)) is not None:
        model_of_plugin = plugin.make(rest)
        with plugin.blamed():
            return own_spec(name, model_of_plugin)
    known = ", ".join(sorted(vendor.name for vendor in VENDORS))
    raise InputError(
        f"--provider {name!r}: not known: write VENDOR/MODEL (vendors: {known}) or MODEL@http://HOST:PORT/v1"
    )


def own_spec(name: str, model: object) -> ProviderSpec:
    """What a user's own model stands for; the account that is asked is the model itself.

    Raises:
        InputError: it has no identity, or cannot be asked.
    """
    identity = adopt(model).identity
    return ProviderSpec(name, identity, identity, identity, PLUGIN, own_model=model)


def built_in(name: str, base_url: str | None = None) -> bool:
    """Whether a name is that of an endpoint or of a vendor that is known here, and so no plug-in's."""
    names = {*DEMO_NAMES, *(vendor.name for vendor in VENDORS)}
    if base_url is not None or "@" in name or name in names:
        return True
    return vendor_of(name)[0] is not None or name.partition("/")[0] == DEMO.name


def _of_vendor(name: str, vendor: Vendor, model: str, env: Mapping[str, str]) -> ProviderSpec:
    key = None if vendor.key is None else _key(name, vendor.key, env)
    moved = next((env[variable] for variable in vendor.address_variables if env.get(variable)), None)
    return ProviderSpec(
        name,
        f"{vendor.name}/{model}",
        model,
        f"{vendor.name}/{model}" if vendor.account_by_model else vendor.name,
        vendor,
        # As litellm reads it: with the path of its messages or without.
        vendor.base_url if moved is None else moved.rstrip("/").removesuffix("/v1/messages"),
        key,
        tuple(Key(env[variable]) for variable in vendor.further_keys if env.get(variable)),
    )


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
    return ProviderSpec(name, f"local/{model}", model, parts.netloc, OWN, url, key)


def _key(name: str, variable: str, env: Mapping[str, str]) -> Key:
    key = find_key(variable, env)
    if key is None:
        raise InputError(f"{name}: no key: set the environment variable {variable}")
    return key


def build(
    spec: ProviderSpec, *, transport: httpx.AsyncBaseTransport, limits: Limits, timeouts: Timeouts
) -> Provider:
    """A provider for a resolved name, with the limiter of its account."""
    limiter = limits.for_account(spec.account)
    if spec.kind == "plugin":
        return adopt(spec.own_model, limiter=limiter, timeouts=timeouts)
    if spec.kind == "litellm":
        from safemt_client.providers.litellm_client import LiteLLM

        return LiteLLM(
            identity=spec.identity,
            limiter=limiter,
            timeouts=timeouts,
            api_key=spec.api_key,
            secrets=spec.secrets,
            options=spec.options,
        )
    assert spec.base_url is not None
    return OpenAICompatible(
        identity=spec.identity,
        model=spec.model,
        base_url=spec.base_url,
        api_key=spec.api_key,
        transport=transport,
        limiter=limiter,
        timeouts=timeouts,
        vendor=spec.vendor,
        options=spec.options,
    )
