"""What kind of error or block a reply is: one word beside the prose, for programs, logs and queries."""

from __future__ import annotations

from enum import StrEnum

__all__ = ["ErrorCode", "in_short"]


class ErrorCode(StrEnum):
    """Why a reply is not a whole answer. The words are stored and logged: none is ever renamed."""

    RATE_LIMITED = "rate_limited"
    """Too many requests or tokens for the moment."""
    OVERLOADED = "overloaded"
    """The endpoint has no capacity at the moment."""
    SERVER_ERROR = "server_error"
    """The endpoint failed, or asks for another attempt."""
    TIMEOUT = "timeout"
    """No answer in time, by our clock or the endpoint's."""
    CONNECTION_FAILED = "connection_failed"
    """The connection was refused or broke before the response was whole."""
    LOCAL_SHORTAGE = "local_shortage"
    """This machine has too few open files, too little memory or too few threads: the request was not sent."""
    BAD_RESPONSE = "bad_response"
    """A response that is not what the protocol says, such as a body that is not a chat completion."""
    RESPONSE_TOO_LARGE = "response_too_large"
    """The body is larger than the program reads."""
    PERIOD_LIMIT = "period_limit"
    """A limit by the day, week or month that states when to ask again."""
    AUTHENTICATION = "authentication"
    """The key is missing, wrong, or not allowed to do this. Stops the target."""
    ACCOUNT = "account"
    """The account is suspended, deactivated or restricted. Stops the target."""
    CONFIGURATION = "configuration"
    """Nothing can be sent from here: a package, credentials or an address is missing. Stops the target."""
    QUOTA = "quota"
    """A quota, a daily limit or the credit is used up. Stops the target."""
    FORBIDDEN = "forbidden"
    """The endpoint refuses the request, and names neither the key nor a content filter."""
    REDIRECTED = "redirected"
    """The endpoint has another address. Stops the target."""
    MODEL_NOT_FOUND = "model_not_found"
    """The endpoint does not know the model. Stops the target."""
    NOT_FOUND = "not_found"
    """The endpoint does not know the address, or the model. Stops the target."""
    BAD_REQUEST = "bad_request"
    """The endpoint rejects the request as it is."""
    REQUEST_TOO_LARGE = "request_too_large"
    """The request is too large for the endpoint, or too long for the model's context."""
    CONTENT_FILTER_INPUT = "content_filter_input"
    """A filter of the provider rejected the request."""
    CONTENT_FILTER_OUTPUT = "content_filter_output"
    """A filter of the provider withheld the reply, or cut it off."""
    GUARD_BLOCKED = "guard_blocked"
    """The moderator's guard found the conversation unsafe: our refusal takes the place of a reply."""
    GUARD_FAILED = "guard_failed"
    """The guard's adapter or its model failed in this process."""
    GUARD_UNPARSED = "guard_unparsed"
    """The guard answered, but not in its documented form."""
    NOT_ASSESSABLE = "not_assessable"
    """The guard cannot be asked about this conversation."""
    TRUNCATED = "truncated"
    """The reply ends at the token limit."""
    EMPTY = "empty"
    """There is no text in the reply."""
    BATCH_INCOMPLETE = "batch_incomplete"
    """The batch ended, failed or was lost without a result of this request."""
    LOCAL_MODEL = "local_model"
    """A model in this process failed."""
    SERVER_ENDED = "server_ended"
    """The server that this program started for the model has ended, and is not started again. Stops the
    target."""


def in_short(code: str | None, status: int | None) -> str:
    """A code with its status, for logs: it contains no text from an endpoint."""
    return f"{code or 'error'}" + (f" (HTTP {status})" if status else "")
