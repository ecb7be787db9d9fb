"""What is said of the requests to one model, by its table in the settings file and by the flags."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from safemt_client.providers.adjusted import Adjusted
from safemt_client.providers.errors import InputError
from safemt_client.providers.limits.limiter import AccountLimiter, Limits, StatedLimits
from safemt_client.providers.limits.permits import Limiter, Terms
from safemt_client.providers.options import EndpointOptions, environment_of, is_reference, references
from safemt_client.providers.provider import Provider
from safemt_client.providers.registry import ProviderSpec, split_alias
from safemt_client.providers.responses.thinking import Reading
from safemt_client.serving.names import Serving
from safemt_client.settings import RunSettings
from safemt_client.tables import ProviderSettings, headers_of

__all__ = [
    "Role",
    "adjusted",
    "check_only_headers",
    "limits_of",
    "options_of",
    "said_of",
    "serving_of",
    "without_environment",
]

Role = Literal["target", "judge", "guard"]
"""What a model is asked as. The flags about requests are those of the targets."""


def limits_of(
    settings: RunSettings, in_all: int | None = None, make: Callable[[Terms], Limiter] = AccountLimiter.of
) -> Limits:
    """What is said of the accounts. See `Limits`, which `make` and `in_all` are for."""
    accounts = {
        name: StatedLimits(account.rpm, account.tpm, account.max_concurrency)
        for name, account in settings.accounts.items()
    }
    every = StatedLimits(settings.rpm, settings.tpm, settings.max_concurrency)
    return Limits(every, accounts, in_all=in_all, make=make)


def said_of(settings: RunSettings, name: str, role: Role) -> ProviderSettings:
    """What is said of a model in this role: by its table, and where that says nothing by the flags."""
    table = settings.providers.get(name) or settings.providers.get(split_alias(name)[0] or "")
    table = table or ProviderSettings()
    if role == "guard":
        return table
    if role == "judge":
        return table.over(
            ProviderSettings(base_url=settings.judge_base_url, temperature=settings.judge_temperature)
        )
    # Checked already; a system prompt is not to be taken for the name of a file once more.
    flags = ProviderSettings.model_construct(
        base_url=settings.base_url,
        headers=headers_of(settings.header),
        extra_body=settings.extra_body or {},
        temperature=settings.temperature,
        max_tokens=settings.max_tokens,
        top_p=settings.top_p,
        seed=settings.seed,
        stop=settings.stop,
        system_prompt=settings.system_prompt,
        reasoning=settings.reasoning,
        reasoning_end=settings.reasoning_end,
    )
    return table.over(flags)


def serving_of(settings: RunSettings, said: ProviderSettings) -> Serving:
    """How a model is served: by its table, and where that says nothing by the flags; options are merged."""
    given = [*(settings.serve_option or ()), *(said.serve_option or ())]
    options = {}
    for text in given:
        name, mark, value = text.partition("=")
        if not name or not mark or not value:
            raise InputError(f"--serve-option {text!r}: write NAME=VALUE, such as context=8192")
        options[name.lstrip("-").replace("_", "-")] = value
    python = said.serve_python or settings.serve_python
    gpus = settings.gpus if said.gpus is None else said.gpus
    return Serving(
        None if python is None else str(python),
        options,
        None if gpus is None else tuple(map(str, gpus)),
        elsewhere=settings.ray is not None and not settings.batch,
    )


_OF_HTTP = ("api_key_env", "headers", "query", "max_tokens_field", "image_format", "session_header")
_NOT_TAKEN = {
    "plugin": ("it is not asked over HTTP", (*_OF_HTTP, "reasoning_end")),
    "litellm": ("litellm has no such setting", ("query", "max_tokens_field", "image_format")),
}
"""What of it cannot be obeyed, by the way in which a model is asked."""


def options_of(spec: ProviderSpec, said: ProviderSettings, env: Mapping[str, str]) -> EndpointOptions:
    """How requests to this model are put.

    Raises:
        InputError: something cannot be obeyed there, or a variable is not set.
    """
    why, fields = _NOT_TAKEN.get(spec.kind, ("", ()))
    _refuse(spec.name, said, fields, why)
    if spec.kind == "litellm" and said.extra_body:
        from safemt_client.providers.behind_litellm.client import check_extra

        check_extra(spec.name, said.extra_body)
    if said.reasoning == "off" and said.reasoning_end:
        raise InputError(
            f"{spec.name}: reasoning-end: with reasoning off nothing is looked for: leave it out"
        )
    named = [said.headers, said.query, said.extra_body]
    return EndpointOptions(
        headers=said.headers,
        query=said.query,
        environment=environment_of(spec.name, named, env),
        max_tokens_field=said.max_tokens_field,
        image_format=said.image_format or "object",
        session_header=said.session_header,
        reading=Reading(said.reasoning or "auto", said.reasoning_end),
    )


def without_environment(name: str, said: ProviderSettings) -> ProviderSettings:
    """What of it is said to a model that another machine of the run serves: no value of the environment.

    Requests go there through Ray. Such headers and parameters are meant for an endpoint that asks for a key.

    Raises:
        InputError: the body would have such a value.
    """
    if (variable := next(references(said.extra_body), None)) is not None:
        raise InputError(
            f"{name}: extra-body: with --ray the value of ${variable} would go through Ray: leave it out for "
            f"this model, or write $${variable} for that text itself"
        )
    kept = {
        field: {one: text for one, text in getattr(said, field).items() if not is_reference(text)}
        for field in ("headers", "query")
    }
    return said.model_copy(update=kept)


_FOR_MODERATION = {"model", "base_url", "api_key_env", "headers", "query", "extra_body", "session_header"}


def check_only_headers(name: str, said: ProviderSettings) -> None:
    """Refuse what a moderation endpoint knows nothing of.

    Raises:
        InputError: there is such a thing.
    """
    fields = [field for field in ProviderSettings.model_fields if field not in _FOR_MODERATION]
    _refuse(name, said, fields, "a moderation endpoint has no such parameter")


def _refuse(name: str, said: ProviderSettings, fields: Sequence[str], why: str) -> None:
    for field in fields:
        if getattr(said, field) not in (None, {}):
            raise InputError(f"{name}: {field.replace('_', '-')}: {why}: leave it out for this model")


def adjusted(provider: Provider, said: ProviderSettings) -> Provider:
    """A guard's provider with what the user says of its requests; as it is where that is nothing."""
    # Of all that is not given the guard's own parameters stay.
    given = said.sampling()
    named: dict[str, Any] = {
        "temperature": said.temperature,
        "max_tokens": said.max_tokens,
        "top_p": said.top_p,
    }
    named |= {"seed": said.seed, "stop": said.stop, "extra": said.extra_body or None}
    parameters = {name: getattr(given, name) for name, value in named.items() if value is not None}
    return Adjusted(provider, parameters, said.system) if parameters or said.system else provider
