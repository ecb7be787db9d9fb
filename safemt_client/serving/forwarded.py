"""Requests to a server of another machine of the run: the process there that keeps it answers them whole.

Both ends are here. What passes between them has no key: the server's own is added where the server is, and
values of the environment are in no such request. The program reads responses whole, so nothing is streamed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import httpx

from safemt_client.providers.error_codes import ErrorCode
from safemt_client.providers.transport import FAILURES, HopelessError

if TYPE_CHECKING:
    from safemt_client.serving.metrics import Use

__all__ = ["Answered", "Asked", "EndedError", "Remote", "answer", "forward"]

_LEFT_OUT = {"host", "authorization", "proxy-authorization", "cookie"}
"""Headers that the way to the server has anew, and those that carry what was not meant for it."""
_MOST = 48 * 2**20
"""Bytes that are read of a response: more than any provider takes, which refuses a larger one itself."""


class EndedError(HopelessError):
    """A server has ended for good; another run starts it anew."""

    code = ErrorCode.SERVER_ENDED


@dataclass(frozen=True, slots=True)
class Asked:
    """A request on its way to the server's machine."""

    method: str
    url: str
    headers: tuple[tuple[str, str], ...]
    content: bytes


@dataclass(frozen=True, slots=True)
class Answered:
    """A response as it was received, or in one line why there is none: now (`failed`), or ever (`ended`)."""

    status: int = 0
    headers: tuple[tuple[bytes, bytes], ...] = ()
    body: bytes = b""
    failed: str | None = None
    ended: str | None = None


class Remote(Protocol):
    """A server of another machine, as whoever asks it sees it."""

    @property
    def actor(self) -> str:
        """The name by which other processes of the run find it."""
        ...

    async def ask(self, asked: Asked) -> Answered:
        """What it answers. Nothing is raised where it cannot be reached."""
        ...

    async def use(self, *, last: bool = True) -> Use | None:
        """See `Server.use`; None also where it cannot be reached."""
        ...


async def forward(remote: Remote, request: httpx.Request) -> httpx.Response:
    """Send a request to a server of another machine.

    Raises:
        EndedError: it has ended for good.
        httpx.ConnectError: there is no answer this time.
    """
    headers = tuple((name, value) for name, value in request.headers.items() if name not in _LEFT_OUT)
    answered = await remote.ask(Asked(request.method, str(request.url), headers, await request.aread()))
    if answered.ended is not None:
        raise EndedError(answered.ended)
    if answered.failed is not None:
        raise httpx.ConnectError(answered.failed)
    body = httpx.ByteStream(answered.body)
    return httpx.Response(answered.status, headers=list(answered.headers), stream=body, request=request)


async def answer(transport: httpx.AsyncBaseTransport, asked: Asked) -> Answered:
    """What the server of this machine, to which `transport` leads, answers."""
    request = httpx.Request(asked.method, asked.url, headers=list(asked.headers), content=asked.content)
    received = bytearray()
    try:
        response = await transport.handle_async_request(request)
        try:
            async for piece in response.aiter_raw():
                received += piece
                if len(received) > _MOST:
                    break
        finally:
            await response.aclose()
    except HopelessError as error:
        return Answered(ended=str(error))
    except FAILURES as error:
        return Answered(failed=str(error) or type(error).__name__)
    return Answered(response.status_code, tuple(response.headers.raw), bytes(received))
