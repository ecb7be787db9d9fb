"""The pages on which conversations are found: the list of a run, and its items by targets."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from safemt_client.viewer.filters import Filters
from safemt_client.viewer.matrix import matrix_of
from safemt_client.viewer.pages import Page, Render, number
from safemt_client.viewer.queries import Queries

__all__ = ["ListPages"]


class ListPages:
    """Routes of the application; `render` makes pages, and `safely` shows errors of the user as one."""

    def __init__(self, queries: Queries, render: Render, safely: Callable[[Page], Page]) -> None:
        self._queries = queries
        self._render = render
        self._safely = safely

    def routes(self) -> list[Route]:
        """The routes."""
        return [
            Route("/run", self._safely(self._conversations)),
            Route("/matrix", self._safely(self._matrix)),
        ]

    def _conversations(self, request: Request) -> Response:
        return self._found(
            request,
            ("run.html", "list.html"),
            lambda filters, page: {"listing": self._queries.page(filters, page)},
        )

    def _matrix(self, request: Request) -> Response:
        return self._found(
            request,
            ("matrix.html", "items.html"),
            lambda filters, page: {"matrix": matrix_of(self._queries, filters, page)},
        )

    def _found(
        self,
        request: Request,
        templates: tuple[str, str],
        find: Callable[[Filters, int], dict[str, Any]],
    ) -> Response:
        """A page with the form of filters and what they find, or of it what they find alone."""
        filters = Filters.read(request.query_params)
        run = self._queries.run(filters.run)
        if run is None:
            return self._render(request, "error.html", 404, message=f"no run {filters.run!r} in this store")
        part = request.headers.get("hx-target") == "list"
        response = self._render(
            request,
            templates[part],
            run=run,
            filters=filters,
            choices=self._queries.choices(filters.run),
            **find(filters, number(request.query_params.get("page"), 1)),
        )
        if part and request.headers.get("hx-trigger") == "filters":
            response.headers["HX-Push-Url"] = f"{request.url.path}?{filters.query()}"
        return response
