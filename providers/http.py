"""The base of clients that post JSON to a path below a base URL: key, headers, bounded bodies, redaction."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import httpx
from multidict import CIMultiDict
from yarl import URL

from safemt_client.providers.addresses import host_of, key_headers, url_of
from safemt_client.providers.base import Endpoint
from safemt_client.providers.blocks import Block
from safemt_client.providers.error_codes import ErrorCode
from safemt_client.providers.json_codec import dumps
from safemt_client.providers.keys import Redactor
from safemt_client.providers.limits.permits import Limiter
from safemt_client.providers.limits.tokens import Charging
from safemt_client.providers.options import NO_OPTIONS, EndpointOptions
from safemt_client.providers.proxies import secrets_of_proxies
from safemt_client.providers.responses.charsets import in_utf8
from safemt_client.providers.responses.error_body import one_line
from safemt_client.providers.responses.outcomes import no_connection, not_from_here, too_large, unreadable
from safemt_client.providers.timeouts import DEFAULT_TIMEOUTS, Timeouts
from safemt_client.providers.transport import (
    BodyTooLargeError,
    ConnectionFailedError,
    HopelessError,
    Response,
    ShortageError,
    UnreadableBodyError,
    fetch,
    make_headers,
)
from safemt_client.providers.types import Reply, Request

__all__ = ["HttpEndpoint"]


class HttpEndpoint(Endpoint):
    """An `Endpoint` that asks `POST {base_url}{path}` with a key. Redirects are not followed."""

    path: ClassVar[str]
    """The path below the base URL."""
    max_body: ClassVar[int]
    """Bytes of a body that are read at most."""

    # 9 parameters: those of a request, of the account, and of the user.
    def __init__(
        self,
        *,
        identity: str,
        model: str,
        base_url: str,
        api_key: str | None,
        transport: httpx.AsyncBaseTransport,
        limiter: Limiter,
        timeouts: Timeouts = DEFAULT_TIMEOUTS,
        charging: Charging = "used",
        options: EndpointOptions = NO_OPTIONS,
    ) -> None:
        super().__init__(identity=identity, limiter=limiter, timeouts=timeouts, charging=charging)
        self._model = model
        self._options = options
        self._url = url_of(base_url, self.path, options.query_of())
        self._asked = URL(str(self._url))
        self._headers = make_headers(self._url, content_type="application/json")
        self._headers.update(key_headers(base_url, api_key))
        self._headers.update(options.headers_of())
        self._redactor = Redactor(api_key, *options.secrets, *secrets_of_proxies())
        self._transport = transport
        self.host = host_of(base_url)

    def _scope(self) -> Block:
        return Block()

    def _moved_to(self, location: str) -> str:
        try:
            return str(self._url.join(location))
        except httpx.InvalidURL:
            return ""

    async def _post(self, request: Request, body: Mapping[str, Any]) -> Response | Reply:
        """The response, its body without keys; a reply where there is none to read."""
        content = dumps(body)
        headers = self._headers
        if self._options.session_header is not None:
            headers = CIMultiDict([*headers.items(), *self._options.session_of(request).items()])
        try:
            response = await fetch(
                self._transport, "POST", self._asked, headers=headers, content=content, most=self.max_body
            )
        except BodyTooLargeError as error:
            return too_large(str(error), error.status)
        except HopelessError as error:
            return not_from_here(str(error), error.code)
        except UnreadableBodyError as error:
            return unreadable(str(error), error.status)
        except ShortageError as error:
            return no_connection(str(error), ErrorCode.LOCAL_SHORTAGE)
        except ConnectionFailedError as error:
            return no_connection(one_line(self._redactor.text(str(error))))
        # Before it is read: a shortened line could hold half a key, and another charset a whole one.
        stated, received = in_utf8(response.headers, response.body)
        if "location" in stated:
            stated = {**stated, "location": self._redactor.text(self._moved_to(stated["location"]))}
        return Response(response.status, stated, self._redactor.body(received))
