"""What the modules of pages have in common: how a page is made, and what makes one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from starlette.requests import Request
from starlette.responses import Response

__all__ = ["Page", "Render", "number"]

Page = Callable[[Request], Response]


class Render(Protocol):
    """Makes a page from a template."""

    def __call__(self, request: Request, name: str, status: int = 200, /, **values: Any) -> Response:
        """The page."""
        ...


def number(text: str | None, otherwise: int) -> int:
    """A number of an address; what is no small number is `otherwise`."""
    return int(text) if text and text.isascii() and text.isdecimal() and len(text) < 10 else otherwise
