"""What people write about conversations."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from safemt_client.providers.errors import InputError
from safemt_client.results.store.rows import CommentRow
from safemt_client.viewer.annotators import annotator_of, checked, remember
from safemt_client.viewer.desk import Desk

__all__ = ["Comments"]

_LONGEST = 4_000


class Comments:
    """Takes and shows comments."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    def write(self, request: Request) -> Response:
        """Write or remove a comment; back to the conversation."""
        form = request.state.form
        name = annotator_of(request) or checked(form.get("name", ""))
        run, target, dialogue = place = [form.get(field, "") for field in ("run", "t", "d")]
        text, known = form.get("text", "").strip(), form.get("id", "")
        if len(text) > _LONGEST:
            raise InputError(f"the comment is too long: at most {_LONGEST:,} characters")
        with self._desk.people() as people:
            sql = "SELECT 1 FROM conversation_index WHERE run_id = ? AND target_key = ? AND dialogue_key = ?"
            if not people.query(f"{sql} LIMIT 1", place).rows:
                raise InputError("no such conversation in this store")
            if known:
                sql = "SELECT 1 FROM current_comments WHERE comment_id = ? AND author = ?"
                if not people.query(sql, [known, name]).rows:
                    raise InputError("only who wrote a comment can remove it")
        if text or known:
            key = known or uuid.uuid4().hex[:12]
            self._desk.say(CommentRow(key, run, target, dialogue, name, text, datetime.now(UTC)))
        address = urlencode({"run": run, "t": target, "d": dialogue})
        response = RedirectResponse(f"/conversation?{address}#comments", 303)
        remember(response, name)
        return response

    def of(self, target_key: str, dialogue_key: str) -> list[dict[str, Any]]:
        """What people wrote about a conversation, the earliest first."""
        with self._desk.people() as people:
            return people.dicts(
                "SELECT comment_id, run_id, author, text, recorded_at FROM current_comments "
                "WHERE target_key = ? AND dialogue_key = ? ORDER BY recorded_at, comment_id",
                [target_key, dialogue_key],
            )
