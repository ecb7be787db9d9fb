"""Whether a store is consistent: nothing that belongs together is missing, and hashes match their content."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass

from safemt_client.providers.types import Image, Message, Request, Sampling, request_hash
from safemt_client.results.store.imported import imported_key
from safemt_client.results.store.queries import Queryable

__all__ = ["Check", "check_store"]


@dataclass(frozen=True, slots=True)
class Check:
    """One check: how many rows were checked, how many fail, and an example."""

    name: str
    looked_at: int
    broken: int
    example: str | None = None


_REPLIES = (
    "(SELECT request_hash FROM turns UNION ALL SELECT request_hash FROM calibration_replies "
    "UNION ALL SELECT request_hash FROM anchor_replies)"
)
_LINKS = (
    ("every step has its turn", "steps", "request_hash", "turns", "request_hash"),
    ("every verdict has the reply it judges", "verdicts", "request_hash", _REPLIES, "request_hash"),
    ("every step has its dialogue", "steps", "dialogue_key", "dialogues", "dialogue_key"),
    ("every planned dialogue is in the store", "run_dialogues", "dialogue_key", "dialogues", "dialogue_key"),
    ("every run has its targets", "runs", "run_id", "run_targets", "run_id"),
    (
        "every moderation has its assessment",
        "moderations",
        "assessment_hash",
        "assessments",
        "assessment_hash",
    ),
    ("every moderated turn has its turn", "moderations", "request_hash", "turns", "request_hash"),
    ("every human label has its turn", "human_labels", "request_hash", "turns", "request_hash"),
    ("every anchored reply has its turn", "anchor_replies", "judged_hash", "turns", "request_hash"),
    ("every drawn reply has its turn", "drawn_replies", "request_hash", "turns", "request_hash"),
)


def check_store(reader: Queryable) -> list[Check]:
    """All checks. Reads the whole store; 100,000 turns take some seconds."""
    return [*_links(reader), _attempts(reader), _paid_twice(reader), _hashes(reader), *_imported(reader)]


def _links(reader: Queryable) -> Iterator[Check]:
    for name, table, column, other, key in _LINKS:
        looked, broken, example = reader.query(
            f"""SELECT count(*), count(*) FILTER (o.found IS NULL),
                       any_value(t."{column}") FILTER (o.found IS NULL)
                FROM {table} t
                LEFT JOIN (SELECT DISTINCT "{key}" AS found FROM {other}) o ON o.found = t."{column}" """
        ).rows[0]
        yield Check(name, looked, broken, example)


def _attempts(reader: Queryable) -> Check:
    """Attempts of a request are counted 1, 2, ... in each session, without a gap."""
    looked, broken, example = reader.query(
        """SELECT count(*), count(*) FILTER (gap), any_value(request_hash) FILTER (gap) FROM (
               SELECT request_hash, count(DISTINCT attempt) <> max(attempt) AS gap FROM turns
               WHERE batch_key IS NULL GROUP BY request_hash, session_id)"""
    ).rows[0]
    return Check("attempts are counted without a gap", looked, broken, example)


def _paid_twice(reader: Queryable) -> Check:
    """A request that was answered is not asked again; two answers are what was in flight at a kill."""
    looked, broken, example = reader.query(
        """SELECT count(*), count(*) FILTER (answers > 1), any_value(request_hash) FILTER (answers > 1) FROM (
               SELECT request_hash, count(*) AS answers FROM turns
               WHERE outcome NOT LIKE 'error_%' GROUP BY request_hash)"""
    ).rows[0]
    return Check("no request was answered twice", looked, broken, example)


def _hashes(reader: Queryable) -> Check:
    """Each turn's key is that of what was sent, by a target of its run."""
    looked = broken = 0
    example = None
    for key, messages, rows in reader.query(
        """SELECT t.request_hash, any_value(t.request),
                  list(DISTINCT {'identity': r.identity, 'sampling': r.sampling, 'moderator': r.moderator,
                                 'sample': r.sample})
           FROM turns t JOIN run_targets r ON r.run_id = t.run_id AND r.target_key = t.target_key
           WHERE t.imported_from IS NULL GROUP BY t.request_hash"""
    ).rows:
        looked += 1
        said = _messages(messages)
        # The model under a moderator is asked, and its reply stored, as without one.
        fits = any(
            key
            == request_hash(
                row["identity"],
                Request(said, _sampling(row["sampling"])),
                moderator=moderator,
                sample=row["sample"],
            )
            for row in rows
            for moderator in {row["moderator"], None}
        )
        if not fits:
            broken += 1
            example = example or key
    return Check("every turn's hash matches what was sent", looked, broken, example)


def _imported(reader: Queryable) -> Iterator[Check]:
    """Each imported reply's key is that of its place and content; no check where nothing was imported."""
    looked = broken = 0
    example = None
    for key, *content in reader.query(
        """SELECT DISTINCT t.request_hash, t.target_key, s.dialogue_key, t.request, t.outcome, t.text
           FROM turns t JOIN steps s ON s.request_hash = t.request_hash
           WHERE t.imported_from IS NOT NULL"""
    ).rows:
        looked += 1
        if imported_key("reply", *content) != key:
            broken += 1
            example = example or key
    if looked:
        yield Check("every imported reply's hash matches its content", looked, broken, example)


def _messages(text: str) -> tuple[Message, ...]:
    return tuple(
        Message(
            message["role"],
            message["content"],
            tuple(Image(sha, "", 0, 0, 0, bytes) for sha in message.get("images", ())),
        )
        for message in json.loads(text)
    )


def _sampling(text: str) -> Sampling:
    given = json.loads(text)
    named = {name: given.pop(name, None) for name in ("temperature", "max_tokens", "top_p", "seed")}
    return Sampling(**named, extra=given)
