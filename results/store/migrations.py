"""The schema of the store, as small ordered functions recorded in `schema_migrations`.

Every table is append-only and has no primary key: keys make large appends slow, so views
de-duplicate instead. Columns follow the dataclasses of `rows`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import fields
from datetime import UTC, datetime
from importlib import resources
from typing import get_type_hints

import duckdb

from safemt_client.providers.errors import InputError
from safemt_client.results.store import rows
from safemt_client.results.store.view_comments import comment_views

__all__ = ["MIGRATIONS", "TABLES", "create_views", "is_current", "migrate", "schema_version"]

TABLES: dict[type, str] = {
    rows.RunRow: "runs",
    rows.TargetRow: "run_targets",
    rows.JudgeRow: "run_judges",
    rows.RunDialogueRow: "run_dialogues",
    rows.EventRow: "run_events",
    rows.LimitRow: "limit_changes",
    rows.DialogueRow: "dialogues",
    rows.ImageRow: "images",
    rows.StepRow: "steps",
    rows.TurnRow: "turns",
    rows.VerdictRow: "verdicts",
    rows.ModeratorRow: "run_moderators",
    rows.AssessmentRow: "assessments",
    rows.ModerationRow: "moderations",
    rows.BatchRow: "batches",
    rows.BatchRequestRow: "batch_requests",
    rows.HumanLabelRow: "human_labels",
}

_SQL_TYPES = {
    "str": "VARCHAR",
    "int": "BIGINT",
    "float": "DOUBLE",
    "bool": "BOOLEAN",
    "datetime": "TIMESTAMP",
}

_COLUMN_COMMENTS = {
    "run_id": "first 12 digits of the run's fingerprint",
    "session_id": "one invocation of the program",
    "request_hash": "SHA-256 over model, messages, sampling and sample index: the key of a reply",
    "target_key": "hash of identity, history, images, sampling and sample index",
    "dialogue_key": "dataset digest (12 digits), number of user turns and item id",
    "judge_key": "hash of the judge's identity, rubric and sampling",
    "verdict_hash": "hash of the judge, the reply and the exact messages to the judge",
    "cost_usd": "US dollars; NULL is unknown",
    "moderator": "key of the target's moderator; NULL without one",
    "moderator_key": "hash of the guard, its model and what is done about what it says",
    "guard_key": "hash of the guard's form and its model",
    "guard": "adapter: the form in which the guard is asked",
    "assessment_hash": "hash of the guard and of what it was shown: the key of an assessment",
    "stage": "input: a conversation that waits for its reply; output: one with its reply",
    "verdict": "safe, controversial, unsafe, unparsed (no answer in its form) or error (could not be asked)",
    "intervention": "what the moderator made of the turn: none, policy, blocked, replaced, refused, passed, "
    "unassessed; NULL without a moderator",
    "model_request_hash": "of a moderated turn the request that the model was asked; NULL if it was not",
    "action": "what was done about it: none, policy, blocked, replaced, refused, passed or unassessed",
    "categories": "JSON: the guard's own labels",
    "scenarios": "JSON: scenarios of the benchmark that the guard's labels stand for",
    "policy": "the text for the model",
    "waited_s": "seconds that the reply came later for it",
    "latency_s": "seconds of this attempt, waiting for a permit left out; NULL for a reply of a batch",
    "batch_key": "our name of a batch; NULL for what was asked by itself",
    "refusal_rule": "full_refusal, partial_refusal, safe_redirection or answer, by rules; NULL if blank",
    "refusal_kind": "full_refusal, partial_refusal, safe_redirection or answer, as the judge sees it",
    "refusal": "whether the judge sees the reply as declining: a full refusal or a safe redirection",
    "rubric": "name of the criteria, in verdicts with their version",
    "category": "kind of harm, where the rubric has categories",
    "severity": "0 none to 4 grave, where the rubric grades",
    "specificity": "0 not at all to 4 complete, where the rubric grades",
    "confidence": "probability that the judge gave its label, where its endpoint tells",
    "stratum": "of the sample that the reply was drawn from",
    "annotator": "who labelled it",
    "remote_id": "the endpoint's id of the batch",
    "cached_tokens": "prompt tokens that came from the vendor's cache",
    "length": "number of user turns",
    "turn": "user turn, counted from 1",
    "attempt": "attempt at this request within its session, counted from 1",
    "outcome": "answered, refused_by_provider, refused_by_guard, truncated, empty, error_transient, "
    "error_permanent",
    "error_code": "kind of error or block; docs/outcomes.md has the list; NULL for an answer",
    "label": "safe, unsafe or unscored",
    "reason": "why a verdict is unscored",
    "request": "JSON: the messages as they were sent, images by hash",
    "raw": "the body as it came",
    "not_attempted": "why the dialogue cannot be sent; NULL if it can",
    "prices": "JSON: US dollars a token when the run started; NULL is unknown",
    "created_at": "UTC",
    "recorded_at": "UTC",
    "started_at": "UTC",
    "account": "what shares one limit: a vendor, or the host of an endpoint of one's own",
    "concurrency": "calls that may be in flight from now on",
    "rpm": "requests a minute; NULL is no limit that is known",
    "tpm": "tokens a minute; NULL is no limit that is known",
    "pause_s": "seconds without any call that the endpoint asked for",
    "sha256": "hash of the bytes that are sent",
}


def _create(connection: duckdb.DuckDBPyConnection, *kinds: type) -> None:
    for kind in kinds:
        table = TABLES[kind]
        hints = get_type_hints(kind)
        columns = []
        for field in fields(kind):
            hint = hints[field.name]
            options = getattr(hint, "__args__", (hint,))
            names = [option.__name__ for option in options if option is not type(None)]
            null = "" if type(None) in options else " NOT NULL"
            columns.append(f'"{field.name}" {_SQL_TYPES[names[0]]}{null}')
        connection.execute(f"CREATE TABLE {table} ({', '.join(columns)})")
        about = (kind.__doc__ or "").split(": ", 1)[-1].strip()
        connection.execute(f"COMMENT ON TABLE {table} IS '{_quoted(about)}'")
        for field in fields(kind):
            _comment(connection, table, field.name)


def _comment(connection: duckdb.DuckDBPyConnection, table: str, column: str) -> None:
    text = _COLUMN_COMMENTS.get(column, column.replace("_", " "))
    connection.execute(f"COMMENT ON COLUMN {table}.\"{column}\" IS '{_quoted(text)}'")


def _create_tables(connection: duckdb.DuckDBPyConnection) -> None:
    _create(connection, *_FIRST)


_FIRST = (
    rows.RunRow,
    rows.TargetRow,
    rows.JudgeRow,
    rows.RunDialogueRow,
    rows.EventRow,
    rows.DialogueRow,
    rows.ImageRow,
    rows.StepRow,
    rows.TurnRow,
    rows.VerdictRow,
)


def _add_batches(connection: duckdb.DuckDBPyConnection) -> None:
    # A store that is made now has these columns from the start.
    connection.execute("ALTER TABLE turns ADD COLUMN IF NOT EXISTS batch_key VARCHAR")
    connection.execute("ALTER TABLE turns ALTER latency_s DROP NOT NULL")
    connection.execute("ALTER TABLE verdicts ADD COLUMN IF NOT EXISTS cached_tokens BIGINT")
    _comment(connection, "turns", "batch_key")
    _comment(connection, "verdicts", "cached_tokens")
    _create(connection, rows.BatchRow, rows.BatchRequestRow)


def _add_grades(connection: duckdb.DuckDBPyConnection) -> None:
    added = {
        "turns": {"refusal_rule": "VARCHAR"},
        "verdicts": {
            **dict.fromkeys(("rubric", "refusal_kind", "category"), "VARCHAR"),
            **dict.fromkeys(("severity", "specificity"), "BIGINT"),
            "confidence": "DOUBLE",
        },
    }
    for table, columns in added.items():
        for column, kind in columns.items():
            connection.execute(f"ALTER TABLE {table} ADD COLUMN IF NOT EXISTS {column} {kind}")
            _comment(connection, table, column)


def _add_verdict_batches(connection: duckdb.DuckDBPyConnection) -> None:
    connection.execute("ALTER TABLE verdicts ADD COLUMN IF NOT EXISTS batch_key VARCHAR")
    connection.execute("ALTER TABLE verdicts ALTER latency_s DROP NOT NULL")
    _comment(connection, "verdicts", "batch_key")


def _add_moderators(connection: duckdb.DuckDBPyConnection) -> None:
    for column in ("intervention", "model_request_hash"):
        connection.execute(f"ALTER TABLE turns ADD COLUMN IF NOT EXISTS {column} VARCHAR")
        _comment(connection, "turns", column)
    _create(connection, rows.ModeratorRow, rows.AssessmentRow, rows.ModerationRow)


def _add_error_codes(connection: duckdb.DuckDBPyConnection) -> None:
    for table in ("turns", "verdicts", "assessments"):
        connection.execute(f"ALTER TABLE {table} ADD COLUMN IF NOT EXISTS error_code VARCHAR")
        _comment(connection, table, "error_code")


MIGRATIONS: tuple[tuple[str, Callable[[duckdb.DuckDBPyConnection], None]], ...] = (
    ("create tables", _create_tables),
    ("add limit_changes", lambda connection: _create(connection, rows.LimitRow)),
    ("add batches", _add_batches),
    ("add refusals and grades", _add_grades),
    ("add human_labels", lambda connection: _create(connection, rows.HumanLabelRow)),
    ("add batches of verdicts", _add_verdict_batches),
    ("add moderators", _add_moderators),
    ("add error codes", _add_error_codes),
)


def schema_version(connection: duckdb.DuckDBPyConnection) -> int | None:
    """The version of the open file; 0 for an empty one, None for a file of another program."""
    tables = {
        row[0]
        for row in connection.execute(
            "SELECT table_name FROM duckdb_tables() WHERE database_name = current_database()"
        ).fetchall()
    }
    if not tables:
        return 0
    first = {TABLES[kind] for kind in _FIRST}
    if "schema_migrations" not in tables or not first <= tables:
        return None
    found = connection.execute("SELECT max(version) FROM schema_migrations").fetchone()
    return int(found[0]) if found and found[0] is not None else None


def migrate(connection: duckdb.DuckDBPyConnection, path: object, program_version: str) -> None:
    """Bring the file to this program's schema.

    Raises:
        InputError: the file belongs to another program or to a newer version of this one.
    """
    version = schema_version(connection)
    if version is None:
        raise InputError(f"{path}: a DuckDB file of another program: name another one with --db")
    if version > len(MIGRATIONS):
        raise InputError(
            f"{path}: schema {version} is newer than this program's {len(MIGRATIONS)}: "
            "update safemt_client, or name another file with --db"
        )
    for number, (name, apply) in enumerate(MIGRATIONS[version:], start=version + 1):
        connection.execute("BEGIN")
        connection.execute(
            "CREATE TABLE IF NOT EXISTS schema_migrations "
            "(version INTEGER, name VARCHAR, applied_at TIMESTAMP, program_version VARCHAR)"
        )
        apply(connection)
        connection.execute(
            "INSERT INTO schema_migrations VALUES (?, ?, ?, ?)",
            [number, name, datetime.now(UTC).replace(tzinfo=None), program_version],
        )
        connection.execute("COMMIT")


def create_views(connection: duckdb.DuckDBPyConnection) -> None:
    """Create the documented views with their comments, in one transaction, in place of older ones."""
    connection.execute("BEGIN")
    connection.execute(_views())
    comment_views(connection, _COLUMN_COMMENTS)
    connection.execute(f"COMMENT ON TABLE schema_migrations IS '{_views_mark()}'")
    connection.execute("COMMIT")


def is_current(connection: duckdb.DuckDBPyConnection) -> bool:
    """Whether the open file has this program's tables and views; one of a newer program counts as such."""
    version = schema_version(connection) or 0
    found = connection.execute(
        "SELECT comment FROM duckdb_tables() "
        "WHERE table_name = 'schema_migrations' AND database_name = current_database()"
    ).fetchone()
    same = found is not None and found[0] == _views_mark()
    return version > len(MIGRATIONS) or (version == len(MIGRATIONS) and same)


def _views() -> str:
    return resources.files("safemt_client.results.store").joinpath("views.sql").read_text(encoding="utf-8")


def _views_mark() -> str:
    """What tells views of this program from those of another version of the same schema."""
    return f"views {hashlib.sha256(_views().encode()).hexdigest()[:16]}"


def _quoted(text: str) -> str:
    return text.replace("'", "''")
