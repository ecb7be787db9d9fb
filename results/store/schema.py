"""The tables of the store: one for each kind of row, whose fields are its columns.

Every table is append-only and has no primary key: keys make large appends slow, so views
de-duplicate instead.
"""

from __future__ import annotations

from dataclasses import fields
from functools import cache

import duckdb

from safemt_client.results.store import rows

__all__ = ["COLUMN_COMMENTS", "TABLES", "add_columns", "columns_of", "create", "quoted", "statements"]

TABLES: dict[type, str] = {
    rows.RunRow: "runs",
    rows.TargetRow: "run_targets",
    rows.JudgeRow: "run_judges",
    rows.RunDialogueRow: "run_dialogues",
    rows.EventRow: "run_events",
    rows.CostLeaseRow: "cost_leases",
    rows.DeliveryRow: "deliveries",
    rows.LimitRow: "limit_changes",
    rows.ServerUseRow: "server_use",
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
    rows.CommentRow: "comments",
    rows.EndpointFactRow: "endpoint_facts",
    rows.CalibrationRow: "calibration_runs",
    rows.CalibrationReplyRow: "calibration_replies",
    rows.CalibrationLabelRow: "calibration_labels",
    rows.CalibrationFigureRow: "calibration_figures",
    rows.AnchorRow: "anchor_runs",
    rows.AnchorReplyRow: "anchor_replies",
    rows.StopRuleRow: "stop_rules",
    rows.StopOrderRow: "stop_order",
    rows.StopDecisionRow: "stop_decisions",
    rows.StopEventRow: "stop_events",
    rows.DrawRow: "label_draws",
    rows.DrawnReplyRow: "drawn_replies",
}

_SQL_TYPES = {
    "str": "VARCHAR",
    "int": "BIGINT",
    "float": "DOUBLE",
    "bool": "BOOLEAN",
    "datetime": "TIMESTAMP",
}

COLUMN_COMMENTS = {
    "run_id": "first 12 digits of the run's fingerprint",
    "session_id": "one invocation of the program",
    "role": "decides: its labels count; member: one of the judges of the panel that decides",
    "position": "0 for the judge that decides, then a panel's members in the order in which they are asked",
    "reply_hash": "SHA-256 of the reply's text, or of its place if an imported one is not known; NULL if "
    "there is none",
    "request_hash": "SHA-256 over model, messages, sampling and sample index: the key of a reply",
    "target_key": "hash of identity, history, images, sampling and sample index",
    "dialogue_key": "dataset digest (12 digits), number of user turns, of a control /condition, and item id",
    "condition": "what kind of control the dialogue is; NULL of an original",
    "paired_length": "of a control: number of user turns of the original that it is compared with",
    "judge_key": "hash of the judge's identity, rubric and sampling",
    "content_digest": "SHA-256 over dataset_digest and the pictures' files; NULL if none were looked at",
    "verdict_hash": "hash of the judge, its criteria, what it is shown and the reply; before schema 15 "
    "hash of judge_key, request_hash and dialogue_key",
    "calls": "requests that it took, a repair of the answer included; NULL if that was not counted",
    "taken_from": "run that asked for it of the same text under the same criteria; NULL if this one did",
    "cost_usd": "US dollars; NULL is unknown",
    "up_to_usd": "US dollars that the single calls of the session may have cost, from its start",
    "moderator": "key of the target's moderator; NULL without one",
    "moderator_key": "hash of the guard, its model and how its findings are acted on",
    "guard_key": "hash of the guard's prompt format and its model",
    "guard": "adapter: the prompt format of the guard",
    "assessment_hash": "hash of the guard and of what it was shown: the key of an assessment",
    "stage": "input: the conversation before its reply; output: with its reply",
    "verdict": "safe, controversial, unsafe, unparsed (its answer was not readable) or error (not asked)",
    "intervention": "what the moderator did with the turn: none, policy, blocked, replaced, refused, passed, "
    "unassessed; NULL without a moderator",
    "model_request_hash": "of a moderated turn: hash of the request to the model; NULL if it was not asked",
    "action": "what was done about it: none, policy, blocked, replaced, refused, passed or unassessed",
    "categories": "JSON: the guard's own labels",
    "scenarios": "JSON: scenarios of the benchmark that the guard's labels stand for",
    "policy": "the text for the model",
    "waited_s": "seconds that it delayed the reply",
    "latency_s": "seconds of this attempt, without waiting for a permit; NULL for a reply of a batch",
    "batch_key": "our name for the batch; NULL for a single call",
    "refusal_rule": "full_refusal, partial_refusal, safe_redirection or answer, by rules; NULL if blank",
    "refusal_kind": "full_refusal, partial_refusal, safe_redirection or answer, according to who labelled it",
    "refusal": "whether the judge sees the reply as declining: a full refusal or a safe redirection",
    "rubric": "name of the criteria, in verdicts with their version",
    "category": "kind of harm, where the rubric has categories",
    "severity": "0 (none) to 4 (severe), where the rubric grades",
    "specificity": "0 (not at all) to 4 (complete), where the rubric grades",
    "confidence": "probability that the judge assigned to its label, where its endpoint returns it",
    "confidence_kind": "raw: among all tokens; constrained: of an answer held to a form, perhaps among the "
    "tokens that it allows; stated: a figure in the answer; NULL if not recorded. Never compare two kinds",
    "stratum": "stratum of the sample that the reply was drawn from",
    "annotator": "the person who labelled it",
    "remote_id": "the endpoint's id of the batch",
    "cached_tokens": "prompt tokens that came from the vendor's cache",
    "length": "number of user turns",
    "turn": "user turn, counted from 1",
    "attempt": "attempt at this request within its session, counted from 1",
    "outcome": "answered, refused_by_provider, refused_by_guard, truncated, empty, error_transient, "
    "error_permanent",
    "error_code": "kind of error or block; docs/outcomes.md has the list; NULL for an answer",
    "oddities": "what was odd about the response; docs/outcomes.md has the words; NULL if nothing was",
    "label": "safe, unsafe or unscored; of a person safe, unsafe, unsure or withdrawn",
    "note": "what the annotator wrote beside the label",
    "adjudicated": "whether the label decides over the others' labels, which are kept",
    "comment_id": "the comment: a later row with this id is a change of it",
    "author": "who wrote the comment",
    "reason": "why a verdict is unscored",
    "request": "JSON: the messages as they were sent, images by hash",
    "raw": "the response body, unchanged",
    "not_attempted": "why the dialogue cannot be sent; NULL if it can",
    "prices": "JSON: US dollars per token when the run started; NULL is unknown",
    "created_at": "UTC",
    "recorded_at": "UTC",
    "started_at": "UTC; of an imported reply when it was imported",
    "imported_from": "format and file that it was read from; NULL for what this program has asked for",
    "imported_at": "UTC; when it was imported; NULL for what this program has asked for",
    "rule": "rule of --stop-when, as it was written",
    "alpha": "chance that the rule is decided wrongly, over all looks together",
    "population": "items that the rule is about, whether they were asked or not",
    "most": "replies that one of these items has at most: one for each number of turns and sample",
    "anew": "whether it was named after the run had begun: its alpha is spent beside that of earlier rules",
    "other_key": "of a difference the target that is subtracted; NULL of other rules",
    "decision": "holds or broken",
    "items": "items from the beginning of the order to the last one that the decision needed",
    "sequence_low": "lower end of the confidence sequence when it was decided: not that of a fixed sample",
    "sequence_high": "upper end of the confidence sequence when it was decided: not that of a fixed sample",
    "account": "what shares one rate limit: a vendor, or the host of your own endpoint",
    "concurrency": "calls that may be in flight from now on",
    "rpm": "requests per minute; NULL if no limit is known",
    "tpm": "tokens per minute; NULL if no limit is known",
    "pause_s": "seconds without any call that the endpoint asked for",
    "sha256": "hash of the bytes that are sent",
    "preparation": "version of how pictures are prepared; NULL for the first, before schema 16",
    "parameters": "JSON: what was really sent beside the messages; NULL if nothing was, or if not known",
    "host": "host and port that were asked; NULL for the demo, for models in this process, or if not known",
    "parameter": "the name under which the endpoint refused it",
    "remedy": "what is done instead: omit, rename, set, or another word",
    "value": "JSON: the refused value, the new name or the new value, depending on the remedy",
    "said": "the endpoint's words",
    "calibration_id": "first 12 digits of the calibration's fingerprint: the run of its verdicts",
    "set_name": "name of the set of labelled replies",
    "set_digest": "SHA-256 over the dialogues, replies and labels that were taken",
    "set_path": "where the set lay",
    "set_licence": "licence of the set; NULL if it is not stated",
    "pictures_seen": "whether the judge was shown the pictures",
    "pictures": "how many pictures the dialogue has",
    "reply_id": "id of the labelled reply",
    "given": "the label as the data have it",
    "measure": "sensitivity, specificity, precision, accuracy, kappa, or people_...: of people by themselves",
    "estimate": "the figure; NULL where there is nothing to take it of",
    "low": "lower end of its 95 % interval",
    "high": "upper end of its 95 % interval",
    "anchor_id": "first 12 digits of the anchor's fingerprint: the run of its verdicts",
    "anchor_key": "hash of the judge and this anchor: the judge of its verdicts",
    "number": "which anchor of this run and judge it is, counted from 1",
    "wanted": "how many replies --anchor asked for",
    "place": "place in the fixed random order, counted from 1",
    "judged_at": "UTC; when the run's verdict was given",
    "resolved_model": "the model that answered, according to the endpoint; NULL if it did not say, and of "
    "verdicts before schema 20",
    "sample": "which of the samples of its run, counted from 1; of a target: the sample index of the first",
    "samples": "how many independent replies to each request the run asks for; NULL before schema 21: one",
    "draw_id": "first 12 digits of the draw's fingerprint: the run of verdicts that a judge gave for it",
    "reference_key": "hash of the judge that labels the sample; NULL for people",
    "judged_hash": "request hash that verdicts of the reply are kept under",
    "basis": "what the chances rest on",
    "doubt": "how doubtful the judge's label is, from 0 to 1: one less its probability, unless those of the "
    "judge are of different kinds, or the share of a panel's judges that say otherwise; NULL if not known",
    "guess": "how likely the judge's label was thought to be wrong when the sample was drawn",
    "chance": "chance of the reply to be drawn, by this draw or an earlier one of the same kind",
    "server": "engine and model",
    "incarnation": "the process that sent it; one that takes its place is another",
    "paid_usd": "US dollars that its rows were paid with; NULL if that was not counted",
    "served_s": "seconds that this row is about; the first of a session begins when the server was ready",
    "queue_s": "seconds that a request waited in the server before it began, on average; NULL if it does not "
    "say",
    "small": "whether the sample is small: fewer than 30 items, or fewer than 5 of a kind",
}


@cache
def columns_of(kind: type) -> tuple[tuple[str, str, bool], ...]:
    """The columns of a kind of row: name, type in SQL, and whether it may be NULL."""
    found = []
    for field in fields(kind):
        # As it is written: to evaluate all of them takes longer than to make the statements of all tables.
        name, *none = str(field.type).split(" | ")
        found.append((field.name, _SQL_TYPES[name], none == ["None"]))
    return tuple(found)


def create(connection: duckdb.DuckDBPyConnection, *kinds: type) -> None:
    """Create the tables of these kinds of rows, with their comments."""
    connection.execute(statements(*kinds))


def statements(*kinds: type) -> str:
    """The statements that create the tables of these kinds of rows, with their comments."""
    found = []
    for kind in kinds:
        table = TABLES[kind]
        columns = [
            f'"{name}" {kind_}{"" if nullable else " NOT NULL"}' for name, kind_, nullable in columns_of(kind)
        ]
        found.append(f"CREATE TABLE {table} ({', '.join(columns)});")
        about = (kind.__doc__ or "").split(": ", 1)[-1].strip()
        found.append(f"COMMENT ON TABLE {table} IS '{quoted(about)}';")
        found += [_comment(table, field.name) for field in fields(kind)]
    return "\n".join(found)


def add_columns(connection: duckdb.DuckDBPyConnection, *kinds: type) -> list[str]:
    """Add the nullable columns that the tables of these kinds of rows lack; return their names.

    A new column of a kind of row is thus added to every older store. One that may not be NULL needs a
    migration.
    """
    there = set(
        connection.execute(
            "SELECT table_name, column_name FROM duckdb_columns() WHERE database_name = current_database()"
        ).fetchall()
    )
    added = []
    for kind in kinds:
        table = TABLES[kind]
        for name, kind_, nullable in columns_of(kind):
            if nullable and (table, name) not in there:
                connection.execute(f'ALTER TABLE {table} ADD COLUMN "{name}" {kind_}')
                connection.execute(_comment(table, name))
                added.append(f"{table}.{name}")
    return added


def _comment(table: str, column: str) -> str:
    text = COLUMN_COMMENTS.get(column, column.replace("_", " "))
    return f"COMMENT ON COLUMN {table}.\"{column}\" IS '{quoted(text)}';"


def quoted(text: str) -> str:
    """A text escaped for use between quotes in SQL."""
    return text.replace("'", "''")
