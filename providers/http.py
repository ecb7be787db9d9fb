"""The base of clients that post JSON to a path below a base URL: key, headers, bounded bodies, redaction."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

import httpx

from safemt_client.providers.base import Endpoint
from safemt_client.providers.error_body import one_line
from safemt_client.providers.json_codec import dumps
from safemt_client.providers.keys import Redactor
from safemt_client.providers.limits import AccountLimiter
from safemt_client.providers.outcomes import no_connection, too_large
from safemt_client.providers.timeouts import DEFAULT_TIMEOUTS, Timeouts
from safemt_client.providers.tokens import Charging
from safemt_client.providers.transport import (
    BodyTooLargeError,
    ConnectionFailedError,
    Response,
    fetch,
    make_headers,
)
from safemt_client.providers.types import Reply

__all__ = ["HttpEndpoint"]


class HttpEndpoint(Endpoint):
    """An `Endpoint` that asks `POST {base_url}{path}` with a bearer key. Redirects are not followed."""

    path: ClassVar[str]
    """The path below the base URL."""
    max_body: ClassVar[int]
    """Bytes of a body that are read at most."""

    def __init__(
        self,
        *,
        identity: str,
        model: str,
        base_url: str,
        api_key: str | None,
        transport: httpx.AsyncBaseTransport,
        limiter: AccountLimiter,
        timeouts: Timeouts = DEFAULT_TIMEOUTS,
        charging: Charging = "used",
    ) -> None:
        super().__init__(identity=identity, limiter=limiter, timeouts=timeouts, charging=charging)
        self._model = model
        self._url = httpx.URL(base_url.rstrip("/") + self.path)
        self._headers = make_headers(self._url, content_type="application/json")
        if api_key:
            self._headers["Authorization"] = f"Bearer {api_key}"
        self._redactor = Redactor(api_key)
        self._transport = transport

    async def _post(self, body: Mapping[str, Any]) -> Response | Reply:
        """The response, its body without keys; a reply where there is none to read."""
        content = dumps(body)
        try:
            response = await fetch(
                self._transport, "POST", self._url, headers=self._headers, content=content, most=self.max_body
            )
        except BodyTooLargeError as error:
            return too_large(str(error), error.status)
        except ConnectionFailedError as error:
            return no_connection(one_line(self._redactor.text(str(error))))
        # Before it is read: a shortened line could hold half a key.
        return replace(response, body=self._redactor.body(response.body))
