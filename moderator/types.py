"""A guard's assessment of a conversation, and the interface of its adapter."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from safemt_client.providers.error_codes import ErrorCode
from safemt_client.providers.probabilities import ConfidenceKind
from safemt_client.providers.types import Message, Reply, Request, Usage

__all__ = [
    "INTERVENTIONS",
    "Assessment",
    "Card",
    "Guard",
    "GuardType",
    "GuardVerdict",
    "Intervention",
    "NotAssessableError",
    "RunsOn",
    "Stage",
]

GuardVerdict = Literal["safe", "controversial", "unsafe", "unparsed", "error"]
"""`unparsed`: the guard's answer could not be read; `error`: it could not be asked. Neither is `safe`."""

Stage = Literal["input", "output"]
"""What is assessed: `input`, a conversation up to a user's message; `output`, one up to a reply."""

Intervention = Literal["policy", "block", "output", "observe"]
INTERVENTIONS: tuple[Intervention, ...] = ("policy", "block", "output", "observe")
"""The action on an unsafe conversation. `policy`: the model is given a policy. `block`: it gets a
fixed refusal instead of a call. `output`: the reply is assessed too, and an unsafe one replaced. `observe`:
nothing."""

RunsOn = Literal["chat model", "moderation endpoint", "this process"]
"""What a guard is asked through: a model that `--moderator GUARD=PROVIDER` names, OpenAI's moderation
endpoint, or something that it provides itself."""


@dataclass(frozen=True, slots=True)
class Assessment:
    """A guard's answer on one state of a conversation.

    `categories` are the guard's own labels, `scenarios` those of the benchmark that they stand for (may
    be empty). `intent` is what the guard believes the user wants and `policy` its policy for the model, where
    it states them. `confidence` is its probability of the verdict, `confidence_kind` what that is one among
    (`stated` unless something else is said), `refusal` whether it takes the reply for one; `raw` is
    its own text. `error` says why there is no verdict, `error_code` its kind.
    For a reply, `reply_hash` is the hash of its text. `parameters` are what was really sent to the guard
    beside the messages.
    """

    verdict: GuardVerdict
    intent: str | None = None
    categories: tuple[str, ...] = ()
    scenarios: tuple[str, ...] = ()
    policy: str | None = None
    confidence: float | None = None
    refusal: bool | None = None
    raw: str | None = None
    error: str | None = None
    usage: Usage = field(default_factory=Usage)
    latency_s: float = 0.0
    error_code: ErrorCode | None = None
    reply_hash: str | None = None
    parameters: Mapping[str, Any] | None = None
    confidence_kind: ConfidenceKind | None = None


@dataclass(frozen=True, slots=True)
class Card:
    """What a user should know about a guard before relying on it.

    `model` is the published model that the adapter's form belongs to, `licence` its licence and `source` the
    page that documents the form; `sees_images` and `stages` say what it can be shown. `unconfirmed` says
    which parts of the form could not be confirmed there; None if all could.
    """

    name: str
    title: str
    model: str
    licence: str
    source: str
    sees_images: bool
    stages: tuple[Stage, ...]
    labels: tuple[str, ...]
    unconfirmed: str | None = None


class NotAssessableError(Exception):
    """The guard cannot be asked about this conversation: not a stage that it assesses, or no picture.

    The message is one line; the caller records the state as `error`.
    """


class Guard(Protocol):
    """An adapter: the form in which one kind of guard is asked, and how its answer is read.

    Adapters keep no conversation state, so that they can be shared between tasks.
    """

    @property
    def card(self) -> Card:
        """The guard's card."""
        ...

    @property
    def key(self) -> str:
        """Hash of all in the adapter that decides an answer: prompt, categories, sampling."""
        ...

    def request(self, messages: Sequence[Message], stage: Stage) -> Request:
        """What is sent to the guard's model about this conversation.

        Raises:
            NotAssessableError: the guard cannot be asked about it.
        """
        ...

    def parse(self, reply: Reply, stage: Stage) -> Assessment:
        """What an observed reply amounts to; anything but the documented form is `unparsed`.

        Leaves `usage` and `latency_s` to the caller.
        """
        ...


@dataclass(frozen=True, slots=True)
class GuardType:
    """A kind of guard, as its module declares it in `GUARDS`.

    `make` gives the adapter; it takes the `options`, all of them strings, as keywords. `provider` is what
    the guard is asked through, and `intervention` the action taken, if the user names none.
    `aliases` are further names of the guard, each with the provider that it stands for. A guard that runs in
    this process has `load`, which gives what it is asked through: a `Provider`, or of a plug-in a model as
    `plugins.adopt` takes it.
    """

    card: Card
    make: Callable[..., Guard]
    options: tuple[str, ...] = ()
    runs_on: RunsOn = "chat model"
    provider: str | None = None
    intervention: Intervention = "block"
    aliases: Mapping[str, str] = field(default_factory=dict)
    load: Callable[[], Awaitable[Any]] | None = None
