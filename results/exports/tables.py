"""The tables that an export consists of: what is asked of the store, and which columns are texts."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Literal, get_args

from safemt_client.results.exports.redaction import Redaction
from safemt_client.results.sanitize import without_secrets
from safemt_client.results.scores.collect import deciding_judge
from safemt_client.results.scores.views import samples_of
from safemt_client.results.store.queries import Queryable

__all__ = ["TABLES", "Column", "Dump", "Kind", "Records", "Table"]

Kind = Literal[
    "id",
    "name",
    "text",
    "label",
    "labels",
    "finish",
    "model",
    "person",
    "int",
    "float",
    "bool",
    "time",
    "json",
    "messages",
]
"""What is in a column.

`id` is a key, a hash or a word of this program; `name` was given by the user; `text` is what a model, a
person or the data said, and is what --redact leaves out. `label` and `labels` (a list) are a judge's or
guard's words for a kind of harm, `finish` and `model` an endpoint's words, `person` is who labelled.
"""
Records = Iterable[list[dict[str, Any]]]
"""Rows by column, in chunks."""
_DIALOGUES_AT_ONCE = 1000
_KINDS: tuple[Kind, ...] = get_args(Kind)


@dataclass(frozen=True, slots=True)
class Column:
    """A column of an export. Of kind `text` it is missing where texts are left out."""

    name: str
    kind: Kind


@dataclass(frozen=True, slots=True)
class Table:
    """A table of an export.

    `sql` has a row for each row, its columns in order; it takes the run's id as $run, the deciding judge's
    key as $judge and, where it is asked for some dialogues at a time, their keys as $dialogues.
    """

    name: str
    about: str
    columns: tuple[Column, ...]
    sql: str

    def of(self, samples: int) -> Table:
        """The table of a run with so many samples: with one, it does not say which."""
        counted = samples > 1 or self.columns[-1].name != "sample"
        return self if counted else replace(self, columns=self.columns[:-1])

    def kept(self, redact: bool) -> tuple[Column, ...]:
        """The columns that are written."""
        return tuple(column for column in self.columns if not (redact and column.kind == "text"))


def _columns(text: str) -> tuple[Column, ...]:
    """Columns from `name:kind` words; without a kind it is `id`."""
    found = []
    for word in text.split():
        name, _, given = word.partition(":")
        kind = next(kind for kind in _KINDS if kind == (given or "id"))
        found.append(Column(name, kind))
    return tuple(found)


_SOME = "IN ($dialogues)"
_ONE_DIALOGUE = "(SELECT DISTINCT ON (dialogue_key) * FROM dialogues)"

CONVERSATIONS = Table(
    "conversations",
    "A planned dialogue under a target, with the label of the judge that decides",
    _columns(
        "run_id target:name target_key judge:name judge_key dialogue_key item_id length:int scenario source "
        "method benign:bool question:text turn:int outcome state label reason detail:text "
        "refusal:bool refusal_kind refusal_rule category:label severity:int specificity:int "
        "confidence:float confidence_kind by_guard:bool intervention moderator detected:bool "
        "first_detected_turn:int request_hash reply:text reply_length:int explanation:text latency_s:float "
        "prompt_tokens:int completion_tokens:int cost_usd:float imported_from:name condition "
        "paired_length:int sample:int"
    ),
    f"""SELECT c.run_id, c.target, c.target_key, c.judge, c.judge_key, c.dialogue_key, c.item_id, c.length,
               c.scenario, c.source, c.method, c.benign, d.question, c.turn, c.outcome, c.state, c.label,
               CASE WHEN c.state = 'unscored' THEN c.reason END,
               CASE WHEN c.state <> 'unscored' THEN c.reason END,
               c.refusal, c.refusal_kind, c.refusal_rule, c.category, c.severity, c.specificity, c.confidence,
               c.confidence_kind, c.by_guard, c.intervention, c.moderator, g.detected,
               g.first_detected_turn, c.request_hash, c.text, length(c.text), c.explanation, r.latency_s,
               r.prompt_tokens, r.completion_tokens, r.cost_usd, c.imported_from, c.condition,
               c.paired_length, c.sample
        FROM every_conversation c
        JOIN {_ONE_DIALOGUE} d USING (dialogue_key)
        LEFT JOIN (SELECT target_key, dialogue_key, sample, sum(latency_s) AS latency_s,
                          sum(prompt_tokens)::BIGINT AS prompt_tokens,
                          sum(completion_tokens)::BIGINT AS completion_tokens,
                          CASE WHEN count(cost_usd) = count(*) THEN sum(cost_usd) END AS cost_usd
                   FROM replies WHERE run_id = $run AND dialogue_key {_SOME} GROUP BY ALL) r
               ON r.target_key = c.target_key AND r.dialogue_key = c.dialogue_key AND r.sample = c.sample
        LEFT JOIN (SELECT target_key, dialogue_key, sample, detected, first_detected_turn FROM detections
                   WHERE run_id = $run AND dialogue_key {_SOME}) g
               ON g.target_key = c.target_key AND g.dialogue_key = c.dialogue_key AND g.sample = c.sample
        WHERE c.run_id = $run AND c.judge_key IS NOT DISTINCT FROM $judge::VARCHAR AND c.dialogue_key {_SOME}
        ORDER BY c.length, c.item_id, c.dialogue_key, c.target, c.target_key, c.sample""",
)
TURNS = Table(
    "turns",
    "A user turn that was asked: what was sent and what came back, or else the latest error",
    _columns(
        "run_id target:name target_key dialogue_key item_id length:int turn:int scenario history "
        "request_hash judged_hash messages:messages reply:text reply_length:int reasoning:text outcome "
        "finish_reason:finish error:text resolved_model:model refusal_rule intervention moderator "
        "attempts:int prompt_tokens:int completion_tokens:int cost_usd:float started_at:time latency_s:float "
        "imported_from:name condition sample:int"
    ),
    f"""SELECT r.run_id, r.target, r.target_key, r.dialogue_key, r.item_id, r.length, r.turn, r.scenario,
               r.history, r.request_hash, r.judged_hash, t.request, r.text, length(r.text), r.reasoning,
               r.outcome, r.finish_reason, r.error, r.resolved_model, r.refusal_rule, r.intervention,
               r.moderator, t.attempts, r.prompt_tokens, r.completion_tokens, r.cost_usd, r.started_at,
               r.latency_s, r.imported_from, r.condition, r.sample
        FROM replies r
        JOIN (SELECT request_hash, any_value(request) AS request, count(*) AS attempts FROM turns
              WHERE request_hash IN (
                  SELECT request_hash FROM steps WHERE run_id = $run AND dialogue_key {_SOME})
              GROUP BY ALL) t USING (request_hash)
        WHERE r.run_id = $run AND r.dialogue_key {_SOME}
        ORDER BY r.length, r.item_id, r.dialogue_key, r.target, r.target_key, r.sample, r.turn""",
)
VERDICTS = Table(
    "verdicts",
    "A judge's label of a reply; of a panel also those of its members",
    _columns(
        "run_id target:name target_key judge:name judge_key rubric dialogue_key item_id length:int turn:int "
        "request_hash judged_hash label reason refusal:bool refusal_kind category:label severity:int "
        "specificity:int confidence:float confidence_kind explanation:text prompt_tokens:int "
        "completion_tokens:int cost_usd:float recorded_at:time latency_s:float imported_from:name "
        "condition sample:int"
    ),
    f"""SELECT r.run_id, r.target, r.target_key, j.name, j.judge_key, v.rubric, r.dialogue_key, r.item_id,
               r.length, r.turn, r.request_hash, r.judged_hash, v.label, v.reason, v.refusal, v.refusal_kind,
               v.category, v.severity, v.specificity, v.confidence, v.confidence_kind, v.explanation,
               v.prompt_tokens, v.completion_tokens, v.cost_usd, v.recorded_at, v.latency_s, v.imported_from,
               r.condition, r.sample
        FROM replies r
        JOIN run_judges j USING (run_id)
        JOIN (SELECT * FROM final_verdicts WHERE dialogue_key {_SOME}) v
          ON v.judge_key = j.judge_key AND v.request_hash = r.judged_hash AND v.dialogue_key = r.dialogue_key
             AND v.reply_hash = r.reply_hash
        WHERE r.run_id = $run AND r.dialogue_key {_SOME}
        ORDER BY r.length, r.item_id, r.dialogue_key, r.target, r.target_key, r.sample, r.turn,
                 j.name, j.judge_key""",
)
ASSESSMENTS = Table(
    "assessments",
    "What a moderator found of a turn, and what was done about it",
    _columns(
        "run_id target:name target_key moderator:name moderator_key dialogue_key item_id length:int turn:int "
        "stage verdict intent:text categories:labels scenarios:labels action policy:text confidence:float "
        "confidence_kind refusal:bool error:text waited_s:float latency_s:float prompt_tokens:int "
        "completion_tokens:int cost_usd:float request_hash condition sample:int"
    ),
    f"""SELECT run_id, target, target_key, moderator, moderator_key, dialogue_key, item_id, length, turn,
               stage, verdict, intent, categories, scenarios, action, policy, confidence, confidence_kind,
               refusal, error, waited_s, latency_s, prompt_tokens, completion_tokens, cost_usd,
               request_hash, condition, sample
        FROM assessed WHERE run_id = $run AND dialogue_key {_SOME}
        ORDER BY length, item_id, dialogue_key, target, target_key, sample, turn, stage""",
)
HUMAN_LABELS = Table(
    "human_labels",
    "A person's latest label of a reply of the run",
    _columns(
        "request_hash dialogue_key annotator:person label stratum recorded_at:time imported_from:name "
        "refusal_kind note:text adjudicated:bool"
    ),
    """SELECT request_hash, dialogue_key, annotator, label, stratum, recorded_at, imported_from,
              refusal_kind, note, adjudicated
       FROM current_human_labels
       SEMI JOIN (SELECT request_hash, dialogue_key, reply_hash FROM replies WHERE run_id = $run)
           USING (request_hash, dialogue_key, reply_hash)
       ORDER BY request_hash, dialogue_key, recorded_at, annotator""",
)
COMMENTS = Table(
    "comments",
    "What people wrote about a conversation of the run",
    _columns("comment_id run_id target_key dialogue_key author:person text:text recorded_at:time"),
    """SELECT comment_id, run_id, target_key, dialogue_key, author, text, recorded_at
       FROM current_comments
       SEMI JOIN (SELECT target_key, dialogue_key FROM replies WHERE run_id = $run)
           USING (target_key, dialogue_key)
       ORDER BY target_key, dialogue_key, recorded_at, comment_id""",
)
RUNS = Table(
    "runs",
    "The run: its data and settings",
    _columns(
        "run_id fingerprint created_at:time program_version dataset_name:name dataset_digest "
        "dataset_path:text dataset_licence settings:json"
    ),
    """SELECT run_id, fingerprint, created_at, program_version, dataset_name, dataset_digest, dataset_path,
              dataset_licence, settings FROM runs WHERE run_id = $run""",
)
TARGETS = Table(
    "targets",
    "A model under evaluation, with its parameters",
    _columns(
        "run_id target_key name:name identity history images sampling:json moderator sample:int prices:json "
        "system_prompt:text imported_from:name imported_at:time"
    ),
    """SELECT run_id, target_key, name, identity, history, images, sampling, moderator, sample, prices,
              system_prompt, imported_from, imported_at
       FROM run_targets WHERE run_id = $run ORDER BY name, target_key""",
)
JUDGES = Table(
    "judges",
    "A judge of the run, with its parameters",
    _columns(
        "run_id judge_key name:name identity rubric:name rubric_hash sampling:json prices:json "
        "imported_from:name"
    ),
    """SELECT run_id, judge_key, name, identity, regexp_extract(rubric, '[^/]*$'), rubric_hash, sampling,
              prices, imported_from
       FROM run_judges WHERE run_id = $run ORDER BY name, judge_key""",
)
MODERATORS = Table(
    "moderators",
    "A moderator of the run, with its settings",
    _columns("run_id moderator_key name:name guard guard_key identity licence settings:json prices:json"),
    """SELECT run_id, moderator_key, name, guard, guard_key, identity, licence, settings, prices
       FROM run_moderators WHERE run_id = $run ORDER BY name, moderator_key""",
)
TABLES = (
    CONVERSATIONS,
    TURNS,
    VERDICTS,
    ASSESSMENTS,
    HUMAN_LABELS,
    COMMENTS,
    RUNS,
    TARGETS,
    JUDGES,
    MODERATORS,
)
"""All tables of an export, in the order in which they are written."""


class Dump:
    """A run as tables. With a redaction no text is in its records."""

    def __init__(self, reader: Queryable, run_id: str, redaction: Redaction | None) -> None:
        self.run_id = run_id
        self.redaction = redaction
        self.judge_key = deciding_judge(reader, run_id)
        self.samples = samples_of(reader, run_id)
        self.reader = reader

    @property
    def tables(self) -> list[Table]:
        """All tables of the run, in the order in which they are written."""
        return [table.of(self.samples) for table in TABLES]

    @property
    def redact(self) -> bool:
        """Whether texts are left out."""
        return self.redaction is not None

    def chunks(self) -> Iterator[list[str]]:
        """The keys of the run's dialogues, so many as are read at a time."""
        keys = [
            row[0]
            for row in self.reader.query(
                """SELECT dialogue_key FROM (SELECT DISTINCT dialogue_key FROM run_dialogues WHERE run_id = ?)
                   JOIN (SELECT dialogue_key, any_value(length) AS length FROM dialogues GROUP BY ALL)
                        USING (dialogue_key) ORDER BY length, dialogue_key""",
                [self.run_id],
            ).rows
        ]
        for start in range(0, len(keys), _DIALOGUES_AT_ONCE):
            yield keys[start : start + _DIALOGUES_AT_ONCE]

    def records(self, table: Table) -> Records:
        """The rows of a table."""
        if "$dialogues" not in table.sql:
            yield self.some(table, [])
            return
        for keys in self.chunks():
            yield self.some(table, keys)

    def some(self, table: Table, dialogue_keys: list[str]) -> list[dict[str, Any]]:
        """The rows of a table that belong to these dialogues; all, where it is not about dialogues."""
        sql, values = _numbered(
            table.sql, {"run": self.run_id, "judge": self.judge_key, "dialogues": dialogue_keys}
        )
        kept = table.kept(self.redact)
        places = [table.columns.index(column) for column in kept]
        makers = [self._maker(column.kind) for column in kept]
        return [
            {column.name: make(row[place]) for column, place, make in zip(kept, places, makers, strict=True)}
            for row in self.reader.query(sql, values).rows
        ]

    def _maker(self, kind: Kind) -> Callable[[Any], Any]:
        """What makes of a value of the store one of an export."""
        redaction = self.redaction
        if kind == "time":
            return _time
        if kind == "float":
            return lambda value: None if value is None or math.isnan(value) else float(value)
        if kind == "name":
            return lambda value: None if value is None else without_secrets(value)
        if kind == "json":
            if redaction is None:
                return lambda value: None if value is None else without_secrets(value)
            return lambda value: None if value is None else redaction.settings(without_secrets(value))
        if kind == "messages":
            return _messages if redaction is None else redaction.messages
        if kind == "labels":
            if redaction is None:
                return lambda value: None if value is None else json.loads(value)
            return lambda value: (
                None if value is None else [word for word in json.loads(value) if redaction.label(word)]
            )
        if redaction is not None:
            if kind == "label":
                return redaction.label
            if kind == "finish":
                return redaction.finish
            if kind == "model":
                return redaction.model
            if kind == "person":
                return redaction.annotator
        return lambda value: value


def _numbered(sql: str, values: dict[str, Any]) -> tuple[str, list[Any]]:
    """The statement with the parameters that it names as $1, $2, ..., and their values."""
    given: list[Any] = []
    for name, value in values.items():
        if f"${name}" in sql:
            # A list stands as its values: unlike a subquery they narrow what the views of current rows read.
            many = value if isinstance(value, list) else [value]
            places = ", ".join(f"${len(given) + n}" for n in range(1, len(many) + 1))
            sql = sql.replace(f"${name}", places)
            given += many
    return sql, given


def _time(value: Any) -> datetime | None:
    """A time of the store, which is UTC; a run that is asked answers with text."""
    if value is None:
        return None
    found = value if isinstance(value, datetime) else datetime.fromisoformat(str(value))
    return found.replace(tzinfo=UTC)


def _messages(value: str | None) -> list[dict[str, Any]] | None:
    if value is None:
        return None
    return [
        {"role": said.get("role"), "content": said.get("content"), "images": said.get("images", [])}
        for said in json.loads(value)
    ]
