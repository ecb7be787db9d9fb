"""One conversation with all that is known about it: messages, replies, verdicts, assessments, attempts."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from safemt_client.results.store.narrowed import about_requests
from safemt_client.results.store.reader import Reader
from safemt_client.viewer.queries import Queries, any_of

__all__ = ["CUT", "Conversation", "Message", "Turn", "load"]

CUT = 20_000
"""Longer texts are shown up to here, with a link to all of it."""
Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Message:
    """A message as it was sent. `images` are SHA-256 hashes, or paths where nothing has been sent yet."""

    role: str
    text: str
    images: tuple[str, ...] = ()
    turn: int = 0


@dataclass(slots=True)
class Turn:
    """One request of the conversation: the observation, all attempts, and what was said about the reply."""

    number: int
    reply: Row
    """The attempt that counts, as in the view current_turns."""
    model: Row
    """The attempt that the model answered: for a moderated turn, not the reply's own."""
    attempts: list[Row]
    model_attempts: list[Row] = field(default_factory=list)
    """For a moderated turn: attempts at the request that was sent to the model."""
    verdicts: list[Row] = field(default_factory=list)
    people: list[Row] = field(default_factory=list)
    assessments: list[Row] = field(default_factory=list)


@dataclass(slots=True)
class Conversation:
    """A dialogue under one target."""

    head: Row
    messages: list[Message]
    turns: list[Turn]
    asked: bool
    policy: str | None = None
    """The text that a moderator put before the model."""
    change: str | None = None
    newly_refused: bool = False
    samples: list[Row] = field(default_factory=list)
    """Of a run with several samples: each of them, with its label or state."""

    @property
    def last(self) -> Turn | None:
        """The last turn."""
        return self.turns[-1] if self.turns else None


def load(
    queries: Queries, run_id: str, target_key: str, dialogue_key: str, sample: int = 1
) -> Conversation | None:
    """The conversation, or None if the run has none like this."""
    every = queries.local(
        "SELECT * FROM conversation_index WHERE run_id = ? AND target_key = ? AND dialogue_key = ? "
        "ORDER BY decides DESC, judge, sample",
        [run_id, target_key, dialogue_key],
    )
    rows = [row for row in every if row["sample"] == sample]
    if not rows:
        return None
    steps = queries.local(
        "SELECT DISTINCT turn, request_hash FROM steps "
        "WHERE run_id = ? AND target_key = ? AND dialogue_key = ? AND coalesce(sample, 1) = ? ORDER BY turn",
        [run_id, target_key, dialogue_key, sample],
    )
    with queries.reader() as reader:
        dialogue = _rows(
            reader,
            "SELECT messages, question, source, method, extra FROM dialogues WHERE dialogue_key = ? LIMIT 1",
            [dialogue_key],
        )
        turns = _turns(reader, run_id, dialogue_key, steps)
    head = rows[0] | (dialogue[0] if dialogue else {})
    found = Conversation(
        head, [], turns, bool(turns), change=head["change"], newly_refused=head["newly_refused"]
    )
    own = [row for row in every if row["judge_key"] == head["judge_key"]]
    found.samples = own if len(own) > 1 else []
    if found.last is not None:
        sent = _messages(found.last.reply["request"])
        found.policy = next((a["policy"] for a in found.last.assessments if a["policy"]), None)
    else:
        sent = _messages(dialogue[0]["messages"]) if dialogue else []
    found.messages = sent
    return found


def _messages(text: str) -> list[Message]:
    found, turn = [], 0
    for message in json.loads(text):
        turn += message["role"] == "user"
        content = message.get("content")
        found.append(
            Message(
                str(message["role"]),
                content if isinstance(content, str) else json.dumps(content, ensure_ascii=False),
                tuple(str(image) for image in message.get("images") or ()),
                turn,
            )
        )
    return found


def _turns(reader: Reader, run_id: str, dialogue_key: str, steps: list[Row]) -> list[Turn]:
    hashes = [step["request_hash"] for step in steps]
    if not hashes:
        return []
    by_hash = _attempts(reader, hashes)
    model = {
        attempt["model_request_hash"]
        for attempts in by_hash.values()
        for attempt in attempts
        if attempt["model_request_hash"]
    }
    by_hash |= _attempts(reader, sorted(model - set(by_hash))) if model - set(by_hash) else {}
    current = {
        row["request_hash"]: row
        for row in _rows(
            reader, f"SELECT * FROM {about_requests('current_turns', len(by_hash))}", list(by_hash)
        )
    }
    verdicts = _rows(
        reader,
        f"""SELECT j.name AS judge, j.identity, v.* FROM {about_requests("final_verdicts", len(by_hash))} v
            JOIN run_judges j ON j.run_id = ? AND j.judge_key = v.judge_key
            WHERE v.dialogue_key = ? ORDER BY j.position, j.name""",
        [*by_hash, run_id, dialogue_key],
    )
    people = _rows(
        reader,
        """SELECT request_hash, reply_hash, annotator, label, refusal_kind, note, adjudicated, recorded_at
           FROM current_human_labels
           WHERE request_hash IN (SELECT unnest(?::VARCHAR[])) AND dialogue_key = ?
           ORDER BY adjudicated DESC, annotator""",
        [list(by_hash), dialogue_key],
    )
    assessments = _assessments(reader, run_id, hashes)
    found = []
    for step in steps:
        attempts = by_hash.get(step["request_hash"], [])
        if not attempts:
            continue
        reply = current[step["request_hash"]]
        model_hash = reply["model_request_hash"]
        turn = Turn(step["turn"], reply, current.get(model_hash, reply), attempts)
        if model_hash != step["request_hash"]:
            turn.model_attempts = by_hash.get(model_hash, [])
        _add_what_was_said(turn, step["request_hash"], verdicts, people, assessments)
        found.append(turn)
    return found


def _add_what_was_said(
    turn: Turn, request_hash: str, verdicts: list[Row], people: list[Row], assessments: list[Row]
) -> None:
    """Add to a turn the verdicts, labels and assessments of its reply."""
    judged, said = turn.reply["judged_hash"], turn.reply["reply_hash"]
    # There are no verdicts on an error, nor on a text that is not known.
    about = [row for row in (*verdicts, *people) if said is not None and row["reply_hash"] == said]
    turn.verdicts = [row for row in about if "judge" in row and row["request_hash"] == judged]
    turn.people = [
        row for row in about if "annotator" in row and row["request_hash"] in (judged, request_hash)
    ]
    # What a guard held back is the model's own reply.
    shown_to_guard = said if judged == turn.reply["model_request_hash"] else turn.model["reply_hash"]
    turn.assessments = [
        row
        for row in assessments
        if row["request_hash"] == request_hash
        and (row["stage"] == "input" or row["reply_hash"] == shown_to_guard)
    ]


def _assessments(reader: Reader, run_id: str, hashes: list[str]) -> list[Row]:
    """The guards' assessments of these requests, each with the action that the moderator took."""
    shown = [
        row["assessment_hash"]
        for row in _rows(
            reader,
            f"SELECT DISTINCT assessment_hash FROM moderations WHERE request_hash {any_of(hashes)}",
            hashes,
        )
    ]
    return _rows(
        reader,
        f"""SELECT m.name AS moderator, m.guard, m.identity, m.licence, w.request_hash, w.stage, w.turn,
                  w.action, w.policy, w.waited_s, a.verdict, a.intent, a.categories, a.scenarios,
                  a.confidence, a.refusal, a.raw, a.reply_hash, a.error, a.latency_s, a.cost_usd
           FROM (SELECT * FROM moderations WHERE request_hash IN (SELECT unnest(?::VARCHAR[]))
                 QUALIFY row_number() OVER (PARTITION BY request_hash, moderator_key, stage, turn,
                                                CASE WHEN stage = 'output' THEN assessment_hash END
                                            ORDER BY recorded_at DESC) = 1) w
           JOIN run_moderators m ON m.run_id = ? AND m.moderator_key = w.moderator_key
           LEFT JOIN (SELECT * FROM current_assessments WHERE assessment_hash {any_of(shown)}) a
                  ON a.assessment_hash = w.assessment_hash
           ORDER BY w.turn, w.stage""",
        [hashes, run_id, *shown],
    )


def _attempts(reader: Reader, hashes: list[str]) -> dict[str, list[Row]]:
    found: dict[str, list[Row]] = {}
    for row in _rows(
        reader,
        "SELECT * FROM turns WHERE request_hash IN (SELECT unnest(?::VARCHAR[])) ORDER BY started_at",
        [hashes],
    ):
        found.setdefault(row["request_hash"], []).append(row)
    return found


def _rows(reader: Reader, sql: str, values: list[Any]) -> list[Row]:
    found = reader.query(sql, values)
    return [dict(zip(found.columns, row, strict=True)) for row in found.rows]
