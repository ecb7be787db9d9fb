"""From the name that a user types to the endpoint that is asked. Never imports litellm."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from safemt_client.providers.addresses import base_url_of, host_of, shown
from safemt_client.providers.errors import InputError, MissingKeyError
from safemt_client.providers.keys import Key, find_key, is_loopback
from safemt_client.providers.limits.limiter import Limits
from safemt_client.providers.negotiation import Negotiations
from safemt_client.providers.options import NO_OPTIONS, EndpointOptions
from safemt_client.providers.plugins import adopt, find, say_hidden
from safemt_client.providers.provider import Provider
from safemt_client.providers.timeouts import Timeouts
from safemt_client.providers.vendor import AddressVariable, Kind, Vendor
from safemt_client.providers.vendors import (
    DEMO,
    DEMO_NAMES,
    OWN,
    PLUGIN,
    VENDORS,
    near_models,
    near_names,
    vendor_of,
)

if TYPE_CHECKING:
    import httpx

    from safemt_client.providers.batch.base import BatchEndpoint

__all__ = ["ProviderSpec", "build", "build_batches", "built_in", "own_spec", "resolve", "split_alias"]

_FORM = "MODEL@http://HOST:PORT/v1"


@dataclass(frozen=True)
class ProviderSpec:
    """An endpoint that a name stands for. `account` groups what shares one rate limit."""

    name: str
    """As it is shown: the alias, if the user gave one."""
    identity: str
    model: str
    account: str
    vendor: Vendor
    base_url: str | None = None
    """Where it is asked, perhaps with a query string; None where only the vendor's SDK knows."""
    aliased: bool = False
    """Whether `name` is the user's own, which is then in the identity too."""
    moved_by: str | None = None
    """The environment variable that moved it there."""
    api_key: Key | None = field(default=None, repr=False)
    key_variable: str | None = None
    """The environment variable that `api_key` is of."""
    secrets: tuple[Key, ...] = field(default=(), repr=False)
    """Keys of a vendor's own SDK beside `api_key`, which must not stand in what is kept either."""
    parameters: Mapping[str, str] = field(default_factory=dict, compare=False)
    """What litellm is told beside the request: where the vendor is, in which version."""
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
        return self.vendor is OWN or self.vendor.local

    @property
    def free(self) -> bool:
        """Whether asking it costs nothing: the demo, and a vendor's program on this machine."""
        here = is_loopback(urlsplit(self.base_url or "").hostname or "")
        return self.vendor is DEMO or self.vendor.managed or (self.vendor.local and here)

    @property
    def listed(self) -> str:
        """Vendor and model as lists of prices have them, whatever alias the user gave."""
        return f"{self.vendor.name}/{self.model}"


def build_batches(
    spec: ProviderSpec, provider: Provider, *, transport: httpx.AsyncBaseTransport, max_wait_s: float
) -> BatchEndpoint | None:
    """The batch endpoint beside a provider, None where the vendor has none that is known here."""
    from safemt_client.providers.batch.openai import OpenAIBatches
    from safemt_client.providers.openai_compatible import OpenAICompatible

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
        from safemt_client.providers.behind_litellm.client import LiteLLM

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


_ALIAS = re.compile(r"(?P<alias>[A-Za-z0-9][\w.-]*)=(?P<name>.+)", re.DOTALL)


def split_alias(name: str) -> tuple[str | None, str]:
    """The alias that the user gave a model, if any, and the model's name: `ALIAS=NAME`."""
    found = _ALIAS.fullmatch(name)
    return (found["alias"], found["name"]) if found else (None, name)


def resolve(
    name: str, base_url: str | None, env: Mapping[str, str], key_variable: str | None = None
) -> ProviderSpec:
    """What `name` stands for; `base_url` sends it to another OpenAI-compatible endpoint.

    A key goes to the vendor whose it is, and the user's own endpoints have `SAFEMT_API_KEY`; `key_variable`
    names another variable, or `none`. An alias (`ALIAS=NAME`) is the shown name and part of the identity:
    so replies of two servers with models of one name are kept apart.

    Raises:
        InputError: the name is not known, the URL is wrong, or the key is missing.
    """
    alias, asked = split_alias(name)
    spec = _resolve(asked, base_url, env, key_variable)
    if alias is None:
        return spec
    if alias in (*DEMO_NAMES, "none"):
        raise InputError(f"--provider {alias}=...: this name has a meaning of its own: choose another")
    return replace(spec, name=alias, identity=f"{spec.identity}#{alias}", aliased=True)


def _resolve(
    name: str, base_url: str | None, env: Mapping[str, str], key_variable: str | None
) -> ProviderSpec:
    plugged, _, rest = name.partition("/")
    if built_in(name, base_url):
        say_hidden("providers", plugged)
    if name in DEMO_NAMES:
        return ProviderSpec(name, f"demo/{name}", name, "demo", DEMO)
    # At the first mark before a scheme: a password in the URL may hold another.
    found = re.fullmatch(r"(.*?)@([a-zA-Z]+://.*)", name, re.DOTALL)
    if found or base_url is not None:
        model, url = (found[1], found[2]) if found else (name, base_url or "")
        return _own(name, model, url, env, key_variable)
    vendor, model = vendor_of(name)
    if vendor is not None:
        return _of_vendor(name, vendor, model, env, key_variable)
    if not built_in(name) and (plugin := find("providers", plugged)) is not None:
        model_of_plugin = plugin.make(rest)
        with plugin.blamed():
            return own_spec(name, model_of_plugin)
    raise InputError(f"--provider {shown(name)!r}: not known: {_advice(name)}")


def _advice(name: str) -> str:
    """What may have been meant by a name that is not known."""
    model, at, place = name.rpartition("@")
    if at and model:
        return f"begin the address with http:// or https://, such as {model}@http://{shown(place)}"
    if "://" in name:
        return f"write the model before the address, such as MODEL@{shown(name.lstrip('@'))}"
    vendor, slash, model = name.partition("/")
    near = [f"{one}/{model or 'MODEL'}" for one in near_names(vendor)]
    if meant := " or ".join(near or ([] if slash else near_models(name))):
        return f"did you mean {meant}? For any other endpoint write {_FORM}"
    known = ", ".join(sorted(vendor.name for vendor in VENDORS))
    return f"write VENDOR/MODEL (vendors: {known}) or {_FORM}"


def own_spec(name: str, model: object) -> ProviderSpec:
    """What a user's own model stands for; the account that is asked is the model itself.

    Raises:
        InputError: it has no identity, or cannot be asked.
    """
    identity = adopt(model).identity
    return ProviderSpec(name, identity, identity, identity, PLUGIN, own_model=model)


def built_in(name: str, base_url: str | None = None) -> bool:
    """Whether a name is that of an endpoint or of a vendor that is known here, and so no plug-in's."""
    name = split_alias(name)[1]
    names = {*DEMO_NAMES, *(vendor.name for vendor in VENDORS)}
    if base_url is not None or "@" in name or name in names:
        return True
    return vendor_of(name)[0] is not None or name.partition("/")[0] == DEMO.name


def _of_vendor(
    name: str, vendor: Vendor, model: str, env: Mapping[str, str], key_variable: str | None
) -> ProviderSpec:
    moved_by, base_url = _moved(vendor, env)
    if vendor.base_url is None and vendor.addresses and moved_by is None:
        raise InputError(
            f"{name}: no address: set {vendor.addresses[0].name} to that of your resource, such as "
            f"https://NAME.openai.azure.com"
        )
    if moved_by and (base_url or "").endswith("/openai/v1") and vendor.kind == "litellm":
        # Azure's newer route speaks OpenAI's protocol as it is.
        vendor = replace(vendor, kind="openai")
    variable, key = _key(name, vendor, env, key_variable)
    parameters = {
        parameter: env[stated]
        for parameter, variables in vendor.parameters
        if (stated := next((one for one in variables if env.get(one)), None)) is not None
    }
    if moved_by is not None and base_url is not None:
        parameters["api_base"] = base_url
    return ProviderSpec(
        name=name,
        identity=f"{vendor.name}/{model}",
        model=model,
        account=f"{vendor.name}/{model}" if vendor.account_by_model else vendor.name,
        vendor=vendor,
        base_url=base_url,
        moved_by=moved_by,
        api_key=key,
        key_variable=variable,
        secrets=tuple(Key(env[variable]) for variable in vendor.further_keys if env.get(variable)),
        parameters=parameters,
    )


def _moved(vendor: Vendor, env: Mapping[str, str]) -> tuple[str | None, str | None]:
    """The variable that moves the vendor's address, if one is set, and the address that counts."""
    for variable in vendor.addresses:
        if not (given := env.get(variable.name, "").strip()):
            continue
        if variable.port is not None:
            # What holds a password is refused below as it is.
            given = given if "@" in given else _with_port(given, variable)
        key = next(iter(vendor.keys), "the key")
        url = base_url_of(given, variable.name, "http://HOST:PORT or https://HOST", key)
        # As litellm reads Anthropic's: with the path of its messages or without.
        url = url.removesuffix("/v1/messages")
        place, mark, query = url.partition("?")
        if variable.path and not place.endswith(variable.path):
            url = place + variable.path + mark + query
        return variable.name, url
    return None, vendor.base_url


def _with_port(given: str, variable: AddressVariable) -> str:
    """A whole address of what may be a mere host, or where a server listens, as in `OLLAMA_HOST`."""
    explicit = "://" in given
    try:
        parts = urlsplit(given if explicit else f"http://{given}")
        port = parts.port
    except ValueError:
        raise InputError(f"{variable.name}: write HOST:PORT or http://HOST:PORT") from None
    host = parts.hostname or "127.0.0.1"
    host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)
    if port is not None or not explicit:
        host = f"{host}:{port or variable.port}"
    return f"{parts.scheme}://{host}{parts.path}"


def _own(name: str, model: str, url: str, env: Mapping[str, str], key_variable: str | None) -> ProviderSpec:
    known = shown(name.partition("@")[0] if "@" in name else name)
    if not model:
        raise InputError(f"--provider {shown(name)!r}: write {_FORM}")
    base_url = base_url_of(url, f"--provider {known!r}", _FORM, OWN.keys[0])
    variable, key = _key(name, OWN, env, key_variable)
    account = urlsplit(base_url).netloc
    return ProviderSpec(
        name, f"local/{model}", model, account, OWN, base_url, api_key=key, key_variable=variable
    )


def _key(
    name: str, vendor: Vendor, env: Mapping[str, str], key_variable: str | None
) -> tuple[str | None, Key | None]:
    """The variable of the key, and the key."""
    if key_variable == "none":
        return None, None
    variables = vendor.keys if key_variable is None else (key_variable,)
    for variable in variables:
        if (key := find_key(variable, env)) is not None:
            return variable, key
    needed = vendor.key_needed or key_variable is not None
    if variables and needed and not any(env.get(variable) for variable in vendor.further_keys):
        raise MissingKeyError(name, variables[0])
    return None, None


def build(
    spec: ProviderSpec,
    *,
    transport: httpx.AsyncBaseTransport,
    limits: Limits,
    timeouts: Timeouts,
    negotiations: Negotiations | None = None,
) -> Provider:
    """A provider for a resolved name, with the limiter of its account and what is known of its endpoint."""
    limiter, known = limits.for_account(spec.account), negotiations or Negotiations()
    if spec.kind == "plugin":
        return adopt(spec.own_model, limiter=limiter, timeouts=timeouts, identity=spec.identity)
    if spec.kind == "litellm":
        from safemt_client.providers.behind_litellm.client import LiteLLM

        client = LiteLLM(
            identity=spec.identity,
            model=spec.listed,
            limiter=limiter,
            timeouts=timeouts,
            api_key=spec.api_key,
            secrets=spec.secrets,
            parameters=spec.parameters,
            options=spec.options,
        )
        client.host = host_of(spec.base_url)
        client.negotiation = known.of(spec.identity, client.host)
        return client
    from safemt_client.providers.openai_compatible import OpenAICompatible

    assert spec.base_url is not None
    endpoint = OpenAICompatible(
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
    endpoint.negotiation = known.of(spec.identity, endpoint.host)
    return endpoint
