"""What an endpoint does not take of a request, and what it is sent instead.

Endpoints that speak one protocol differ in the parameters that they take. An error that names one of ours is
answered by leaving it out or sending it in another form, within the same attempt. What has helped is kept for
all further requests to the endpoint; it is said once and stored. The request hash holds what was asked for,
never this.
"""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from safemt_client.providers.error_codes import ErrorCode
from safemt_client.providers.parameter_errors import (
    Complaint,
    complaints,
    demands_reasoning,
    demands_stream,
    points_at,
)
from safemt_client.providers.responses.echo import Echo
from safemt_client.providers.responses.oddities import LONE_TAG
from safemt_client.providers.responses.thinking import Reading
from safemt_client.providers.types import Outcome, Reply, Request

__all__ = [
    "OWN_REASONING",
    "Learnt",
    "Negotiation",
    "Negotiations",
    "Remedy",
    "as_sent",
    "given",
    "without_echo",
]

OWN_REASONING = "messages.reasoning_content"
"""Among the parameters of a request with turns of the model's own: whether they go with their reasoning."""

_MOST_TRIES = 8
_MOST_FIRST = 64


@dataclass(frozen=True, slots=True)
class Remedy:
    """What is done about one parameter of a body.

    `omit` leaves it out: if `value` is given only that one, since another may be taken. `rename` sends it
    under the name `value`, and `set` sends `value` in its place.
    """

    parameter: str
    action: str
    value: Any = None

    def applied(self, parameters: Mapping[str, Any]) -> dict[str, Any]:
        """The parameters with this done."""
        sent = dict(parameters)
        if self.parameter not in sent:
            return sent
        if self.action == "set":
            sent[self.parameter] = self.value
        elif self.action == "rename":
            sent[self.value] = sent.pop(self.parameter)
        elif self.value is None or sent[self.parameter] == self.value:
            del sent[self.parameter]
        return sent

    def __str__(self) -> str:
        """What it comes to, for people."""
        if self.parameter == OWN_REASONING:
            return f"the model's own turns are sent {'with' if self.value else 'without'} reasoning_content"
        if self == _THINKS:
            return "a closing tag ends the model's reasoning, wherever it stands"
        if self.action == "rename":
            return f"{self.parameter} is sent as {self.value}"
        if self.action == "set":
            value = self.value["type"] if isinstance(self.value, dict) else self.value
            return f"{self.parameter} is sent as {str(value).lower()}"
        value = "" if self.value is None else f" {self.value:g}"
        return f"{self.parameter}{value} is left out: the endpoint's default applies"


_THINKS = Remedy("replies.reasoning", "set", LONE_TAG)
"""A model that is known to think: a closing tag ends its reasoning wherever it stands."""
_ENOUGH_TAGS = 3

_REMEDIES: Mapping[str, tuple[Remedy, ...]] = {
    name: remedies
    for remedies in (
        # Before the temperature: of the two, which some do not take together, that one decides.
        (Remedy("top_p", "omit"),),
        (Remedy("temperature", "omit"),),
        (Remedy("seed", "omit"),),
        (Remedy("stop", "omit"),),
        (Remedy("max_tokens", "rename", "max_completion_tokens"),),
        (Remedy("max_completion_tokens", "rename", "max_tokens"),),
        (Remedy("response_format", "set", {"type": "json_object"}), Remedy("response_format", "omit")),
        (Remedy("logprobs", "omit"),),
        (Remedy("top_logprobs", "omit"),),
        (Remedy("stream_options", "omit"),),
    )
    for name in (remedies[0].parameter,)
}
"""What may be done about a parameter, in this order."""

_BY_VALUE = ("temperature", "top_p")
"""Parameters of which another value may be taken."""
_ONLY_IF_UNKNOWN = ("max_tokens", "max_completion_tokens", "stop", "stream_options")
"""Parameters for which a wrong value is the user's to correct."""
_OF_GUARDS = ("logprobs", "top_logprobs")
"""What judges and guards put into a body of themselves."""
_WISHES = (*_OF_GUARDS, "response_format")
"""What they do without: left out also where a refusal names no parameter."""
_STREAM = Remedy("stream", "set", True)

_REASONING_MODELS = re.compile(r"(?:^|[/.:])(?:o[1-9](?:-|$)|gpt-5(?!.*chat))", re.IGNORECASE)
_OF_REASONING = (Remedy("temperature", "omit"), Remedy("max_tokens", "rename", "max_completion_tokens"))
"""What models that reason are known not to take, by whatever route they are asked."""


@dataclass(frozen=True, slots=True)
class Learnt:
    """What was learnt about an endpoint. `said` are its own words, None for what is known of the model."""

    identity: str
    host: str | None
    remedy: Remedy
    said: str | None

    @property
    def told(self) -> str:
        """What is done, and why."""
        return f"{self.remedy} ({'as reasoning models need it' if self.said is None else self.said})"

    def __str__(self) -> str:
        """One line for people."""
        return f"{self.identity}: {self.told}"


@dataclass(frozen=True, slots=True)
class _First:
    """What is sent at first where this is `wanted` and the user has `given` that, and as it is stored."""

    wanted: Mapping[str, Any]
    given: Collection[str]
    sent: dict[str, Any]
    shown: dict[str, Any]


class Negotiation:
    """What is known about one endpoint: a model at a host. Shared by all that ask it."""

    def __init__(
        self, identity: str = "", host: str | None = None, tell: Callable[[Learnt], None] | None = None
    ) -> None:
        """`tell` is told of what is learnt."""
        self._identity = identity
        self._host = host
        self._tell = tell
        self._learnt: list[Remedy] = []
        self._first: dict[int, _First] = {}
        self._lone_tags = 0
        self._presumed = _OF_REASONING if _REASONING_MODELS.search(identity) else ()

    @property
    def learnt(self) -> tuple[Remedy, ...]:
        """What has helped so far."""
        return tuple(self._learnt)

    def know(self, remedy: Remedy) -> None:
        """Begin with what was learnt earlier; the latest of it counts."""
        if remedy in self._learnt:
            self._learnt.remove(remedy)
        self._learnt.append(remedy)
        self._first.clear()

    def applied(self, wanted: Mapping[str, Any], given: Collection[str] = ()) -> dict[str, Any]:
        """The parameters as they are sent, with all that is known; what the user has `given` stays."""
        return _applied(wanted, given, (*self._presumed, *self._learnt))

    def reading(self, said: Reading) -> Reading:
        """How the next response is read, where the user has said this: with what is known of the model."""
        return replace(said, knows=self._thinks(said))

    def _thinks(self, said: Reading) -> bool:
        return said.reasoning == "on" or (said.reasoning == "auto" and _THINKS in self._learnt)

    def saw(self, reply: Reply) -> Reply:
        """Learn from a reply whether the model thinks, and return it."""
        self._lone_tags += LONE_TAG in reply.oddities
        if self._lone_tags >= _ENOUGH_TAGS:
            self._keep(_THINKS, "three replies have ended it so")
        return reply

    async def ask(
        self,
        wanted: Mapping[str, Any],
        given: Collection[str],
        send: Callable[[dict[str, Any]], Awaitable[Reply]],
        without_echo: Callable[[str], str] = str,
    ) -> Reply:
        """The reply to a request with these parameters, after what has to be changed of them.

        `given` are the names that the user has put into the body: they are never touched. `send` makes one
        call; `without_echo` takes out of an error what it repeats of the request.
        """
        tried: list[dict[str, Any]] = []
        steps: list[tuple[Remedy, str]] = []
        first = self._sent_first(wanted, given)
        sent = first.sent
        while True:
            reply = await send(sent)
            tried.append(sent)
            remedy = None
            if len(tried) < _MOST_TRIES and not reply.outcome.observed:
                remedy = _remedy(reply, _own(sent, given), without_echo)
            if remedy is None:
                break
            steps.append((remedy, reply.error or ""))
            known = (*self._presumed, *self._learnt, *(step for step, _ in steps))
            sent = _applied(wanted, given, known)
            if sent in tried:
                break
        if reply.outcome.observed:
            self._helped(wanted, given, steps)
        return reply.but(parameters=first.shown if sent is first.sent else as_sent(tried[-1]))

    def _sent_first(self, wanted: Mapping[str, Any], given: Collection[str]) -> _First:
        """What a request is sent with first: made once for all that want the same, until more is learnt."""
        found = self._first.get(id(wanted))
        if found is None or found.wanted is not wanted or found.given != given:
            sent = self.applied(wanted, given)
            found = _First(wanted, given, sent, as_sent(sent))
            if len(self._first) >= _MOST_FIRST:
                self._first.clear()
            self._first[id(wanted)] = found
        return found

    def refused_alike(self, batch: Sequence[tuple[Mapping[str, Any], Collection[str], Reply]]) -> bool:
        """Whether a whole batch was refused for one parameter, which is sent otherwise from now on.

        Each is what was sent, what of it the user has given, and the reply. One that was answered shows that
        the parameter is not to blame.
        """
        remedies = [_remedy(reply, _own(sent, given), str) for sent, given, reply in batch]
        if not remedies or remedies[0] is None or any(remedy != remedies[0] for remedy in remedies):
            return False
        self._keep(remedies[0], batch[0][2].error)
        return True

    def _helped(
        self, wanted: Mapping[str, Any], given: Collection[str], steps: list[tuple[Remedy, str]]
    ) -> None:
        """An endpoint has taken a request: what was done about its parameters is what it needs."""
        found: list[tuple[Remedy, str | None]] = [
            (remedy, None)
            for remedy in self._presumed
            if remedy not in self._learnt and _applied(wanted, given, (remedy,)) != dict(wanted)
        ]
        for remedy, said in (*found, *steps):
            self._keep(remedy, said)

    def _keep(self, remedy: Remedy, said: str | None) -> None:
        new = remedy not in self._learnt
        self.know(remedy)
        if new and self._tell is not None:
            self._tell(Learnt(self._identity, self._host, remedy, said))


class Negotiations:
    """What is known about the endpoints of a session."""

    def __init__(self) -> None:
        self._all: dict[tuple[str, str | None], Negotiation] = {}
        self._on_learnt: Callable[[Learnt], None] | None = None

    def of(self, identity: str, host: str | None) -> Negotiation:
        """What is known about an endpoint."""
        key = (identity, host)
        if key not in self._all:
            self._all[key] = Negotiation(identity, host, self._tell)
        return self._all[key]

    def know(self, identity: str, host: str | None, parameter: str, action: str, value: str | None) -> None:
        """Begin with a fact of the store, where this session asks that endpoint; `value` is JSON."""
        found = self._all.get((identity, host))
        # A later version of the program may know further remedies.
        if found is not None and action in ("omit", "rename", "set"):
            known = None if value is None else json.loads(value)
            found.know(Remedy(parameter, action, known))

    def observe(self, on_learnt: Callable[[Learnt], None]) -> None:
        """Report all that is learnt."""
        self._on_learnt = on_learnt

    def _tell(self, learnt: Learnt) -> None:
        if self._on_learnt is not None:
            self._on_learnt(learnt)


def given(request: Request) -> frozenset[str]:
    """The names that the user has put into the body of a request."""
    return frozenset(request.sampling.extra).difference(_OF_GUARDS)


def without_echo(request: Request) -> Callable[[str], str]:
    """A function that takes the request's own texts out of what a server says about it."""
    # Few requests need it: all else that it takes is made then.
    return lambda text: Echo(request).removed(text, short=False)


def as_sent(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters as they are stored: of a form of the answer its kind, and `stream` only where it is on.

    How the messages are sent is no parameter.
    """
    shown = {name: value for name, value in parameters.items() if name != "stream" or value}
    shown.pop(OWN_REASONING, None)
    if isinstance(form := shown.get("response_format"), dict) and "type" in form:
        shown["response_format"] = form["type"]
    return shown


def _own(sent: Mapping[str, Any], given: Collection[str]) -> dict[str, Any]:
    return {name: value for name, value in sent.items() if name not in given}


def _applied(
    wanted: Mapping[str, Any], given: Collection[str], remedies: Collection[Remedy]
) -> dict[str, Any]:
    sent = dict(wanted)
    for remedy in remedies:
        # Of two values under one name the user's would be lost.
        if remedy.parameter not in given and not (remedy.action == "rename" and remedy.value in given):
            sent = remedy.applied(sent)
    if not sent.get("stream") and "stream_options" not in given:
        sent.pop("stream_options", None)
    return sent


def _remedy(reply: Reply, sent: Mapping[str, Any], without_echo: Callable[[str], str]) -> Remedy | None:
    """What to do about an error, None if it is not about a parameter that was sent."""
    text = reply.raw or reply.error or ""
    wrapped = (reply.status_code or 0) >= 500
    if not wrapped and (
        reply.outcome is not Outcome.ERROR_PERMANENT or reply.status_code not in (400, 404, 422)
    ):
        return None
    if reply.error_code not in (ErrorCode.BAD_REQUEST, ErrorCode.SERVER_ERROR) or text.lstrip()[:1] == "<":
        return None
    plain = without_echo(text)
    names = [name for name in _REMEDIES if name in sent]
    # A gateway may pass on its upstream's error as its own failure: then only a field that names it counts.
    if not wrapped or points_at(text, names):
        for name, complaint in complaints(text, names, plain).items():
            if (remedy := _next(name, complaint, sent[name])) is not None:
                return remedy
    if sent.get("stream") is False and demands_stream(plain):
        return _STREAM
    with_reasoning = sent.get(OWN_REASONING)
    if with_reasoning is not None and demands_reasoning(plain) is (not with_reasoning):
        return Remedy(OWN_REASONING, "set", not with_reasoning)
    if wrapped or reply.status_code == 404:
        return None
    return next((Remedy(name, "omit") for name in _WISHES if name in sent), None)


def _next(name: str, complaint: Complaint, value: Any) -> Remedy | None:
    """What to do about a parameter that was refused with this value."""
    if complaint == "value" and name in _ONLY_IF_UNKNOWN:
        return None
    remedies = _REMEDIES[name]
    remedy = next((one for one in remedies if one.action != "set" or one.value != value), None)
    if remedy is not None and name in _BY_VALUE:
        return replace(remedy, value=value)
    return remedy
