"""What kind of error an unsuccessful response is: a block, then money, the account, the key, and the rest."""

from __future__ import annotations

import re

from safemt_client.providers.error_codes import ErrorCode
from safemt_client.providers.responses.error_body import Said
from safemt_client.providers.responses.error_tables import block_code, block_phrase, has_code, has_phrase

__all__ = ["block_of", "error_code", "passes"]

_OF_STATUS = {
    401: ErrorCode.AUTHENTICATION,
    402: ErrorCode.QUOTA,
    403: ErrorCode.FORBIDDEN,
    408: ErrorCode.TIMEOUT,
    409: ErrorCode.SERVER_ERROR,
    413: ErrorCode.REQUEST_TOO_LARGE,
    423: ErrorCode.SERVER_ERROR,
    424: ErrorCode.SERVER_ERROR,
    425: ErrorCode.SERVER_ERROR,
    429: ErrorCode.RATE_LIMITED,
    460: ErrorCode.TIMEOUT,
    498: ErrorCode.OVERLOADED,
    499: ErrorCode.SERVER_ERROR,
    501: ErrorCode.BAD_REQUEST,
    503: ErrorCode.OVERLOADED,
    504: ErrorCode.TIMEOUT,
    505: ErrorCode.BAD_REQUEST,
    524: ErrorCode.TIMEOUT,
    529: ErrorCode.OVERLOADED,
}
_PASSING = {
    ErrorCode.RATE_LIMITED,
    ErrorCode.PERIOD_LIMIT,
    ErrorCode.OVERLOADED,
    ErrorCode.SERVER_ERROR,
    ErrorCode.TIMEOUT,
    ErrorCode.BAD_RESPONSE,
}
_LIMIT = re.compile(r"\blimit\b\W{0,3}(?:of )?(\d[\d,]{0,15})")
_ASKED = re.compile(r"\brequested\b\W{0,3}(\d[\d,]{0,15})")
_NAMED_MODEL = re.compile(
    r"\b(?:model|deployment)s?:? ?\S{0,120} (?:is |was |has |does |could |id )?(?:been )?"
    r"(?:not (?:be )?found|not exist|not a valid|decommissioned|deprecated|retired|not available)"
)


def error_code(status: int, said: Said) -> ErrorCode:
    """The kind of an error with this HTTP status; an error within HTTP 200 has that status."""
    if status == 401:
        return ErrorCode.AUTHENTICATION
    if 300 <= status < 400:
        return ErrorCode.REDIRECTED
    if (block := block_of(said)) is not None:
        return block
    if (found := _of_words(status, said)) is not None:
        return found
    if status in _OF_STATUS:
        return _OF_STATUS[status]
    if status >= 500:
        return ErrorCode.SERVER_ERROR
    return ErrorCode.BAD_REQUEST if status >= 400 else ErrorCode.BAD_RESPONSE


def block_of(said: Said) -> ErrorCode | None:
    """The code of a block, None if the error is none. A page or bare text never is."""
    if not said.structured:
        return None
    by_code = said.blocked or any(map(block_code, said.codes))
    if not by_code and not block_phrase(said.sentences):
        return None
    if has_code(said.codes, "output") or has_phrase(said.sentences, "output"):
        return ErrorCode.CONTENT_FILTER_OUTPUT
    return ErrorCode.CONTENT_FILTER_INPUT


def passes(code: ErrorCode, status: int) -> bool:
    """Whether an error may end by itself; a quota stops its target, but a limit of HTTP 429 may end."""
    return code in _PASSING or (code is ErrorCode.QUOTA and (status == 429 or status >= 500))


def _of_words(status: int, said: Said) -> ErrorCode | None:
    """The kind that the words of an error show, whatever its status; None if they do not."""
    if said.page:
        return _missing(status, said)
    if _beyond_the_limit(status, said):
        return ErrorCode.REQUEST_TOO_LARGE
    by_the_minute = has_phrase(said.sentences, "minute")
    if not (status == 429 and by_the_minute) and _speaks_of_money(status, said):
        return ErrorCode.QUOTA
    if status < 500 and (has_code(said.codes, "account") or has_phrase(said.sentences, "account")):
        return ErrorCode.ACCOUNT
    if status < 500 and (limit := _limit(status, said, by_the_minute=by_the_minute)) is not None:
        return limit
    if status < 500 and status not in (408, 429) and _names_a_key(status, said):
        return ErrorCode.AUTHENTICATION
    if (missing := _missing(status, said)) is not None:
        return missing
    if status != 429 and (has_code(said.codes, "too_long") or has_phrase(said.sentences, "too_long")):
        return ErrorCode.REQUEST_TOO_LARGE
    if has_code(said.codes, "overload") or (status < 500 and has_phrase(said.sentences, "overload")):
        return ErrorCode.OVERLOADED
    return None


def _beyond_the_limit(status: int, said: Said) -> bool:
    """Whether this request alone is larger than a limit: no waiting helps. Numbers count before words."""
    for one in said.sentences if status != 402 else ():
        limit, asked = _LIMIT.search(one), _ASKED.search(one)
        if limit and asked:
            return _number(asked) > _number(limit) > 0
    return status == 429 and has_phrase(said.sentences, "too_large_for_limit")


def _speaks_of_money(status: int, said: Said) -> bool:
    return has_code(said.codes, "money") or (status < 500 and has_phrase(said.sentences, "money"))


def _limit(status: int, said: Said, *, by_the_minute: bool) -> ErrorCode | None:
    """A limit of rate or a quota. It may also come with another status than 429, as with 400 or 403."""
    rate = status == 429 or has_code(said.codes, "rate") or has_phrase(said.sentences, "rate")
    quota = has_phrase(said.sentences, "quota")
    if not rate and not quota:
        return None
    if has_phrase(said.sentences, "period"):
        return ErrorCode.QUOTA if said.wait_s is None else ErrorCode.PERIOD_LIMIT
    if by_the_minute or said.wait_s is not None:
        return ErrorCode.RATE_LIMITED
    if quota and (not rate or has_phrase(said.sentences, "used_up")):
        return ErrorCode.QUOTA
    return ErrorCode.OVERLOADED if has_code(said.codes, "overload") else ErrorCode.RATE_LIMITED


def _names_a_key(status: int, said: Said) -> bool:
    if not said.structured:
        return False
    if has_code(said.codes, "key") or has_phrase(said.sentences, "key"):
        return True
    return status == 403 and has_phrase(said.sentences, "key_403")


def _missing(status: int, said: Said) -> ErrorCode | None:
    """A model or an address that the endpoint does not know."""
    if status in (404, 410):
        if has_phrase(said.sentences, "unsupported"):
            return ErrorCode.BAD_REQUEST
        named = not said.page and any("model" in one or "deployment" in one for one in said.sentences)
        return ErrorCode.MODEL_NOT_FOUND if named else ErrorCode.NOT_FOUND
    if said.page or status >= 500 or status == 429:
        return None
    known = has_code(said.codes, "model") or has_phrase(said.sentences, "model")
    if known or any(map(_NAMED_MODEL.search, said.sentences)):
        return ErrorCode.MODEL_NOT_FOUND
    return None


def _number(found: re.Match[str]) -> int:
    return int(found[1].replace(",", ""))
