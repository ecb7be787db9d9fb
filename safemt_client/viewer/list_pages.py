"""The pages on which conversations are found: the list of a run, and its items by targets."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from safemt_client.providers.errors import InputError
from safemt_client.results.sanitize import coded
from safemt_client.viewer.columns import chosen, told
from safemt_client.viewer.expressions import MOST
from safemt_client.viewer.filters import Filters
from safemt_client.viewer.matrix import matrix_of
from safemt_client.viewer.pages import Page, Render, number
from safemt_client.viewer.queries import Choices, Queries
from safemt_client.viewer.saved import SavedFilters

__all__ = ["ListPages"]

_PATHS = ("/run", "/matrix")
_WORDS = {
    "q": "text",
    "item": "item",
    "target": "target",
    "scenario": "scenario",
    "length": "user turns",
    "outcome": "outcome",
    "verdict": "verdict",
    "condition": "control",
    "judge": "judge",
    "disagree": "disagreement",
    "change": "changed by guard",
    "did": "guard action",
    "expr": "SQL condition",
}
"""The filters that can be taken away one by one, and what each is called."""


class ListPages:
    """Routes of the application; `render` makes pages, and `safely` shows errors of the user as one."""

    def __init__(self, queries: Queries, render: Render, safely: Callable[[Page], Page]) -> None:
        self._queries = queries
        self._render = render
        self._safely = safely
        self._saved = SavedFilters(queries.snapshot.path)

    def routes(self) -> list[Route]:
        """The routes."""
        return [
            Route("/run", self._safely(self._conversations)),
            Route("/matrix", self._safely(self._matrix)),
            Route("/filters/save", self._safely(self._save), methods=["POST"]),
            Route("/filters/remove", self._safely(self._remove), methods=["POST"]),
        ]

    def _conversations(self, request: Request) -> Response:
        def find(filters: Filters, page: int) -> dict[str, Any]:
            return {"listing": self._queries.page(filters, page), "columns": chosen(filters.cols)}

        return self._found(request, ("run.html", "list.html"), find)

    def _matrix(self, request: Request) -> Response:
        def find(filters: Filters, page: int) -> dict[str, Any]:
            return {"matrix": matrix_of(self._queries, filters, page)}

        return self._found(request, ("matrix.html", "items.html"), find)

    def _found(
        self,
        request: Request,
        templates: tuple[str, str],
        find: Callable[[Filters, int], dict[str, Any]],
    ) -> Response:
        """A page with the form of filters and what they find, or of it what they find alone."""
        given = request.query_params
        filters = replace(Filters.read(given), cols=told(",".join(given.getlist("cols")).split(",")))
        run = self._queries.run(filters.run)
        if run is None:
            return self._render(request, "error.html", 404, message=f"no run {filters.run!r} in this store")
        part = request.headers.get("hx-target") == "list"
        values: dict[str, Any] = {"problem_": None, "listing": None, "matrix": None, "columns": []}
        try:
            values |= find(filters, number(given.get("page"), 1))
        except InputError as error:
            if not filters.expr:
                raise
            # The form stays, with what was written.
            values["problem_"] = coded(str(error))
        choices = self._queries.choices(filters.run)
        response = self._render(
            request,
            templates[part],
            400 if values["problem_"] and not part else 200,
            run=run,
            filters=filters,
            choices=choices,
            only=_told(filters, choices),
            path=request.url.path,
            longest=MOST,
            **({} if part else self._kept()),
            **values,
        )
        if part and request.headers.get("hx-trigger") == "filters":
            response.headers["HX-Push-Url"] = f"{request.url.path}?{filters.query()}"
        return response

    def _kept(self) -> dict[str, Any]:
        """What the form of filters shows beside the filters."""
        saved, unread = {}, None
        try:
            saved = self._saved.all()
        except InputError as error:
            unread = coded(str(error))
        return {"saved": saved, "unread": unread, "about": self._queries.columns}

    def _save(self, request: Request) -> Response:
        form: Mapping[str, str] = request.state.form
        filters = Filters.read(form)
        self._saved.save(form.get("name", ""), replace(filters, run="").query())
        return _back(form, filters)

    def _remove(self, request: Request) -> Response:
        form: Mapping[str, str] = request.state.form
        self._saved.remove(form.get("name", ""))
        return _back(form, Filters.read(form))


def _back(form: Mapping[str, str], filters: Filters) -> Response:
    path = form.get("path", "")
    return RedirectResponse(f"{path if path in _PATHS else _PATHS[0]}?{filters.query()}", 303)


def _told(filters: Filters, choices: Choices) -> list[tuple[str, str, str]]:
    """The filters that are set: name, what it is called, and the words of its value."""
    named: dict[str, dict[str, str]] = {"target": dict(choices.target), "judge": dict(choices.judge)}
    found = []
    for name, called in _WORDS.items():
        if value := getattr(filters, name):
            plain = value if name in ("q", "item", "expr", "scenario") else value.replace("_", " ")
            found.append((name, called, named.get(name, {}).get(value, plain)))
    return found
