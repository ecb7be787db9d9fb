"""What is said to a model and what came back: the chat types that every layer shares.

Nothing here knows of safety, of storage or of a vendor's wire format.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from datetime import datetime
from enum import StrEnum
from json.encoder import encode_basestring_ascii as _text
from operator import attrgetter
from typing import Any, Literal, Self

from safemt_client.providers.error_codes import ErrorCode
from safemt_client.providers.limits.rates import RateLimit

__all__ = [
    "Image",
    "Message",
    "Outcome",
    "Reply",
    "Request",
    "Role",
    "Sampling",
    "Usage",
    "reply_hash",
    "request_hash",
]

Role = Literal["system", "developer", "user", "assistant"]


@dataclass(frozen=True, slots=True)
class Image:
    """An image as it is sent. Its bytes are read by `load` only while a request is in flight.

    `sha256` is the hash of the bytes that are sent, `size` their number. `preparation` is the version of what
    made it of a data set's file, `notes` what was done to the picture and what is odd about it.
    """

    sha256: str
    media_type: str
    size: int
    width: int
    height: int
    load: Callable[[], bytes] = field(repr=False, compare=False)
    preparation: int | None = field(default=None, compare=False)
    notes: tuple[str, ...] = field(default=(), compare=False)


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a chat: its images come first, then its text.

    `reasoning` is what a model thought before this answer of its own, where that is known. It goes only to
    endpoints that demand it, and is in no hash.
    """

    role: Role
    text: str
    images: tuple[Image, ...] = ()
    reasoning: str | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Sampling:
    """Sampling parameters; None leaves one to the endpoint, and so does no text in `stop`.

    `extra` is merged into the body. A value of the environment stands in it by its name, such as `$MY_KEY`.
    """

    temperature: float | None = 0.0
    max_tokens: int | None = None
    top_p: float | None = None
    seed: int | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)
    stop: tuple[str, ...] = ()

    @property
    def named(self) -> dict[str, Any]:
        """The parameters that are set, without `extra`."""
        named = {
            "temperature": self.temperature,
            "max_tokens": self.max_tokens,
            "top_p": self.top_p,
            "seed": self.seed,
            "stop": list(self.stop) or None,
        }
        return {name: value for name, value in named.items() if value is not None}

    def as_dict(self) -> dict[str, Any]:
        """All that is set, as a JSON-able mapping (`extra` merged last)."""
        return self.named | dict(self.extra)


@dataclass(frozen=True, slots=True)
class Request:
    """One call: the exact messages, the sampling and, where wanted, a JSON schema for the answer.

    `response_schema` is a JSON schema asked for as `response_format` where the endpoint has it.
    `conversation` is an id that the requests of one conversation share, for endpoints that route by it; it
    decides nothing and is in no hash.
    """

    messages: tuple[Message, ...]
    sampling: Sampling = Sampling()
    response_schema: Mapping[str, Any] | None = None
    conversation: str | None = field(default=None, compare=False)


class Outcome(StrEnum):
    """The outcome of one turn. The first five are observations; the last two are asked again."""

    ANSWERED = "answered"
    REFUSED_BY_PROVIDER = "refused_by_provider"
    REFUSED_BY_GUARD = "refused_by_guard"
    TRUNCATED = "truncated"
    EMPTY = "empty"
    ERROR_TRANSIENT = "error_transient"
    ERROR_PERMANENT = "error_permanent"

    @property
    def observed(self) -> bool:
        """Whether this is an observation: kept, and not asked again."""
        return self._value_ not in _ASKED_AGAIN


_ASKED_AGAIN = frozenset({"error_transient", "error_permanent"})


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens as the endpoint reports them, and the cost in US dollars if it states one; None is unknown.

    `estimated` says that the endpoint counts tokens that none of its fields explains: they are taken for
    tokens of the completion, so that a cost is never too low.
    """

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    reasoning_tokens: int | None = None
    cached_tokens: int | None = None
    cost_usd: float | None = None
    estimated: bool = False


@dataclass(frozen=True, slots=True)
class Reply:
    """The result of one attempt at a request.

    `text` is the answer without any reasoning; it is partial when `truncated` or blocked midway.
    `error` is one clear line (never with a key in it) for every outcome but `answered`, `error_code` its
    kind.
    `raw` is the response body as text; `retry_after_s` how long the current error asked us to wait.
    `latency_s` is the wall time of this attempt, waiting for a permit left out.
    `logprobs` are the tokens of the answer with their log probabilities, where the response states them.
    `rate_limits` are those of requests and of tokens, where the response states them.
    `billed` marks a failure that came with a completion: its text was paid for, and is kept, never judged.
    `oddities` are short words for what was odd about the response, for counting; see `responses.oddities`.
    `parameters` are what was really sent beside the messages, `host` the host and port that were asked; None
    where nothing was sent, and for what runs in this process.
    """

    outcome: Outcome
    text: str = ""
    reasoning: str | None = None
    finish_reason: str | None = None
    error: str | None = None
    status_code: int | None = None
    usage: Usage = Usage()
    resolved_model: str | None = None
    response_id: str | None = None
    started_at: datetime | None = None
    latency_s: float = 0.0
    retry_after_s: float | None = None
    raw: str | None = None
    rate_limits: tuple[RateLimit | None, RateLimit | None] = (None, None)
    logprobs: tuple[tuple[str, float], ...] = ()
    error_code: ErrorCode | None = None
    billed: bool = False
    oddities: tuple[str, ...] = ()
    parameters: Mapping[str, Any] | None = None
    host: str | None = None

    def but(self, **changes: Any) -> Self:
        """The same with these fields changed: `dataclasses.replace` takes four times as long."""
        kind: type = type(self)
        if kind not in _FIELDS:
            names = [field.name for field in fields(kind)]
            _FIELDS[kind] = {name: place for place, name in enumerate(names)}, attrgetter(*names)
        places, values_of = _FIELDS[kind]
        values = list(values_of(self))
        for name, value in changes.items():
            values[places[name]] = value
        return type(self)(*values)


_FIELDS: dict[type, tuple[dict[str, int], Callable[[Any], tuple[Any, ...]]]] = {}
"""The places of the fields of each kind of reply, and what gets their values."""


def request_hash(identity: str, request: Request, *, moderator: str | None = None, sample: int = 0) -> str:
    """SHA-256 over all that decides the answer; base URL, keys and concurrency are left out.

    Images enter by the hash of the bytes that are sent.
    """
    # JSON with sorted keys and without spaces, put together here: a data set's texts are long and many.
    messages = ",".join(
        f'["{message.role}",{_text(message.text)},[{",".join([_text(i.sha256) for i in message.images])}]]'
        for message in request.messages
    )
    canonical = (
        f'{{"identity":{_text(identity)},"messages":[{messages}],"moderator":{_or_null(moderator)},'
        f'"sample":{sample},"sampling":{_json(request.sampling.as_dict())},"schema":{_or_null(request.response_schema)}}}'
    )
    return hashlib.sha256(canonical.encode()).hexdigest()


_json = json.JSONEncoder(sort_keys=True, ensure_ascii=True, separators=(",", ":")).encode


def _or_null(value: Any) -> str:
    return "null" if value is None else _json(value)


def reply_hash(text: str) -> str:
    """SHA-256 of a reply's text, as the store keeps it: lone surrogates, which JSON may carry, as codes."""
    return hashlib.sha256(text.encode("utf-8", "backslashreplace")).hexdigest()
