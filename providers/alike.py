"""Failures that are all alike: how a fault that no waiting mends is told from one that passes.

A wrong parameter, a template that does not take the messages or a picture that the model cannot see fail at
every request, with whatever status a server likes. What they have in common is that the server says the same
each time, in words of its own. What passes by itself says nothing, or what every server says, or its status
shows that it passes.
"""

from __future__ import annotations

import re

from safemt_client.providers.error_codes import ErrorCode
from safemt_client.providers.responses.echo import GAP, Echo, unquoted
from safemt_client.providers.responses.error_tables import is_generic
from safemt_client.providers.types import Outcome, Reply, Request

__all__ = ["Alike", "every_request_fails", "passes"]

_PASSING_CODES = (
    ErrorCode.TIMEOUT,
    ErrorCode.CONNECTION_FAILED,
    ErrorCode.RATE_LIMITED,
    ErrorCode.OVERLOADED,
)
_PASSING_STATUS = {408, 423, 425, 429, 460, 498, 499, 502, 503, 504, *range(520, 530)}
_MANY = 10
_WITH_DIGITS = re.compile(r"\S*\d\S*")


def passes(reply: Reply) -> bool:
    """Whether a failure is of a kind that passes by itself, however often it comes.

    So is one that was billed: its request was taken and worked on.
    """
    if reply.billed or reply.error_code in _PASSING_CODES or reply.status_code in _PASSING_STATUS:
        return True
    if reply.status_code is None:
        return reply.outcome is Outcome.ERROR_TRANSIENT
    return (reply.status_code >= 500 or reply.status_code == 200) and is_generic(reply.error or "")


class Alike:
    """The failures of one target so far, as long as they are all alike and nothing has succeeded.

    Requests count by what they ask: a conversation whose turn failed does not go on, so that each is one of
    another dialogue.
    """

    def __init__(self) -> None:
        self._said: tuple[int | None, str] | None = None
        self._count = 0
        self._requests: set[int] = set()
        self._given_up: set[int] = set()
        self._differ = False

    def succeeded(self) -> None:
        """A request was answered, or blocked: the target works."""
        self._differ = True

    def failed(self, reply: Reply, request: Request, *, last: bool) -> None:
        """An attempt failed; `last`: it is not repeated. What passes by itself does not count."""
        if self._differ or passes(reply):
            return
        said = (reply.status_code, _essence(reply.error or "", request))
        if self._said is not None and said != self._said:
            self._differ = True
            return
        self._said = said
        self._count += 1
        asked = hash(request.messages)
        self._requests.add(asked)
        if last:
            self._given_up.add(asked)

    @property
    def many(self) -> bool:
        """Whether there are enough of them, of several dialogues, to say that all requests fail."""
        return not self._differ and self._count >= _MANY and len(self._requests) > 1

    def all_of(self, requests: int) -> bool:
        """Whether they are all that there is to ask, so many requests of several dialogues."""
        return not self._differ and len(self._given_up) >= max(requests, 2)

    def __len__(self) -> int:
        return self._count


def _essence(text: str, request: Request) -> str:
    """What an error says, without what differs from one request to the next: digits, ids, echoed input."""
    own = unquoted(Echo(request).removed(text)).replace(GAP, " ")
    return " ".join(_WITH_DIGITS.sub("", own).lower().split())


_HINTS = {
    r"image|picture|multi-?modal|vision|mmproj": "--images off leaves the pictures out",
    r"alternate|system role|chat template|conversation roles": "serve the model with another chat template",
    r"endpoint or method|no route|not found|cannot post": "check the address: often it ends in /v1",
    r"unknown|unsupported|unrecognized|not permitted|extra": "leave out what it names",
    r"\bmust be\b|should be|type.?error|invalid (?:type|value)": "change the value that it names",
    r"(?:unknown|invalid|no|which) model\b|model\b.{0,40}(?:not exist|not available|not loaded)": (
        "check the name of the model"
    ),
}


def every_request_fails(reply: Reply, whose: str = "every request") -> str:
    """What is said of a target whose failures are all alike: the server's words, and what may help."""
    status = f" (HTTP {reply.status_code})" if reply.status_code else ""
    return f"{whose} fails alike{status}: {(reply.error or '').rstrip('.')}; {_hint(reply)}"


def _hint(reply: Reply) -> str:
    if reply.error_code is ErrorCode.REQUEST_TOO_LARGE:
        return "choose shorter dialogues with --turns, or raise the server's limit"
    for words, advice in _HINTS.items():
        if re.search(words, reply.error or "", re.IGNORECASE):
            return advice
    return "fix what it says"
