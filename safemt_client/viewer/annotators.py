"""Who labels and comments: a name that is asked for once and that the browser keeps."""

from __future__ import annotations

from urllib.parse import quote, unquote

from starlette.requests import Request
from starlette.responses import Response

from safemt_client.providers.errors import InputError

__all__ = ["annotator_of", "checked", "remember"]

_COOKIE = "safemt_annotator"
_LONGEST = 80
_YEAR_S = 31_536_000


def annotator_of(request: Request) -> str:
    """The name that the browser has given; empty if it has given none."""
    try:
        return checked(unquote(request.cookies.get(_COOKIE, ""), errors="strict"))
    except (InputError, UnicodeDecodeError):
        return ""


def checked(given: str) -> str:
    """A name as it is stored.

    Raises:
        InputError: it is empty, too long, or has characters that cannot be shown.
    """
    name = " ".join(given.split())
    if not name or len(name) > _LONGEST or not name.isprintable():
        raise InputError(f"give your name, in at most {_LONGEST} characters")
    return name


def remember(response: Response, name: str) -> None:
    """Have the browser keep a name that was checked."""
    response.set_cookie(_COOKIE, quote(name), _YEAR_S, httponly=True, samesite="strict")
