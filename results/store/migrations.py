"""Migrations from earlier schemas to this one: small ordered functions, recorded in `schema_migrations`.

Columns follow the dataclasses of `rows`: one that may be NULL is added to older stores automatically.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

import duckdb

from safemt_client.providers.errors import InputError
from safemt_client.providers.probabilities import HOLDING
from safemt_client.results.store import rows
from safemt_client.results.store.schema import TABLES, add_columns, create

__all__ = ["MIGRATIONS", "migrate", "schema_version"]


# The tables that every store has, of whatever version.
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


def _nothing_more(connection: duckdb.DuckDBPyConnection) -> None:
    """A new file gets its tables at once; new columns are added automatically."""


def _add_batches(connection: duckdb.DuckDBPyConnection) -> None:
    add_columns(connection, rows.TurnRow, rows.VerdictRow)
    connection.execute("ALTER TABLE turns ALTER latency_s DROP NOT NULL")
    create(connection, rows.BatchRow, rows.BatchRequestRow)


def _add_verdict_batches(connection: duckdb.DuckDBPyConnection) -> None:
    connection.execute("ALTER TABLE verdicts ALTER latency_s DROP NOT NULL")


def _add_reply_hashes(connection: duckdb.DuckDBPyConnection) -> None:
    """What was said of a reply so far was said of its earliest observation; NULL where none is left."""
    add_columns(connection, rows.TurnRow, rows.VerdictRow, rows.HumanLabelRow, rows.AssessmentRow)
    _hash_replies(connection)
    earliest = (
        "SELECT request_hash, arg_min(reply_hash, started_at) AS found FROM turns GROUP BY request_hash"
    )
    for table in ("verdicts", "human_labels"):
        connection.execute(
            f"UPDATE {table} SET reply_hash = e.found FROM ({earliest}) e "
            f"WHERE {table}.reply_hash IS NULL AND e.request_hash = {table}.request_hash"
        )
    # A guard was shown the model's own reply, whatever was done with it.
    connection.execute(
        f"""UPDATE assessments SET reply_hash = s.found FROM (
                SELECT m.assessment_hash, arg_min(e.found, t.started_at) AS found
                FROM moderations m JOIN turns t ON t.request_hash = m.request_hash
                JOIN ({earliest}) e ON e.request_hash = t.model_request_hash
                WHERE m.stage = 'output' GROUP BY m.assessment_hash) s
            WHERE assessments.reply_hash IS NULL AND assessments.stage = 'output'
              AND s.assessment_hash = assessments.assessment_hash"""
    )


def _hash_replies(connection: duckdb.DuckDBPyConnection) -> None:
    connection.execute(
        "UPDATE turns SET reply_hash = sha256(text) WHERE reply_hash IS NULL AND outcome NOT LIKE 'error_%'"
    )


def _add_roles(connection: duckdb.DuckDBPyConnection) -> None:
    """A panel was stored before its members, and these in the order in which they are asked."""
    add_columns(connection, rows.JudgeRow)
    connection.execute(
        """UPDATE run_judges SET position = p.place, role = if(p.place = 0, 'decides', 'member') FROM (
               SELECT rowid AS number,
                      row_number() OVER (
                          PARTITION BY run_id ORDER BY identity NOT LIKE 'panel/%', rowid) - 1 AS place
               FROM run_judges) p
           WHERE run_judges.rowid = p.number"""
    )


def _add_parameters(connection: duckdb.DuckDBPyConnection) -> None:
    add_columns(connection, rows.TurnRow, rows.VerdictRow, rows.AssessmentRow)
    create(connection, rows.EndpointFactRow)


def _add_system_prompts(connection: duckdb.DuckDBPyConnection) -> None:
    add_columns(connection, rows.TargetRow)


def _add_content(connection: duckdb.DuckDBPyConnection) -> None:
    add_columns(connection, rows.RunRow, rows.VerdictRow)


def _add_conditions(connection: duckdb.DuckDBPyConnection) -> None:
    """A version of its own: an earlier program would count controls among the originals."""
    add_columns(connection, rows.DialogueRow)


def _add_samples(connection: duckdb.DuckDBPyConnection) -> None:
    """A version of its own: an earlier program would take samples for a conversation that was asked anew."""
    add_columns(connection, rows.RunRow, rows.StepRow)


def _add_preparations(connection: duckdb.DuckDBPyConnection) -> None:
    add_columns(connection, rows.ImageRow)


def _add_imports(connection: duckdb.DuckDBPyConnection) -> None:
    connection.execute("ALTER TABLE turns ALTER text DROP NOT NULL")
    add_columns(connection, rows.TargetRow, rows.JudgeRow, rows.TurnRow, rows.VerdictRow, rows.HumanLabelRow)


def _add_words_of_people(connection: duckdb.DuckDBPyConnection) -> None:
    """A version of its own: an earlier program would count what adjudicates as one label more."""
    add_columns(connection, rows.HumanLabelRow)
    create(connection, rows.CommentRow)


def _add_kinds(connection: duckdb.DuckDBPyConnection) -> None:
    """What was sent shows what a probability is one among; what was taken over follows its judge."""
    add_columns(connection, rows.VerdictRow, rows.AssessmentRow)
    held = " OR ".join(f"contains(parameters, '\"{name}\":')" for name in HOLDING)
    for table in ("verdicts", "assessments"):
        connection.execute(
            f"""UPDATE {table} SET confidence_kind = CASE
                    WHEN NOT contains(parameters, '"logprobs":') THEN 'stated'
                    WHEN {held} THEN 'constrained' ELSE 'raw' END
                WHERE confidence IS NOT NULL AND confidence_kind IS NULL AND parameters IS NOT NULL"""
        )
    connection.execute(
        """UPDATE verdicts SET confidence_kind = k.kind FROM (
               SELECT judge_key, min(confidence_kind) AS kind FROM verdicts GROUP BY judge_key
               HAVING min(confidence_kind) = max(confidence_kind)) k
           WHERE verdicts.judge_key = k.judge_key AND verdicts.confidence IS NOT NULL
             AND verdicts.confidence_kind IS NULL"""
    )


MIGRATIONS: tuple[tuple[str, Callable[[duckdb.DuckDBPyConnection], None]], ...] = (
    ("create tables", _nothing_more),
    ("add limit_changes", lambda connection: create(connection, rows.LimitRow)),
    ("add batches", _add_batches),
    ("add refusals and grades", _nothing_more),
    ("add human_labels", lambda connection: create(connection, rows.HumanLabelRow)),
    ("add batches of verdicts", _add_verdict_batches),
    (
        "add moderators",
        lambda connection: create(connection, rows.ModeratorRow, rows.AssessmentRow, rows.ModerationRow),
    ),
    ("add error codes", _nothing_more),
    ("add reply_hash", _add_reply_hashes),
    ("add roles of judges", _add_roles),
    ("add parameters as sent", _add_parameters),
    ("add oddities of replies", _nothing_more),
    ("add system prompts", _add_system_prompts),
    ("add cost_leases", lambda connection: create(connection, rows.CostLeaseRow)),
    ("add content digests and verdicts that are taken over", _add_content),
    ("add how images were prepared", _add_preparations),
    ("add what was imported", _add_imports),
    ("add conditions of controls", _add_conditions),
    (
        "add calibrations",
        lambda connection: create(
            connection,
            rows.CalibrationRow,
            rows.CalibrationReplyRow,
            rows.CalibrationLabelRow,
            rows.CalibrationFigureRow,
        ),
    ),
    ("add anchors", lambda connection: create(connection, rows.AnchorRow, rows.AnchorReplyRow)),
    ("add samples", _add_samples),
    ("add notes, adjudication and comments", _add_words_of_people),
    (
        "add rules that end a run",
        lambda connection: create(
            connection, rows.StopRuleRow, rows.StopOrderRow, rows.StopDecisionRow, rows.StopEventRow
        ),
    ),
    ("add label_draws", lambda connection: create(connection, rows.DrawRow, rows.DrawnReplyRow)),
    ("add server_use", lambda connection: create(connection, rows.ServerUseRow)),
    ("add kinds of confidence", _add_kinds),
    ("add deliveries", lambda connection: create(connection, rows.DeliveryRow)),
)


# What a file without tables may hold of another program; sequences are never internal.
_OTHER_THINGS = " UNION ALL ".join(
    f"SELECT 1 FROM duckdb_{kind}() WHERE database_name = current_database() AND {condition}"
    for kind, condition in (
        *((kind, "NOT internal") for kind in ("views", "types", "schemas", "functions")),
        ("sequences", "true"),
    )
)


def schema_version(connection: duckdb.DuckDBPyConnection, *, is_made: bool = False) -> int | None:
    """The version of the open file; 0 for an empty one, None for a file of another program.

    Of one that was made with the connection (`is_made`) only tables are looked for, which another process
    may have been faster with: the rest is the dearest question of a start.
    """
    tables = {
        row[0]
        for row in connection.execute(
            "SELECT table_name FROM duckdb_tables() WHERE database_name = current_database()"
        ).fetchall()
    }
    if not tables:
        return None if not is_made and connection.execute(_OTHER_THINGS).fetchone() else 0
    first = {TABLES[kind] for kind in _FIRST}
    if "schema_migrations" not in tables or not first <= tables:
        return None
    found = connection.execute("SELECT max(version) FROM schema_migrations").fetchone()
    return int(found[0]) if found and found[0] is not None else None


def migrate(
    connection: duckdb.DuckDBPyConnection,
    path: object,
    program_version: str,
    make: Callable[[duckdb.DuckDBPyConnection], None] | None = None,
    *,
    is_empty: bool = False,
) -> None:
    """Bring the file to this program's schema. `make` creates all tables of an empty file in another way.

    One that is known to be empty (`is_empty`) is not looked through for that.

    Raises:
        InputError: the file belongs to another program or to a newer version of this one.
    """
    version = 0 if is_empty else schema_version(connection)
    if version is None:
        raise InputError(f"{path}: a DuckDB file from another program: name another one with --db")
    if version > len(MIGRATIONS):
        raise InputError(
            f"{path}: schema {version} is newer than this program's {len(MIGRATIONS)}: "
            "update safemt_client, or name another file with --db"
        )
    if version == 0:
        _create_all(connection, program_version, make or _make_tables)
        return
    for number, (name, apply) in enumerate(MIGRATIONS[version:], start=version + 1):
        connection.execute("BEGIN")
        apply(connection)
        _record(connection, program_version, (number, name))
        connection.execute("COMMIT")
    connection.execute("BEGIN")
    if added := add_columns(connection, *TABLES):
        _record(connection, program_version, (len(MIGRATIONS), f"add {', '.join(added)}"))
    _hash_replies(connection)
    connection.execute("COMMIT")


def _create_all(
    connection: duckdb.DuckDBPyConnection,
    program_version: str,
    make: Callable[[duckdb.DuckDBPyConnection], None],
) -> None:
    """Create the tables as they are today, in one transaction: step by step it takes five times as long."""
    connection.execute("BEGIN")
    make(connection)
    _record(
        connection, program_version, *((number, name) for number, (name, _) in enumerate(MIGRATIONS, start=1))
    )
    connection.execute("COMMIT")


def _make_tables(connection: duckdb.DuckDBPyConnection) -> None:
    connection.execute(
        "CREATE TABLE schema_migrations "
        "(version INTEGER, name VARCHAR, applied_at TIMESTAMP, program_version VARCHAR)"
    )
    create(connection, *TABLES)


def _record(connection: duckdb.DuckDBPyConnection, program_version: str, *done: tuple[int, str]) -> None:
    """Note which migrations, by number and name, were done now."""
    now = datetime.now(UTC).replace(tzinfo=None)
    values = [value for number, name in done for value in (number, name, now, program_version)]
    connection.execute(
        f"INSERT INTO schema_migrations VALUES {', '.join(['(?, ?, ?, ?)'] * len(done))}", values
    )
