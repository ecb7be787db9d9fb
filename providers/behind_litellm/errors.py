"""What an exception of litellm's amounts to, by what came back from the endpoint or by what is missing here.

litellm sorts errors into classes of its own, by words in them, and drops their headers: an overload becomes
a 500, a redirect a broken connection, a package that is not installed too. So the response itself goes
through the one table of outcomes, and only where there was none its exception is looked at.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from importlib.util import find_spec

import aiohttp
import httpx

from safemt_client.providers.behind_litellm.http import Received
from safemt_client.providers.error_codes import ErrorCode
from safemt_client.providers.errors import InputError
from safemt_client.providers.json_codec import dumps
from safemt_client.providers.keys import Redactor
from safemt_client.providers.limits.rates import rate_limits
from safemt_client.providers.resources import shortage
from safemt_client.providers.responses.error_body import one_line
from safemt_client.providers.responses.outcomes import classify_response, no_connection
from safemt_client.providers.transport import untrusted
from safemt_client.providers.types import Outcome, Reply, Request

__all__ = ["check_installed", "message_of", "reply_of_error"]

_PACKAGES = {"vertex_ai": ("google.auth", "google-auth"), "bedrock": ("boto3", "boto3")}
"""Vendors whose requests litellm signs with a package that it does without otherwise: module and package."""
_CREDENTIALS = {"NoCredentialsError", "PartialCredentialsError", "ProfileNotFound", "DefaultCredentialsError"}
"""Exceptions of boto3 and google-auth: there is nothing to sign requests with."""
_LACKS = re.compile(
    r"missing \S+( ad)? (api )?(key|token|credentials)|missing credentials|api_base is required|"
    r"must provide one of the|could not resolve project|invalid or missing .*region",
    re.IGNORECASE,
)
"""What litellm and the SDKs say before anything is sent."""


def check_installed(identity: str) -> None:
    """See that there is what litellm needs to ask this model.

    Raises:
        InputError: a package is missing.
    """
    module, package = _PACKAGES.get(identity.partition("/")[0], (None, ""))
    if module is not None and not _is_there(module):
        raise InputError(f"{identity}: the package {package} is missing: pip install {package}")


def _is_there(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:
        # The package above it is missing.
        return False


def reply_of_error(
    error: Exception,
    received: Received,
    redactor: Redactor,
    request: Request | None = None,
    model: str = "",
    host: str | None = None,
) -> Reply:
    """The reply that an exception of litellm's amounts to; `received` is what came back, from `host`."""
    said = one_line(redactor.text(message_of(error)))
    if received.status is not None:
        headers = redactor.headers(received.headers)
        body = redactor.body(received.body)
        reply = classify_response(received.status, headers, body, request=request, model=model)
        if reply.outcome in (Outcome.ANSWERED, Outcome.TRUNCATED, Outcome.EMPTY):
            # In the vendor's own form it has no choices: only litellm can tell what it holds, and it cannot.
            reply = Reply(
                Outcome.ERROR_TRANSIENT,
                error=said,
                error_code=ErrorCode.BAD_RESPONSE,
                status_code=received.status,
                raw=reply.raw,
            )
        return replace(reply, rate_limits=rate_limits(headers))
    causes = list(_causes(error))
    if (why := untrusted(error, host or "the endpoint")) is not None:
        return _lacking(why)
    if (why := shortage(error)) is not None:
        return no_connection(why, ErrorCode.LOCAL_SHORTAGE)
    if any(isinstance(cause, httpx.TimeoutException | TimeoutError) for cause in causes):
        return no_connection(said, ErrorCode.TIMEOUT)
    for cause in reversed(causes):
        if isinstance(cause, httpx.TransportError | aiohttp.ClientError | OSError):
            return no_connection(f"connection failed: {one_line(redactor.text(str(cause)))}")
    if any(_lacks(cause) for cause in causes):
        return _lacking(said)
    status = getattr(error, "status_code", None)
    if not isinstance(status, int) or (status >= 500 and not _of_an_sdk(causes[-1])):
        # Nothing was sent: whatever litellm makes of it, it fails again if it is asked again.
        status = 400
    body = dumps({"error": {"message": said}})
    return classify_response(status, {}, body, request=request, model=model)


def message_of(error: Exception) -> str:
    """What it says, without the stack trace that litellm adds where it recognises nothing."""
    return str(getattr(error, "message", error)).partition("Traceback (most recent call last)")[0]


def _causes(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    found: BaseException | None = error
    while found is not None and id(found) not in seen:
        seen.add(id(found))
        yield found
        found = found.__cause__ or found.__context__


def _lacks(cause: BaseException) -> bool:
    if isinstance(cause, ImportError) or type(cause).__name__ in _CREDENTIALS:
        return True
    return _LACKS.search(str(cause)) is not None


def _of_an_sdk(cause: BaseException) -> bool:
    return type(cause).__module__.partition(".")[0] in ("litellm", "openai")


def _lacking(said: str) -> Reply:
    return Reply(Outcome.ERROR_PERMANENT, error=said, error_code=ErrorCode.CONFIGURATION)
