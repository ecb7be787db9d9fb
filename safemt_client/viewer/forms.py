"""The bodies of forms, read before the pages are called, which run in threads."""

from __future__ import annotations

from urllib.parse import parse_qsl

from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

__all__ = ["Forms"]

_MOST = 200_000


class Forms:
    """Puts the fields of a posted form into `request.state.form`; refuses a long or malformed body."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http" or scope["method"] != "POST":
            await self._app(scope, receive, send)
            return
        body, more = b"", True
        while more and len(body) <= _MOST:
            message = await receive()
            if message["type"] != "http.request":
                return
            body += message.get("body", b"")
            more = message.get("more_body", False)
        try:
            fields = dict(parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=100))
        except ValueError:
            fields = None
        if len(body) > _MOST or fields is None:
            await PlainTextResponse("the body is not a form, or is too long\n", 413)(scope, receive, send)
            return
        scope.setdefault("state", {})["form"] = fields
        await self._app(scope, receive, send)
