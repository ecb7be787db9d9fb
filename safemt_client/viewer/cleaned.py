"""What of a run is put into files that others get: with or without texts, as exports have them."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from safemt_client.results.exports.redaction import Redaction
from safemt_client.results.exports.tables import TABLES
from safemt_client.results.sanitize import without_secrets
from safemt_client.viewer.conversation import Conversation, Message, Turn
from safemt_client.viewer.results import Results

__all__ = ["Cleaned"]

_KINDS = {column.name: column.kind for table in TABLES for column in table.columns}
_KEPT = {"int", "float", "bool", "time", "id"}
_RAW = ("request", "raw", "messages", "extra")
# Of the viewer's own rows: counts, hashes of requests and words of this program.
_OWN = {
    *("decides", "split", "human", "change", "newly_refused", "last_asked", "at", "n", "first"),
    *("attempt", "status_code", "model_request_hash", "position", "licence", "role"),
}
Row = dict[str, Any]


class Cleaned:
    """Without a redaction only raw requests and responses, and secrets in addresses, are left out."""

    def __init__(self, redaction: Redaction | None) -> None:
        self._redaction = redaction

    @property
    def redact(self) -> bool:
        """Whether texts are left out."""
        return self._redaction is not None

    def row(self, row: Row) -> Row:
        """A row with what may be shown; what may not is None."""
        found = {name: self._value(name, value) for name, value in row.items()}
        if self.redact and row.get("state", "unscored") != "unscored":
            found["reason"] = None
        return found

    def conversation(self, of: Conversation) -> Conversation:
        """A conversation likewise, its messages told by their lengths where texts are left out."""
        return Conversation(
            self.row(of.head),
            [self._message(message, of.asked) for message in of.messages],
            [self._turn(turn) for turn in of.turns],
            of.asked,
            policy=of.policy and self.text(of.policy),
            change=of.change,
            newly_refused=of.newly_refused,
            samples=[self.row(row) for row in of.samples],
        )

    def results(self, of: Results) -> Results:
        """The figures, with the names as they may be shown."""

        def named(rows: Any) -> Any:
            return [row._replace(target=without_secrets(row.target)) for row in rows]

        return replace(
            of,
            rates=named(of.rates),
            scenarios=named(of.scenarios),
            indices=named(of.indices),
            over_refusal=[replace(row, target=without_secrets(row.target)) for row in of.over_refusal],
            effects=[row | {"target": without_secrets(row["target"])} for row in of.effects],
            spend=[replace(row, who=without_secrets(row.who)) for row in of.spend],
            unfinished=named(of.unfinished),
        )

    def text(self, text: str) -> str:
        """A text, or how long it is."""
        return f"[left out: {len(text):,} characters]" if self.redact else text

    def _message(self, message: Message, asked: bool) -> Message:
        if not self.redact:
            return message
        # Before anything has been sent, images are told by their paths.
        return replace(message, text=self.text(message.text), images=message.images if asked else ())

    def _turn(self, turn: Turn) -> Turn:
        many = {
            name: [self.row(row) for row in getattr(turn, name)]
            for name in ("attempts", "model_attempts", "verdicts", "people", "assessments")
        }
        reply, model = self.row(turn.reply), self.row(turn.model)
        if self.redact and turn.reply["text"]:
            reply["text"] = self.text(turn.reply["text"])
        return replace(turn, reply=reply, model=model, **many)  # type: ignore[arg-type]

    def _value(self, name: str, value: Any) -> Any:
        if value is None or name in _RAW:
            return None
        kind = _KINDS.get(name)
        if kind in ("name", "json"):
            value = without_secrets(str(value))
        redaction = self._redaction
        if redaction is None or kind in _KEPT or name in _OWN or kind == "name":
            return value
        makers = {
            "label": redaction.label,
            "labels": lambda words: json.dumps([word for word in json.loads(words) if redaction.label(word)]),
            "finish": redaction.finish,
            "model": redaction.model,
            "person": redaction.annotator,
            "json": redaction.settings,
        }
        return makers[kind](value) if kind in makers else None
