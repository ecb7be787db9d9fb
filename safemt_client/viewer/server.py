"""The pages: routes of the viewer as a Starlette application."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from safemt_client.providers.errors import InputError
from safemt_client.results.sanitize import coded
from safemt_client.results.sql.docs import questions
from safemt_client.viewer.comments import Comments
from safemt_client.viewer.conversation_page import AS_FILE, ConversationPages
from safemt_client.viewer.desk import Desk
from safemt_client.viewer.downloads import FORMS, written
from safemt_client.viewer.filters import Filters
from safemt_client.viewer.label_pages import LabelPages
from safemt_client.viewer.links import Served
from safemt_client.viewer.list_pages import ListPages
from safemt_client.viewer.pictures import Pictures
from safemt_client.viewer.plots import bundle
from safemt_client.viewer.queries import Queries
from safemt_client.viewer.rendering import Templates
from safemt_client.viewer.results import RunResults
from safemt_client.viewer.results_page import page_of

__all__ = ["CHECKED", "SQL_ROWS", "SQL_SECONDS", "Pages"]

CHECKED = ("/download", AS_FILE)
"""Paths whose GET must come from a page of the viewer, as every request other than GET must."""
SQL_ROWS, SQL_SECONDS = 1_000, 10.0
"""The most rows that the SQL page shows, and how long a statement may take."""
_FILE_ROWS, _FILE_SECONDS = 200_000, 60.0
_CELL = 2_000
_SHOW = "safemt_show"
_STATIC = Path(__file__).parent / "static"


class Pages:
    """The application on one store."""

    def __init__(self, queries: Queries, desk: Desk) -> None:
        self._queries = queries
        self._snapshot = queries.snapshot
        self._pictures = Pictures(queries)
        self._results_of = RunResults(queries)
        self._comments = Comments(desk)
        self._conversations = ConversationPages(queries, self._comments, self._render, self._safely)
        self._people = LabelPages(queries, desk, self._pictures, self._render, self._safely)
        self._lists = ListPages(queries, self._render, self._safely)
        self._examples = questions()
        self._templates = Templates()
        self._link = Served()

    def application(self) -> Starlette:
        """The routes, without access control."""
        return Starlette(
            routes=[
                Route("/", self._safely(self._runs)),
                *self._lists.routes(),
                Route("/results", self._safely(self._results)),
                Route("/vega.js", self._vega),
                *self._conversations.routes(),
                Route("/sql", self._safely(self._sql), methods=["GET", "POST"]),
                Route("/sql/download", self._safely(self._sql_download), methods=["POST"]),
                Route("/download", self._safely(self._download)),
                Route("/image", self._safely(self._image)),
                Route("/status", self._status),
                Route("/comment", self._safely(self._comments.write), methods=["POST"]),
                *self._people.routes(),
                Route("/settings", self._settings, methods=["POST"]),
                Mount("/static", StaticFiles(directory=_STATIC, follow_symlink=True)),
            ]
        )

    def have_ready(self) -> None:
        """Compute the results of the newest run, if that takes a while, for whoever opens the viewer."""
        if self._snapshot.is_large and not self._snapshot.live:
            with suppress(InputError):  # the viewer is closing, or the page will say what is wrong
                for run in self._queries.runs()[:1]:
                    self._results_of.of(run["run_id"])

    def _safely(self, page: Callable[[Request], Response]) -> Callable[[Request], Response]:
        """Show errors of the user or the store as a page with one line."""

        def answer(request: Request) -> Response:
            self._snapshot.follow()
            try:
                return page(request)
            except InputError as error:
                return self._render(request, "error.html", 400, message=str(error))

        return answer

    def _runs(self, request: Request) -> Response:
        return self._render(request, "runs.html", runs=self._queries.runs())

    def _results(self, request: Request) -> Response:
        filters = Filters(run=Filters.read(request.query_params).run)
        run = self._queries.run(filters.run)
        if run is None:
            return self._render(request, "error.html", 404, message=f"no run {filters.run!r} in this store")
        found = self._results_of.of(filters.run)
        shown = page_of(found, filters, request.query_params.getlist("t"), self._link)
        return self._render(request, "results.html", run=run, filters=filters, found=found, **shown)

    def _vega(self, request: Request) -> Response:
        script = bundle()
        if script is None:
            script = "// pip install 'safemt-client[view]' brings the plots\n"
        return Response(script, media_type="text/javascript")

    def _sql(self, request: Request) -> Response:
        result, error, question = None, None, request.query_params.get("q", "")
        if request.method == "POST":
            question = request.state.form.get("q", "")
            try:
                with self._queries.reader() as reader:
                    result = reader.query(question, limit=SQL_ROWS + 1, timeout_s=SQL_SECONDS)
            except InputError as problem:
                error = coded(str(problem))
        part = request.headers.get("hx-target") == "answer"
        views = [] if part else self._documented()
        return self._render(
            request,
            "answer.html" if part else "sql.html",
            question=question,
            result=result,
            error=error,
            rows=SQL_ROWS,
            seconds=SQL_SECONDS,
            cell=_CELL,
            views=views,
            examples=[] if part else self._examples,
        )

    def _documented(self) -> list[dict[str, Any]]:
        """Views and tables with their comments and columns."""
        return self._queries.local(
            """SELECT o.name, o.about, o.kind,
                      list({'name': c.column_name, 'about': c.comment} ORDER BY c.column_index) AS columns
               FROM (SELECT view_name AS name, comment AS about, 'view' AS kind, schema_name
                     FROM duckdb_views()
                     WHERE NOT internal AND comment IS NOT NULL
                     UNION ALL
                     SELECT table_name, comment, 'table', schema_name FROM duckdb_tables()
                     WHERE comment IS NOT NULL) o
               JOIN duckdb_columns() c ON c.table_name = o.name AND c.schema_name = o.schema_name
               GROUP BY ALL ORDER BY o.kind DESC, o.name"""
        )

    def _sql_download(self, request: Request) -> Response:
        form = request.state.form
        with self._queries.reader() as reader:
            result = reader.query(form.get("q", ""), limit=_FILE_ROWS, timeout_s=_FILE_SECONDS)
        return _file("query", form.get("as", "csv"), result.columns, result.rows)

    def _download(self, request: Request) -> Response:
        filters = Filters.read(request.query_params)
        columns, rows = self._queries.everything(filters, _FILE_ROWS)
        return _file(f"run-{filters.run[:12]}", request.query_params.get("as", "csv"), columns, rows)

    def _image(self, request: Request) -> Response:
        found = self._pictures.find(request.query_params.get("run", ""), request.query_params.get("sha", ""))
        if found is None:
            return Response("the image was moved or has changed\n", 404, media_type="text/plain")
        return Response(found[0], media_type=found[1])

    def _status(self, request: Request) -> Response:
        self._snapshot.follow()
        response = self._render(request, "status.html")
        if request.query_params.get("v") == self._state():
            return Response(status_code=204)
        response.headers["HX-Trigger"] = "store-changed"
        return response

    def _state(self) -> str:
        return f"{self._snapshot.version}-{int(self._snapshot.live)}-{int(self._snapshot.error is not None)}"

    def _settings(self, request: Request) -> Response:
        form = request.state.form
        back = form.get("back", "/")
        # A path of this server: anything else could lead away from it.
        safe = back.startswith("/") and not back.startswith(("//", "/\\")) and "\n" not in back
        response = RedirectResponse(back if safe else "/", 303)
        response.set_cookie(
            _SHOW, "1" if form.get("show") == "1" else "0", 31_536_000, httponly=True, samesite="strict"
        )
        return response

    def _render(self, request: Request, name: str, status: int = 200, /, **values: Any) -> Response:
        here = request.url.path + (f"?{request.url.query}" if request.url.query else "")
        page = self._templates.page(
            name,
            **values,
            link=self._link,
            show=request.cookies.get(_SHOW) == "1",
            here=here if request.method == "GET" else request.url.path,
            store=str(self._snapshot.path),
            state=self._state(),
            live=self._snapshot.live,
            facts=self._snapshot.facts is not None,
            problem=self._snapshot.error,
        )
        return Response(page, status, media_type="text/html; charset=utf-8")


def _file(name: str, form: str, columns: list[str], rows: list[tuple[Any, ...]]) -> Response:
    if form not in FORMS:
        raise InputError(f"download: {form!r} is not one of {', '.join(FORMS)}")
    clean = "".join(c for c in name if c.isalnum() or c == "-")
    return Response(
        written(form, columns, rows),
        media_type=FORMS[form],
        headers={"Content-Disposition": f'attachment; filename="{clean}.{form}"'},
    )
