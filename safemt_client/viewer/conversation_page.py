"""The page of a conversation: by itself, or beside another target's conversation of the same dialogue."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from safemt_client.results.exports.files import file_name
from safemt_client.viewer.annotators import annotator_of
from safemt_client.viewer.comments import Comments
from safemt_client.viewer.conversation import CUT, Conversation, load, load_many
from safemt_client.viewer.filters import Filters
from safemt_client.viewer.formatted import Formatter
from safemt_client.viewer.layout import exchanges
from safemt_client.viewer.pages import Page, Render, number
from safemt_client.viewer.queries import Queries
from safemt_client.viewer.record import as_json, record_of

__all__ = ["AS_FILE", "ConversationPages", "shown_of"]

AS_FILE = "/conversation.json"


def shown_of(
    found: Conversation,
    other: Conversation | None = None,
    *,
    full: bool = False,
    markdown: bool = False,
    q: str = "",
) -> dict[str, Any]:
    """What the templates show of a conversation, with another one beside it or without.

    `full`: also the whole of long texts. `markdown`: turns and replies are formatted. `q`: the text that is
    marked where it occurs.
    """
    columns = [found] if other is None else [found, other]
    return {
        "found": found,
        "columns": columns,
        "exchanges": exchanges(*columns),
        "full": full,
        "markdown": Formatter() if markdown else None,
        "q": q,
        "cut": CUT,
    }


class ConversationPages:
    """Routes of the application; `render` makes pages, and `safely` shows errors of the user as one."""

    def __init__(
        self, queries: Queries, comments: Comments, render: Render, safely: Callable[[Page], Page]
    ) -> None:
        self._queries = queries
        self._comments = comments
        self._render = render
        self._safely = safely

    def routes(self) -> list[Route]:
        """The routes."""
        return [
            Route("/conversation", self._safely(self._page)),
            Route(AS_FILE, self._safely(self._file)),
        ]

    def _page(self, request: Request) -> Response:
        given = request.query_params
        keys = (given.get("run", ""), given.get("t", ""), given.get("d", ""))
        sample = number(given.get("sample"), 1)
        beside = given.get("beside", "")
        # The store is opened and asked once for both.
        wanted = [(target, keys[2], sample) for target in (keys[1], beside) if target]
        both = load_many(self._queries, keys[0], wanted)
        found, other = both.get((keys[1], keys[2], sample)), both.get((beside, keys[2], sample))
        if found is None:
            return self._render(request, "error.html", 404, message="no such conversation in this store")
        place = self._place(given)
        return self._render(
            request,
            "conversation.html",
            **shown_of(
                found,
                other,
                full=given.get("full") == "1",
                markdown=given.get("md") == "1",
                q=place["filters"].q,
            ),
            **place,
            beside=beside,
            targets=self._targets(*keys, sample),
            comments=self._comments.of(keys[1], keys[2]),
            annotator=annotator_of(request),
            address=lambda **changes: (
                "/conversation?"
                + urlencode({k: v for k, v in {**given, **changes}.items() if v not in ("", None)})
            ),
        )

    def _file(self, request: Request) -> Response:
        """The conversation as a JSON file."""
        given = request.query_params
        keys = (given.get("run", ""), given.get("t", ""), given.get("d", ""))
        found = load(self._queries, *keys, number(given.get("sample"), 1))
        if found is None:
            return self._render(request, "error.html", 404, message="no such conversation in this store")
        name = file_name(f"{found.head['item_id']}-{found.head['length']}-{found.head['target']}")
        return Response(
            as_json(record_of(self._queries, found, self._comments.of(keys[1], keys[2]))),
            media_type="application/json",
            headers={"Content-Disposition": f'attachment; filename="{name}.json"'},
        )

    def _place(self, given: Mapping[str, str]) -> dict[str, Any]:
        """Where the conversation stands in the list that it was opened from; `kept` goes into forms."""
        filters, at = Filters.read(given), number(given.get("at"), -1)
        kept = {one.name: getattr(filters, one.name) for one in fields(filters) if one.name != "run"}
        if at >= 0:
            kept["at"] = str(at)
        if given.get("md") == "1":
            kept["md"] = "1"
        return {
            "filters": filters,
            "at": at,
            "kept": {name: value for name, value in kept.items() if value},
            "around": self._queries.beside(filters, at) if at >= 0 else {"before": None, "after": None},
        }

    def _targets(self, run_id: str, target_key: str, dialogue_key: str, sample: int) -> list[dict[str, Any]]:
        """The other targets of the run with their labels of this dialogue; the model alone first."""
        return self._queries.local(
            """SELECT i.target_key, i.target, coalesce(i.label, i.state) AS label,
                      b.baseline_key IS NOT NULL AS alone
               FROM conversation_index i
               LEFT JOIN baselines b
                 ON b.run_id = i.run_id AND b.target_key = ? AND b.baseline_key = i.target_key
               WHERE i.run_id = ? AND i.dialogue_key = ? AND i.decides AND i.target_key <> ?
                 AND i.sample = ?
               ORDER BY alone DESC, i.target""",
            [target_key, run_id, dialogue_key, target_key, sample],
        )
