"""The tables of the settings file: limits of an account, and what is said about the requests to one model."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from safemt_client.providers.addresses import looks_random
from safemt_client.providers.chat_format import ImageFormat
from safemt_client.providers.errors import InputError
from safemt_client.providers.options import is_reference
from safemt_client.providers.responses.thinking import Reasoning
from safemt_client.providers.types import Sampling

__all__ = [
    "AccountSettings",
    "Calls",
    "MaxTokens",
    "PerMinute",
    "Probability",
    "ProviderSettings",
    "Temperature",
    "body_of",
    "check_headers",
    "headers_of",
    "price_in",
    "stops_of",
    "system_prompt_of",
]

PerMinute = Annotated[float, Field(gt=0)]
Calls = Annotated[int, Field(ge=1, le=10_000)]
Temperature = Annotated[float, Field(ge=0, le=2)] | Literal["none"]
MaxTokens = Annotated[int, Field(ge=1)] | Literal["none"]
Probability = Annotated[float, Field(gt=0, le=1)]

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_OURS = {
    *("host", "content-length", "content-type", "content-encoding", "transfer-encoding", "accept-encoding"),
    *("connection", "keep-alive", "te", "trailer", "upgrade", "expect", "proxy-authorization"),
}
"""Headers that belong to the connection and the body."""
_SECRET_WORDS = {
    *("key", "apikey", "token", "secret", "password", "cookie", "auth", "authorization", "credential"),
    *("credentials", "bearer", "jwt"),
}
_CREDENTIALS = re.compile(r"(bearer|basic|token|apikey) +\S|(sk|pk|gsk|xai|hf|ghp|glpat)[-_]", re.IGNORECASE)
"""How the values of headers begin that are credentials, whatever the header is called."""
_SECRET_FIELD = re.compile(
    r"api_?key|(access|auth|bearer|secret)_?(token|key)|authorization|password|secret$"
)
_NOT_IN_BODY = {
    "model": "the name of the model says it",
    "messages": "they are the dialogue's; --system-prompt adds one",
    "stream_options": "the program asks for the numbers of tokens itself",
    "temperature": "use temperature",
    "max_tokens": "use max-tokens",
    "max_completion_tokens": "use max-tokens, and max-tokens-field of [providers.NAME] for its name",
    "top_p": "use top-p",
    "seed": "use seed",
    "stop": "use stop",
}
"""Fields of a body that are set in another way."""


def _check_header(name: str, value: str, how: str) -> None:
    """Refuse a header that is not legal, or that is the program's own; `how` is the form to write.

    Raises:
        ValueError: it is refused; the message does not contain the value.
    """
    if not _TOKEN.fullmatch(name):
        raise ValueError(f"{name!r} is no name of a header: write {how}")
    if name.lower() in _OURS:
        raise ValueError(f"{name} is set by the program: leave it out")
    if name.lower() == "authorization":
        raise ValueError(
            "Authorization carries the key: set the variable of the key, or write a header of another name, "
            "such as api-key=$MY_KEY"
        )
    if not (value.isascii() and value.isprintable()):
        raise ValueError(f"{name}: the value holds characters that no header may have")
    if (_may_be_key(name) or _looks_like_key(value)) and not is_reference(value):
        raise ValueError(_no_key_in(name))


def _looks_like_key(value: str) -> bool:
    return _CREDENTIALS.match(value) is not None or looks_random(value)


def _may_be_key(name: str) -> bool:
    return bool(_SECRET_WORDS & set(re.split(r"[-_.]", name.lower())))


def _no_key_in(name: str) -> str:
    return (
        f"{name} may be a key, which belongs in no command and no file: set an environment variable and "
        "write its name as the value, $VARIABLE (in single quotes on a command line)"
    )


def headers_of(given: Sequence[str] | None) -> dict[str, str]:
    """The headers of `--header NAME=VALUE`, by name."""
    return {name: value for name, _, value in (text.partition("=") for text in given or ())}


def check_headers(given: list[str]) -> list[str]:
    """The values of `--header`.

    Raises:
        ValueError: one of them is refused; the message does not contain its value.
    """
    form = "NAME=VALUE, such as X-Route=blue"
    for text in given:
        name, mark, value = text.partition("=")
        if not mark:
            raise ValueError(f"write {form}")
        _check_header(name, value, form)
    return given


def body_of(given: object) -> dict[str, Any]:
    """The fields of an extra body, which may be given as JSON.

    Raises:
        ValueError: it is no JSON object, or holds what is set in another way, or a key.
    """
    if isinstance(given, str):
        try:
            given = json.loads(given, parse_constant=_no_constant)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"is not JSON ({error}): write an object, such as '{{\"top_k\": 20}}'") from None
    if not isinstance(given, Mapping):
        raise ValueError("is not a JSON object: write one, such as '{\"top_k\": 20}'")
    try:
        json.dumps(given, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"holds what JSON does not have: {error}") from None
    for name in given:
        if name in _NOT_IN_BODY:
            raise ValueError(f"{name} is no part of it: {_NOT_IN_BODY[name]}")
    _no_keys(given)
    return dict(given)


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _no_keys(content: object) -> None:
    """Refuse a key that stands in a body, since bodies are stored."""
    if isinstance(content, Mapping):
        for name, value in content.items():
            if isinstance(value, str) and _SECRET_FIELD.search(str(name).lower()) and not is_reference(value):
                raise ValueError(_no_key_in(str(name)))
            _no_keys(value)
    elif isinstance(content, list | tuple):
        for value in content:
            _no_keys(value)


_FILE_NAME = re.compile(r"\S+\.[A-Za-z][A-Za-z0-9]{0,7}|[^\s/]\S*/\S*|/[^\s/]+/\S*")
"""One word that looks like the name of a file: with an ending, or with folders."""


def system_prompt_of(given: str) -> str:
    """The text of an existing file, or else the text itself; `none` stays.

    Raises:
        ValueError: the file cannot be read, or the text looks like the name of a file that is missing.
    """
    if given == "none":
        return given
    text = _text_of(given)
    if text is None and _FILE_NAME.fullmatch(given):
        raise ValueError(f"there is no file {given!r}: name an existing one, or write the text itself")
    text = given if text is None else text
    if not text.strip():
        raise ValueError("is empty: leave it out, or write none")
    return _whole(text)


def _whole(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("is not a text in UTF-8: write it anew") from None
    return text


def _text_of(name: str) -> str | None:
    """The text of the file of this name without the line break at its end, None if there is no such file."""
    try:
        path = Path(name).expanduser()
        if not path.exists():
            return None
    except (OSError, RuntimeError):
        return None  # no name that a file could have
    try:
        return path.read_text(encoding="utf-8").rstrip("\r\n")
    except OSError as error:
        raise ValueError(f"{name!r}: {error.strerror}: name a file, or write the text itself") from None
    except UnicodeDecodeError:
        raise ValueError(f"{name!r} is not a text in UTF-8: name another file") from None


def stops_of(given: list[str]) -> list[str]:
    """The texts that end a reply.

    Raises:
        ValueError: one of them is empty.
    """
    if not all(given):
        raise ValueError("is empty: write the text that ends a reply")
    return [_whole(text) for text in given]


class AccountSettings(BaseModel):
    """Limits of one account: a table `[accounts.NAME]` of the settings file, which has no flag."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    rpm: PerMinute | None = None
    tpm: PerMinute | None = None
    max_concurrency: Calls | None = None


class ProviderSettings(BaseModel):
    """What is said of one model: a table `[providers.NAME]` of the settings file, which has no flag.

    What is not given is left to the flags, or else to the model's endpoint.

    Attributes:
        model: what it is, if NAME is the user's own name for it.
        base_url: its OpenAI-compatible endpoint.
        api_key_env: the environment variable of its key; `none` for no key.
        headers: headers of every request.
        query: parameters added to the address.
        extra_body: fields added to the body.
        max_tokens_field: the name under which the limit of a reply is sent, such as `max_completion_tokens`.
        system_prompt: text of a system message before all others.
        image_format: how the address of an image is given: in an object, or as it is.
        session_header: header that carries the id of a conversation.
        reasoning: how reasoning in the text of a reply is told from the answer.
        reasoning_end: text that ends the reasoning of a model whose marks are not known.
        serve_option: options of its server, if this program serves it.
        serve_python: the interpreter that runs that server.
        gpus: the cards that the server may use.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str | None = None
    base_url: str | None = None
    api_key_env: str | None = None
    headers: dict[str, str] = {}
    query: dict[str, str] = {}
    extra_body: dict[str, Any] = {}
    temperature: Temperature | None = None
    max_tokens: MaxTokens | None = None
    max_tokens_field: str | None = None
    top_p: Probability | None = None
    seed: int | None = None
    system_prompt: str | None = None
    stop: list[str] | None = None
    image_format: ImageFormat | None = None
    session_header: str | None = None
    reasoning: Reasoning | None = None
    reasoning_end: Annotated[str, Field(min_length=1)] | None = None
    serve_option: list[str] | None = None
    serve_python: Path | None = None
    gpus: list[int] | None = None

    @field_validator("api_key_env")
    @classmethod
    def _api_key_env(cls, value: str | None) -> str | None:
        # Nothing that may be a key itself: a missing variable is named in a message.
        if value is None or value == "none" or re.fullmatch(r"[A-Z_][A-Z0-9_]{0,63}", value):
            return value
        raise ValueError("names an environment variable in capitals, such as MY_KEY, and never holds the key")

    @field_validator("headers")
    @classmethod
    def _headers(cls, value: dict[str, str]) -> dict[str, str]:
        for name, text in value.items():
            _check_header(name, text, 'NAME = "VALUE"')
        return value

    @field_validator("query")
    @classmethod
    def _query(cls, value: dict[str, str]) -> dict[str, str]:
        for name, text in value.items():
            if (_may_be_key(name) or _looks_like_key(text)) and not is_reference(text):
                raise ValueError(_no_key_in(name))
        return value

    @field_validator("session_header")
    @classmethod
    def _session_header(cls, value: str | None) -> str | None:
        if value is not None:
            _check_header(value, "$ID", "one, such as X-Session-Id")
        return value

    @field_validator("extra_body", mode="before")
    @classmethod
    def _extra_body(cls, value: object) -> object:
        return body_of(value)

    @field_validator("system_prompt")
    @classmethod
    def _system_prompt(cls, value: str | None) -> str | None:
        return None if value is None else system_prompt_of(value)

    @field_validator("stop", mode="before")
    @classmethod
    def _one_stop(cls, value: object) -> object:
        return [value] if isinstance(value, str) else value

    @field_validator("stop")
    @classmethod
    def _stops(cls, value: list[str] | None) -> list[str] | None:
        return None if value is None else stops_of(value)

    @property
    def deciding(self) -> dict[str, Any]:
        """What of it decides the answers, where it is given, as JSON has it."""
        return {name: value for name, value in self.kept.items() if name in _DECIDING}

    @property
    def kept(self) -> dict[str, Any]:
        """What of it decides the answers or how they are read, where it is given, as JSON has it."""
        names = (*_DECIDING, "reasoning", "reasoning_end")
        named = {name: getattr(self, name) for name in names if name in self.model_fields_set}
        return {name: value for name, value in named.items() if value is not None}

    @property
    def system(self) -> str | None:
        """The text of the system message, None for none."""
        return None if self.system_prompt == "none" else self.system_prompt

    def over(self, others: ProviderSettings) -> ProviderSettings:
        """With what is said of other models too, where this says nothing; headers and fields are merged."""
        given: dict[str, Any] = {name: getattr(self, name) for name in self.model_fields_set}
        for name in ("headers", "query", "extra_body"):
            given[name] = getattr(others, name) | getattr(self, name)
        return others.model_copy(update={name: value for name, value in given.items() if value is not None})

    def sampling(self, longest: int | None = None) -> Sampling:
        """The parameters of a request; `longest` is the limit of a reply where none is given."""
        limit = longest if self.max_tokens is None else self.max_tokens
        return Sampling(
            temperature=None if self.temperature == "none" else self.temperature,
            max_tokens=None if limit == "none" else limit,
            top_p=self.top_p,
            seed=self.seed,
            extra=self.extra_body,
            stop=tuple(self.stop or ()),
        )


_DECIDING = ("model", "extra_body", "temperature", "max_tokens", "top_p", "seed", "system_prompt", "stop")


def price_in(text: str) -> tuple[str, dict[str, float]]:
    """The model that `NAME=INPUT/OUTPUT` names, and its prices in US dollars per token.

    Raises:
        InputError: the text has another form.
    """
    name, _, figures = text.rpartition("=")
    parts = figures.split("/")
    try:
        values = [float(part) for part in parts]
    except ValueError:
        values = []
    if not name or len(values) != 2 or not all(0 <= value < math.inf for value in values):
        raise InputError(
            f"--price {text!r}: write NAME=INPUT/OUTPUT in US dollars per million tokens, "
            "such as gpt-4o=2.5/10"
        )
    return name, {"input": values[0] / 1e6, "output": values[1] / 1e6}
