"""Batch endpoints: many independent requests handed over at once, answered within a day at half the price.

A request's custom id is its request hash (64 hexadecimal digits, the longest that vendors accept): results
themselves identify the turn they belong to, in any order and after any interruption.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Literal, Protocol

import httpx
from multidict import CIMultiDict
from yarl import URL

from safemt_client.providers.addresses import url_of
from safemt_client.providers.error_codes import ErrorCode
from safemt_client.providers.errors import SafemtError, TargetStoppedError
from safemt_client.providers.json_codec import as_dict, loads
from safemt_client.providers.keys import Redactor
from safemt_client.providers.negotiation import Negotiation, as_sent
from safemt_client.providers.options import EndpointOptions
from safemt_client.providers.provider import Observer
from safemt_client.providers.proxies import secrets_of_proxies
from safemt_client.providers.responses.error_body import one_line
from safemt_client.providers.responses.outcomes import (
    error_reply,
    no_connection,
    not_from_here,
    too_large,
    unreadable,
)
from safemt_client.providers.retry import with_retries
from safemt_client.providers.timeouts import Deadline
from safemt_client.providers.transport import (
    BodyTooLargeError,
    ConnectionFailedError,
    Response,
    ShortageError,
    UnreadableBodyError,
    UntrustedError,
    fetch,
    make_headers,
)
from safemt_client.providers.types import Outcome, Reply, Request

__all__ = ["BatchEndpoint", "BatchRefusedError", "BatchState", "BatchUnsureError", "RemoteBatch"]

_MOST_RESULTS = 512 * 2**20
_CALL_TIMEOUT_S = 900.0
_PAGES = 20


class BatchRefusedError(SafemtError):
    """The endpoint does not accept a batch, or does not know it (`status` 404: no longer)."""

    def __init__(self, message: str, status: int | None = None, code: ErrorCode | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


class BatchUnsureError(SafemtError):
    """It is unknown whether the endpoint began a batch: no complete answer to the submission arrived."""


@dataclass(frozen=True, slots=True)
class BatchState:
    """How far a batch is: `ended` has results (of all requests or some), `failed` has none, `error` says why.

    `done` of `total` requests are answered; both are 0 until the endpoint reports them.
    """

    status: Literal["running", "ended", "failed"]
    done: int = 0
    total: int = 0
    error: str | None = None


class Client(Protocol):
    """What asks the same model one by one: its requests are put alike."""

    negotiation: Negotiation
    host: str | None

    @property
    def options(self) -> EndpointOptions:
        """What the user says about its requests."""
        ...

    def given(self, request: Request) -> frozenset[str]:
        """The names of parameters that are the user's own."""
        ...

    def sent(self, request: Request) -> dict[str, Any]:
        """The parameters as they are sent."""
        ...


@dataclass(frozen=True, slots=True)
class RemoteBatch:
    """A batch that the endpoint lists. `mark` is our name for it, where the endpoint keeps one."""

    id: str
    created_at: datetime
    total: int
    mark: str | None = None


class BatchEndpoint(ABC):
    """Batches for one model. Failures of the connection and of the server are retried."""

    most_requests = 10_000
    """The most requests in one batch; vendors accept 50,000 to 100,000, but results must fit into memory."""
    most_bytes = 64 * 2**20
    """The most bytes in one batch; vendors accept 200 MB to 256 MB."""
    keeps_marks = False
    """Whether a batch is certain to carry our name for it, so that one without it is not ours."""

    def __init__(
        self,
        *,
        base_url: str,
        headers: dict[str, str],
        transport: httpx.AsyncBaseTransport,
        max_wait_s: float,
        secret: str | None,
        client: Client,
    ) -> None:
        """`secret` must never appear in a message: the API key. `client` asks the same model one by one."""
        options = client.options
        self._client = client
        self._sent: dict[str, tuple[Mapping[str, Any], frozenset[str]]] = {}
        self._base_url = base_url
        self._query = options.query_of()
        self._headers = make_headers(httpx.URL(base_url), **headers)
        self._headers.update(options.headers_of())
        self._transport = transport
        self._max_wait_s = max_wait_s
        self._redactor = Redactor(secret, *options.secrets, *secrets_of_proxies())

    @abstractmethod
    async def encode(self, custom_id: str, request: Request) -> bytes:
        """One request as it appears in a batch: JSON on one line."""

    @abstractmethod
    async def submit(self, mark: str, lines: Sequence[bytes], on_retry: Observer | None = None) -> str:
        """Hand a batch over; return the endpoint's id of it. `mark` is our name for it.

        Raises:
            BatchRefusedError: the endpoint does not take it.
            BatchUnsureError: it may have been begun; `list_since` tells.
            TargetStoppedError: authentication, quota or model name is wrong.
        """

    @abstractmethod
    async def list_since(self, since: datetime) -> list[RemoteBatch]:
        """The batches that the account has begun since then: to find one whose id was lost."""

    @abstractmethod
    async def state(self, batch_id: str) -> BatchState:
        """How far the batch is.

        Raises:
            BatchRefusedError: with status 404, the endpoint no longer knows it.
        """

    @abstractmethod
    async def results(self, batch_id: str, requests: Mapping[str, Request]) -> dict[str, Reply]:
        """The replies of an ended batch by custom id, in no order; some may be missing.

        If several results have the same id, the first counts. Lines that cannot be read are skipped. What an
        error repeats of its request, one of `requests` by custom id, is not taken for its own words.
        """

    async def _call(
        self,
        method: str,
        path: str,
        *,
        content: bytes | None = None,
        headers: dict[str, str] | None = None,
        on_retry: Observer | None = None,
        begins: bool = False,
    ) -> bytes:
        """One call with retries; the body of its success. What `begins` a batch is not repeated blindly."""
        url = url_of(self._base_url, path, self._query)
        sent = CIMultiDict([*self._headers.items(), *(headers or {}).items()])
        body = b""

        async def attempt() -> Reply:
            nonlocal body
            response = await self._attempt(method, url, sent, content, begins=begins)
            if isinstance(response, Reply):
                return response
            body = response.body
            return Reply(Outcome.ANSWERED, status_code=response.status)

        try:
            reply = await with_retries(attempt, max_wait_s=self._max_wait_s, on_retry=on_retry)
        except TargetStoppedError as error:
            # A batch or a file may be gone without anything being wrong with the target.
            if error.reply is None or error.reply.status_code != 404:
                raise
            reply = error.reply
        if reply.outcome is not Outcome.ANSWERED:
            message = f"{method} {url.path} (HTTP {reply.status_code}): {reply.error}"
            raise BatchRefusedError(message, reply.status_code, reply.error_code)
        return body

    async def _attempt(
        self, method: str, url: httpx.URL, headers: CIMultiDict[str], content: bytes | None, *, begins: bool
    ) -> Response | Reply:
        """One attempt: a success with its body, without keys; a reply for any failure."""
        try:
            with Deadline(_CALL_TIMEOUT_S) as deadline:
                response = await fetch(
                    self._transport,
                    method,
                    URL(str(url)),
                    headers=headers,
                    content=content,
                    most=_MOST_RESULTS,
                )
            if deadline.expired:
                raise TimeoutError
        except UntrustedError as error:
            return not_from_here(str(error))
        except ShortageError as error:
            return no_connection(str(error), ErrorCode.LOCAL_SHORTAGE)
        except (TimeoutError, ConnectionFailedError) as error:
            text = one_line(self._redactor.text(str(error) or f"no answer within {_CALL_TIMEOUT_S:g} s"))
            if begins:
                raise BatchUnsureError(text) from None
            code = ErrorCode.TIMEOUT if isinstance(error, TimeoutError) else ErrorCode.CONNECTION_FAILED
            return no_connection(text, code)
        except (BodyTooLargeError, UnreadableBodyError) as error:
            if begins:
                raise BatchUnsureError(str(error)) from None
            large = isinstance(error, BodyTooLargeError)
            return (too_large if large else unreadable)(str(error), error.status)
        cleaned = replace(response, body=self._redactor.body(response.body))
        if 200 <= response.status < 300:
            return cleaned
        reply = error_reply(response.status, response.headers, cleaned.body)
        if begins and response.status in (500, 502, 504, 520, 522, 524):
            raise BatchUnsureError(f"HTTP {response.status}: {self._redact(reply.error or '')}")
        return replace(reply, error=self._redact(reply.error or ""), raw=None)

    async def _call_json(self, method: str, path: str, **options: Any) -> dict[str, Any]:
        try:
            found = loads(await self._call(method, path, **options))
        except ValueError:
            found = None
        if not isinstance(found, dict):
            message = f"{method} {path}: the body is not a JSON object"
            raise BatchRefusedError(message, code=ErrorCode.BAD_RESPONSE)
        return found

    async def _begin(self, path: str, content: bytes, on_retry: Observer | None) -> str:
        """Begin a batch; the endpoint's id of it."""
        body = await self._call(
            "POST",
            path,
            content=content,
            headers={"Content-Type": "application/json"},
            on_retry=on_retry,
            begins=True,
        )
        try:
            begun = as_dict(loads(body))
        except ValueError:
            begun = {}
        if isinstance(begun.get("id"), str):
            return str(begun["id"])
        if begun.get("error"):
            said = self._redact(error_reply(200, {}, body).error or "an error")
            raise BatchRefusedError(f"POST {path}: {said}", code=ErrorCode.SERVER_ERROR)
        raise BatchUnsureError(f"POST {path}: the answer has no id")

    async def _list(
        self, path: str, cursor: str, since: datetime, read: Callable[[dict[str, Any]], RemoteBatch]
    ) -> list[RemoteBatch]:
        """The batches that `path` lists, page after page, `cursor` naming the last one of the page before."""
        found: list[RemoteBatch] = []
        after = ""
        for _ in range(_PAGES):
            page = await self._call_json("GET", f"{path}?limit=100{after}")
            batches = [one for one in as_list(page.get("data")) if isinstance(one.get("id"), str)]
            # Not all endpoints list the newest first: a page ends the search only if all of it is older.
            younger = [one for one in map(read, batches) if one.created_at >= since]
            found += younger
            if not younger or not page.get("has_more"):
                break
            after = f"&{cursor}={batches[-1]['id']}"
        return found

    def _remember(self, custom_id: str, request: Request) -> None:
        """What is sent beside the messages: its result is kept with it, if this session collects it."""
        self._sent[custom_id] = self._client.sent(request), self._client.given(request)

    def _complete(self, results: Iterable[tuple[str, Reply]]) -> dict[str, Reply]:
        """The replies with what was sent and where, and without the key, in case the endpoint repeats it.

        Requests that were all refused for one parameter can be asked again: it is sent otherwise then.
        """
        found: dict[str, Reply] = {}
        for custom_id, reply in results:
            sent, _ = self._sent.get(custom_id, (None, None))
            shown = None if sent is None else as_sent(sent)
            clean = replace(self._redactor.reply(reply), host=self._client.host, parameters=shown)
            found.setdefault(custom_id, clean)
        known = [(*self._sent[key], reply) for key, reply in found.items() if key in self._sent]
        if len(known) < len(found) or not self._client.negotiation.refused_alike(known):
            return found
        return {key: replace(reply, outcome=Outcome.ERROR_TRANSIENT) for key, reply in found.items()}

    def _redact(self, text: str) -> str:
        return self._redactor.text(text)


def read_lines(bodies: Iterable[bytes]) -> list[dict[str, Any]]:
    """The JSON objects of JSONL bodies; other lines are left out: their requests have no result."""
    found = []
    for body in bodies:
        for line in body.splitlines():
            try:
                content = loads(line)
            except ValueError:
                continue
            if isinstance(content, dict):
                found.append(content)
    return found


def moment(value: object) -> datetime:
    """A time as endpoints state it: seconds since 1970, or ISO 8601; the present if it is neither."""
    try:
        if isinstance(value, int | float):
            return datetime.fromtimestamp(value, UTC)
        then = datetime.fromisoformat(str(value))
        return then if then.tzinfo else then.replace(tzinfo=UTC)
    except (ValueError, OverflowError, OSError):
        return datetime.now(UTC)


def as_list(value: object) -> list[dict[str, Any]]:
    """The objects in an endpoint's list; none if it is not a list."""
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def as_count(value: object) -> int:
    """An endpoint's count; 0 if it is not one."""
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else 0
