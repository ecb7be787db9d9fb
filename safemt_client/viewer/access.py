"""Access to the viewer: requests must carry its token and come to its own address, from its own pages."""

from __future__ import annotations

import ipaddress
import secrets
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qsl, urlencode, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse, RedirectResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["Access"]

_CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    "Content-Security-Policy": _CSP,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Frame-Options": "DENY",
}
_LOOPBACK = ("127.0.0.1", "localhost", "::1")


class Access:
    """Accepts requests that carry the token; adds the headers that keep hostile text harmless.

    The first request has the token in its address; it gets a cookie and a redirect to the address without it.
    `Host` must be a loopback name of this machine (or the address that was opened on purpose), so that a
    foreign name that resolves to it is refused. Changes and downloads must come from a page of this viewer.
    """

    def __init__(self, app: ASGIApp, token: str, port: int, host: str, checked: tuple[str, ...]) -> None:
        self._app = app
        self._token = token
        self._port = port
        self._host = host
        self._checked = checked
        self._cookie = f"safemt_view_{port}"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers[name] = value
            await send(message)

        headers = Headers(scope=scope)
        if "content-length" in headers and "transfer-encoding" in headers:
            # Where its body ends can be read in two ways: nothing after it is taken for a request.
            close = {"Connection": "close"}
            answer = PlainTextResponse("two lengths of one body\n", 400, headers=close)
            await answer(scope, receive, send_with_headers)
            return
        if not self._own_host(headers.get("host", "")):
            answer = PlainTextResponse("wrong Host\n", 403)
            await answer(scope, receive, send_with_headers)
            return
        given = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
        named = next((value for name, value in given if name == "token"), None)
        if named is not None:
            if scope["method"] == "GET" and self._is(named):
                rest = urlencode([(name, value) for name, value in given if name != "token"])
                # A single slash: two would name another host.
                where = "/" + scope["path"].lstrip("/\\") + (f"?{rest}" if rest else "")
                redirect = RedirectResponse(where, 303)
                redirect.set_cookie(self._cookie, self._token, httponly=True, samesite="strict", path="/")
                await redirect(scope, receive, send_with_headers)
            else:
                await PlainTextResponse("wrong token\n", 403)(scope, receive, send_with_headers)
            return
        if not self._is(self._from_cookie(headers.get("cookie", ""))):
            text = "open the address that the program printed: it ends in ?token=...\n"
            await PlainTextResponse(text, 403)(scope, receive, send_with_headers)
            return
        changes = scope["method"] not in ("GET", "HEAD")
        if (changes or scope["path"] in self._checked) and not self._own_page(headers, changes):
            await PlainTextResponse("this request did not come from a page of this viewer\n", 403)(
                scope, receive, send_with_headers
            )
            return
        await self._app(scope, receive, send_with_headers)

    def _is(self, given: str) -> bool:
        return secrets.compare_digest(given.encode(), self._token.encode())

    def _from_cookie(self, header: str) -> str:
        try:
            found = SimpleCookie(header).get(self._cookie)
        except CookieError:
            return ""
        return found.value if found else ""

    def _own_host(self, given: str) -> bool:
        try:
            parts = urlsplit(f"//{given}")
            name, port = parts.hostname or "", parts.port or 80
        except ValueError:
            return False
        if port != self._port or parts.username is not None or parts.path:
            return False
        if name in _LOOPBACK or name == self._host:
            return True
        # Bound to all addresses on purpose: only as a numeric address, since anyone could own a name.
        return self._host in ("0.0.0.0", "::") and _is_number(name)

    def _own_page(self, headers: Headers, changes: bool) -> bool:
        site = headers.get("sec-fetch-site")
        if site is not None and site != "same-origin" and (changes or site != "none"):
            return False
        origin = headers.get("origin")
        if origin in (None, "null"):
            # A form under Referrer-Policy no-referrer sends null; Sec-Fetch-Site must then confirm it.
            return origin is None or site == "same-origin"
        return urlsplit(origin).netloc == headers.get("host")


def _is_number(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
