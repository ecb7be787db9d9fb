"""One conversation with all that is known about it: messages, replies, verdicts, assessments, attempts."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from safemt_client.results.store.narrowed import about_requests
from safemt_client.results.store.reader import Reader
from safemt_client.viewer.queries import Queries, any_of

__all__ = ["CUT", "Conversation", "Key", "Message", "Turn", "load", "load_many"]

CUT = 20_000
"""Longer texts are shown up to here, with a link to all of it."""
Row = dict[str, Any]
Key = tuple[str, str, int]
"""Of a conversation in a run: target, dialogue and sample."""


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
    key = (target_key, dialogue_key, sample)
    return load_many(queries, run_id, [key]).get(key)


def load_many(queries: Queries, run_id: str, keys: Sequence[Key]) -> dict[Key, Conversation]:
    """Conversations of a run by key; those that it does not have are missing.

    The store is asked for all of them at once: some hundreds at a time are quick, and fit in memory.
    """
    wanted, some = set(keys), [[key[0] for key in keys], [key[1] for key in keys]]
    of_these = "(SELECT unnest(?::VARCHAR[]) AS target_key, unnest(?::VARCHAR[]) AS dialogue_key)"
    every: dict[tuple[str, str], list[Row]] = defaultdict(list)
    for row in queries.local(
        f"SELECT * FROM conversation_index SEMI JOIN {of_these} USING (target_key, dialogue_key) "
        "WHERE run_id = ? ORDER BY decides DESC, judge, sample",
        [*some, run_id],
    ):
        every[row["target_key"], row["dialogue_key"]].append(row)
    steps: dict[Key, list[Row]] = defaultdict(list)
    for row in queries.local(
        "SELECT DISTINCT target_key, dialogue_key, coalesce(sample, 1) AS sample, turn, request_hash "
        f"FROM steps SEMI JOIN {of_these} USING (target_key, dialogue_key) WHERE run_id = ? ORDER BY turn",
        [*some, run_id],
    ):
        key = (row["target_key"], row["dialogue_key"], row["sample"])
        if key in wanted:
            steps[key].append(row)
    with queries.reader() as reader:
        dialogues = {
            row["dialogue_key"]: row
            for row in _rows(
                reader,
                "SELECT DISTINCT ON (dialogue_key) dialogue_key, messages, question, source, method, extra "
                f"FROM dialogues WHERE dialogue_key {any_of(set(some[1]))}",
                list(set(some[1])),
            )
        }
        turns = _turns(reader, run_id, steps)
    found = {}
    for key in wanted:
        target_key, dialogue_key, sample = key
        known = every[target_key, dialogue_key]
        head = next((row for row in known if row["sample"] == sample), None)
        if head is not None:
            own = [row for row in known if row["judge_key"] == head["judge_key"]]
            found[key] = _put_together(head, own, dialogues.get(dialogue_key), turns.get(key, []))
    return found


def _put_together(head: Row, samples: list[Row], dialogue: Row | None, turns: list[Turn]) -> Conversation:
    found = Conversation(
        head | (dialogue or {}),
        [],
        turns,
        bool(turns),
        change=head["change"],
        newly_refused=head["newly_refused"],
        samples=samples if len(samples) > 1 else [],
    )
    if found.last is not None:
        found.messages = _messages(found.last.reply["request"])
        found.policy = next((a["policy"] for a in found.last.assessments if a["policy"]), None)
    elif dialogue:
        found.messages = _messages(dialogue["messages"])
    return found


def _messages(text: str | None) -> list[Message]:
    """The messages of a request; none of one that facts are about."""
    found, turn = [], 0
    for message in json.loads(text or "[]"):
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


def _turns(reader: Reader, run_id: str, steps: dict[Key, list[Row]]) -> dict[Key, list[Turn]]:
    """The turns of each conversation, from its steps."""
    hashes = sorted({step["request_hash"] for several in steps.values() for step in several})
    if not hashes:
        return {}
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
    said = _said(reader, run_id, list(by_hash), sorted({key[1] for key in steps}))
    assessments = defaultdict(list)
    for row in _assessments(reader, run_id, hashes):
        assessments[row["request_hash"]].append(row)
    found: dict[Key, list[Turn]] = {}
    for key, several in steps.items():
        for step in several:
            request_hash = step["request_hash"]
            attempts = by_hash.get(request_hash, [])
            if not attempts:
                continue
            reply = current[request_hash]
            model_hash = reply["model_request_hash"]
            turn = Turn(step["turn"], reply, current.get(model_hash, reply), attempts)
            if model_hash != request_hash:
                turn.model_attempts = by_hash.get(model_hash, [])
            # Of a moderated turn, people and judges may have read the model's own reply.
            about = [
                row
                for one in dict.fromkeys((request_hash, reply["judged_hash"]))
                for row in said[key[1], one]
            ]
            _add_what_was_said(turn, request_hash, about, assessments[request_hash])
            found.setdefault(key, []).append(turn)
    return found


def _said(
    reader: Reader, run_id: str, hashes: list[str], dialogue_keys: list[str]
) -> dict[tuple[str, str | None], list[Row]]:
    """Verdicts and people's labels by dialogue and request, verdicts first."""
    rows = _rows(
        reader,
        f"""SELECT j.name AS judge, j.identity, v.* FROM {about_requests("final_verdicts", len(hashes))} v
            JOIN run_judges j ON j.run_id = ? AND j.judge_key = v.judge_key
            WHERE v.dialogue_key IN (SELECT unnest(?::VARCHAR[])) ORDER BY j.position, j.name""",
        [*hashes, run_id, dialogue_keys],
    )
    rows += _rows(
        reader,
        """SELECT request_hash, dialogue_key, reply_hash, annotator, label, refusal_kind, note, adjudicated,
                  recorded_at
           FROM current_human_labels
           WHERE request_hash IN (SELECT unnest(?::VARCHAR[]))
             AND dialogue_key IN (SELECT unnest(?::VARCHAR[]))
           ORDER BY adjudicated DESC, annotator""",
        [hashes, dialogue_keys],
    )
    found: dict[tuple[str, str | None], list[Row]] = defaultdict(list)
    for row in rows:
        found[row["dialogue_key"], row["request_hash"]].append(row)
    return found


def _add_what_was_said(turn: Turn, request_hash: str, rows: list[Row], assessments: list[Row]) -> None:
    """Add to a turn the verdicts, labels and assessments of its reply."""
    judged, said = turn.reply["judged_hash"], turn.reply["reply_hash"]
    # There are no verdicts on an error, nor on a text that is not known.
    about = [row for row in rows if said is not None and row["reply_hash"] == said]
    turn.verdicts = [row for row in about if "judge" in row and row["request_hash"] == judged]
    turn.people = [
        row for row in about if "annotator" in row and row["request_hash"] in (judged, request_hash)
    ]
    # What a guard held back is the model's own reply.
    shown_to_guard = said if judged == turn.reply["model_request_hash"] else turn.model["reply_hash"]
    turn.assessments = [
        row for row in assessments if row["stage"] == "input" or row["reply_hash"] == shown_to_guard
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
