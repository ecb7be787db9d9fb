"""The views of the store: `views.sql`, with a description of each column, and whether an open file has them.

A column name has one description, and another where a view uses the name differently.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from functools import cache
from importlib import resources

import duckdb

from safemt_client.results.store.migrations import MIGRATIONS, schema_version
from safemt_client.results.store.schema import COLUMN_COMMENTS, TABLES, columns_of, quoted

__all__ = ["create_views", "is_current", "mark", "view_texts"]

_VIEW = re.compile(r"^CREATE OR REPLACE VIEW (\w+)", re.MULTILINE)

_SHARED = {
    "target": "name of the model under evaluation, as the user gave it, with its moderator",
    "baseline": "name of the same target without a moderator",
    "baseline_key": "its target key",
    "panel": "majority, unanimous or chain; NULL for a single judge",
    "judge": "name of the judge, as the user gave it; NULL without one",
    "history": "scripted, live or none: where the assistant turns before the last user turn come from; "
    "unknown of some that are imported",
    "item_id": "id of the benchmark's query: the unit of pairing and of resampling",
    "scenario": "kind of harm that the data name",
    "source": "where the data say that the item comes from",
    "method": "jailbreak method, where the data name one",
    "benign": "whether the data say that the item is harmless; NULL if they do not say",
    "text": "the reply; empty if there is none, NULL if an imported one is not known",
    "reasoning": "the model's reasoning, where the endpoint returns it",
    "finish_reason": "why the model stopped, in the endpoint's terms",
    "error": "one line about what went wrong; NULL for an answer",
    "resolved_model": "the model that answered, according to the endpoint",
    "prompt_tokens": "tokens that were sent; NULL is unknown",
    "completion_tokens": "tokens that came back; NULL is unknown",
    "explanation": "what the judge gave as its reason",
    "by_guard": "whether the guard refused, not the model",
    "unsafe": "how many are labelled unsafe",
    "safe": "how many are labelled safe",
    "scored": "how many are labelled safe or unsafe",
    "attempted": "how many could be sent: all planned ones except those that are not_attempted",
    "planned": "how many the run plans, without those that are not_needed",
    "asr": "attack success rate: unsafe / scored",
    "coverage": "scored / planned: what could not be sent lowers it",
    "asr_best": "the rate if everything unscored were safe",
    "asr_worst": "the rate if everything unscored were unsafe",
    "last": "whether it is the last user turn of its conversation that was asked so far",
    "identity": "provider/model",
    "event": "intended, submitted, collected, failed or lost",
    "requests": "how many requests the batch contains",
    "detail": "what the endpoint says about the batch",
    "intent": "the user's intent, in the guard's words",
    "policy": "the policy text that the model was given; NULL if there was none",
    "judged_hash": "the request hash under which the reply's verdicts are kept",
    "sample": "which of the samples of its run, counted from 1",
}
_OWN: Mapping[str, Mapping[str, str]] = {
    "replies": {"outcome": "the result of the turn; docs/outcomes.md has the list"},
    "conversations": {
        "turn": "user turn at which it stands or ended, counted from 1; NULL if it was not asked",
        "text": "the reply at that turn; NULL if it was not asked",
        "request_hash": "key of that reply",
        "outcome": "of that turn; NULL if it was not asked",
        "state": "its state: a label, an outcome, unjudged, unassessed, pending, not_attempted or not_needed",
        "label": "safe, unsafe or unscored; NULL if there is nothing to label",
        "reason": "why it was not sent, is unscored, or failed",
        "moderator": "key of the target's moderator; NULL without one",
        "paired_length": "user turns of the original that it is compared with; its own of an original",
    },
    "asr": {
        "asr": "percent of the scored replies that are unsafe, rounded to one digit",
        "coverage": "percent of the planned replies that are scored",
    },
    "asr_by_turn": {"by_guard": "how many the guard refused; they are among the safe ones"},
    "asr_by_turn_reached": {
        "turn": "user turn, counted from 1",
        "reached": "how many conversations reached this turn",
    },
    "outcomes": {
        "outcome": "of the last turn, or else the state of the conversation",
        "conversations": "how many",
    },
    "spend": {
        "who": "target, judge or guard, and its name",
        "calls": "calls that were made, attempts that failed included",
        "calls_of_unknown_cost": "of these, calls whose cost is not in cost_usd",
        "calls_in_batches": "of these, calls made in batches",
        "cached_tokens": "of the prompt tokens, those that came from the vendor's cache",
    },
    "safety_index": {
        "exposure_factor": "1 - the attack success rate weighted by exp(-length); NULL if refused",
        "consistency_factor": "1 - the mean deviation of an item's labels from its first unsafe one on",
        "safety_index": "exposure_factor x consistency_factor, rounded to 4 digits; NULL if refused",
        "refused": "why there is no index; NULL if there is one",
        "exposure_from_0": "exposure_factor if a conversation of one turn is round 0",
        "safety_index_from_0": "exposure_from_0 x consistency_factor, rounded to 4 digits",
    },
    "hit_at_k": {
        "k": "so many replies to an item: 1, the powers of two, and all samples of the run",
        "items": "how many items have k scored replies",
        "planned_items": "how many items the run plans, without those that are not_needed",
        "hit": "mean over these items of the chance that at least one of k replies is unsafe",
        "hit_best": "the same over the planned items if everything unscored were safe",
        "hit_worst": "the same over the planned items if everything unscored were unsafe",
    },
    "sent_parameters": {
        "parameters": "JSON: temperature, limit of tokens and all else, under the names that were sent",
        "turns": "how many replies came to it",
        "first_sent": "UTC; when the first of these was asked for",
        "last_sent": "UTC; when the last of these was asked for",
    },
    "stopped_targets": {
        "recorded_at": "UTC; when it was stopped",
        "place": "the last item that its rules needed, in the order of stop_order",
    },
    "open_batches": {
        "target_key": "key of the target, or of the judge",
        "waiting": "hashes of the requests that have no result yet",
        "since": "UTC; when it was intended",
        "recorded_at": "UTC; when the event happened",
    },
    "refusals": {
        "replies": "final replies with a text",
        "declined_by_rule": "of these, full refusals and safe redirections by the rules",
        "judged": "how many the judge classified",
        "declined_by_judge": "how many decline according to the judge",
        "blocked": "how many the provider or a guard refused",
        "rate_by_rule": "declined_by_rule / replies",
        "rate_by_judge": "declined_by_judge / judged",
        "rate_with_blocks": "(declined_by_rule + blocked) / (replies + blocked)",
        "rate_by_judge_with_blocks": "(declined_by_judge + blocked) / (judged + blocked)",
        "benign": "whether the items are harmless: what is refused there is over-refusal",
    },
    "turn_labels": {"label": "safe, unsafe or unscored; NULL if it is not judged"},
    "first_unsafe": {
        "turns": "how many user turns were judged or asked",
        "first_unsafe_turn": "the first user turn whose reply is unsafe; NULL if none is",
        "recovered": "whether a reply after it is safe again",
        "unscored_turns": "turns whose reply has no label",
    },
    "assessed": {
        "moderator": "name of the moderator, as the user gave it",
        "turn": "the conversation as it stood at this user turn",
        "confidence": "the guard's confidence, if it gives one",
        "refusal": "whether the guard calls the reply a refusal, if it says so",
        "error": "why the guard could not be asked",
        "request_hash": "key of the moderated turn",
        "raw": "the guard's answer, unchanged",
        "latency_s": "seconds that the guard took",
    },
    "detections": {
        "moderator": "name of the moderator, as the user gave it",
        "assessments": "how many states of the conversation were assessed before a reply",
        "detected": "whether the guard called one that counts unsafe or controversial",
        "first_detected_turn": "the first user turn at which it did; NULL if it did not",
        "failed": "whether nothing was detected and an answer that counts is missing or could not be read",
        "waited_s": "seconds that it delayed the replies",
    },
    "twins": {
        "pair": "what the twins have in common: the field pair of their records",
        "scored": "harmful twins that are labelled safe or unsafe",
        "unsafe": "how many of these are unsafe",
        "benign_replies": "benign twins that were answered or blocked",
        "declined": "how many of these were declined (by the judge, else by the rules) or blocked",
        "both_right": "whether nothing is unsafe and nothing declined; NULL if one side is missing",
    },
    "given_labels": {
        "turn": "the user turn, from 1",
        "given": "the label of the data for this turn, in small letters",
        "harmful": "unsafe, harmful, true or 1; not if safe, harmless, benign, false or 0; else NULL",
    },
    "labelled_turns": {
        "moderator": "name of the moderator, as the user gave it",
        "turn": "the user turn, from 1",
        "given": "the label of the data for this turn, in small letters",
        "harmful": "unsafe, harmful, true or 1; not if safe, harmless, benign, false or 0; else NULL",
        "detected": "whether the guard called the conversation up to this turn unsafe or controversial",
        "decided": "whether the guard gave a verdict on it",
    },
    "calibrated_replies": {
        "category": "category of the reply in its set",
        "question": "what the reply answers",
        "reply": "the reply",
        "annotators": "how many people have labelled it",
        "called_unsafe": "how many of them call it unsafe",
        "called_safe": "how many of them call it safe",
        "people": "what most of them say: unsafe or safe, or split",
        "label": "the judge's: safe, unsafe or unscored; NULL if it is not judged",
        "right_label": "whether the judge says what most people say; NULL if it is not judged",
    },
    "calibrations": {
        "category": "category of the replies in their set; NULL for those that have none, and overall",
        "overall": "whether it is the row of all replies",
        "replies": "how many replies",
        "annotators": "how many people labelled a reply at most",
        "unsafe": "how many most people call unsafe",
        "safe": "how many most people call safe",
        "split": "how many people are evenly split on; no share counts them",
        "no_verdict": "how many the judge gave no label; no share counts them",
        "found": "unsafe ones that the judge calls unsafe",
        "missed": "unsafe ones that the judge calls safe",
        "false_alarms": "safe ones that the judge calls unsafe",
        "left_alone": "safe ones that the judge calls safe",
        "sensitivity": "found / (found + missed)",
        "specificity": "left_alone / (left_alone + false_alarms)",
        "precision": "found / (found + false_alarms)",
        "accuracy": "(found + left_alone) / (found + missed + false_alarms + left_alone)",
        "kappa": "Cohen's kappa of the judge and most people",
        "people_kappa": "the same of each person and most of the others; NULL if one person labelled",
        "people_alpha": "Krippendorff's alpha of the people; NULL if one person labelled",
    }
    | {
        f"{name}_{end}": f"{words} end of its 95 % interval"
        for name in (
            *("sensitivity", "specificity", "precision", "accuracy", "kappa"),
            *("people_kappa", "people_alpha"),
        )
        for end, words in (("low", "lower"), ("high", "upper"))
    },
    "anchored_replies": {
        "judge_key": "hash of the judge in the run",
        "label_before": "the judge's label in the run: safe or unsafe",
        "judged_before": "UTC; when it was given",
        "label": "the judge's label on this occasion: safe, unsafe or unscored; NULL if it is not asked yet",
        "explanation": "what the judge gave as its reason on this occasion",
        "judged_again": "UTC; when that was given",
        "same_label": "whether both are the same; NULL without a label on this occasion",
    },
    "current_comments": {"text": "the comment", "recorded_at": "UTC; when it was first written"},
    "human_decisions": {
        "people": "how many people have labelled it, unsure ones included",
        "unsure": "how many are unsure",
        "split": "whether people called it both safe and unsafe, or are all unsure",
        "adjudicated": "safe, unsafe or unsure: what an adjudicator decided; NULL if nobody did",
        "adjudicated_by": "who decided",
        "label": "safe or unsafe; NULL where people are evenly split or unsure",
    },
    "drawn_labels": {
        "judge": "name of the run's judge whose labels the chances go by",
        "judge_key": "its hash",
        "reference": "name of the stronger judge, or people",
        "wanted": "how many replies were asked for: so many are drawn on average",
        "place": "place in the order in which they are labelled, counted from 1",
        "judge_label": "the label of the run's judge when the sample was drawn: safe, unsafe or unscored",
        "label": "the label of people or of the stronger judge; NULL if there is none yet",
        "reason": "why the stronger judge gave none",
        "explanation": "what the stronger judge gave as its reason",
    },
    "judge_anchors": {
        "judge_key": "hash of the judge in the run",
        "replies": "how many replies the sample has",
        "compared": "how many of them have a label on this occasion: the others are in no share",
        "same": "how many of these have the label that they had in the run",
        "to_unsafe": "safe in the run, unsafe on this occasion",
        "to_safe": "unsafe in the run, safe on this occasion",
        "unscored": "how many the judge gave no label on this occasion",
        "errors": "how many are missing because of an error: the same command asks again",
        "not_asked": "how many are not asked yet",
        "agreement": "same / compared",
        "kappa": "Cohen's kappa of both labels; NULL where all labels are the same",
        "unsafe_before": "share of those compared that were unsafe in the run",
        "unsafe_again": "share of those compared that are unsafe on this occasion",
        "judged_from": "UTC; when the first of the labels in the run was given",
        "judged_to": "UTC; when the last of them was given",
        "again_from": "UTC; when the first label on this occasion was given",
        "again_to": "UTC; when the last of them was given",
        "models_before": "the models that answered for the run, according to the endpoint; NULL if not known",
        "models_again": "the models that answered on this occasion; NULL if not known",
    },
}
_SAME = {
    "final_replies": "replies",
    "safety_index_by_sample": "safety_index",
    "labels": "conversations",
    "every_conversation": "conversations",
    "current_assessments": "assessed",
}
_ROWS_OF_TABLES = {
    *("attempts", "current_turns", "final_verdicts", "current_assessments", "current_human_labels")
}


def create_views(connection: duckdb.DuckDBPyConnection) -> None:
    """Create the documented views with their comments, in one transaction, in place of older ones."""
    connection.execute("BEGIN")
    connection.execute(_views())
    _comment_views(connection)
    connection.execute(f"COMMENT ON TABLE schema_migrations IS '{mark()}'")
    connection.execute("COMMIT")


@cache
def view_texts() -> Mapping[str, str]:
    """The statement that creates each view, by its name."""
    statements = re.split(r";\n", re.sub(r"^--.*\n", "", _views(), flags=re.MULTILINE))
    return {found[1]: one.strip() for one in statements if (found := _VIEW.match(one.strip()))}


def is_current(connection: duckdb.DuckDBPyConnection) -> bool:
    """Whether the open file has this program's tables and views; a newer program's file counts too."""
    version = schema_version(connection) or 0
    found = connection.execute(
        "SELECT comment FROM duckdb_tables() "
        "WHERE table_name = 'schema_migrations' AND database_name = current_database()"
    ).fetchone()
    same = found is not None and found[0] == mark() and _has_views(connection)
    return version > len(MIGRATIONS) or (version == len(MIGRATIONS) and same)


@cache
def _views() -> str:
    return resources.files("safemt_client.results.store").joinpath("views.sql").read_text(encoding="utf-8")


@cache
def mark() -> str:
    """A mark that distinguishes this program's tables and views from another version of the same schema."""
    columns = [(TABLES[kind], columns_of(kind)) for kind in TABLES]
    content = f"{_views()}{columns}{_SHARED}{_OWN}{COLUMN_COMMENTS}"
    return f"views {hashlib.sha256(content.encode()).hexdigest()[:16]}"


def _has_views(connection: duckdb.DuckDBPyConnection) -> bool:
    """Whether no view is missing, as one is that another program has dropped."""
    found = connection.execute(
        "SELECT view_name FROM duckdb_views() WHERE NOT internal AND database_name = current_database()"
    ).fetchall()
    return set(_VIEW.findall(_views())) <= {name for (name,) in found}


def _comment_views(connection: duckdb.DuckDBPyConnection) -> None:
    """Put a comment on every column of every view of the open store."""
    rows = connection.execute(
        "SELECT c.table_name, c.column_name FROM duckdb_columns() c JOIN duckdb_views() v "
        "ON v.view_oid = c.table_oid AND v.database_name = c.database_name "
        "WHERE c.database_name = current_database() AND NOT v.internal"
    ).fetchall()
    statements = []
    for view, column in rows:
        own = _OWN.get(_SAME.get(view, view), {})
        about = own.get(column) or _SHARED.get(column) or COLUMN_COMMENTS.get(column)
        if not about and view in _ROWS_OF_TABLES:
            about = column.replace("_", " ")
        if about:
            statements.append(f'COMMENT ON COLUMN "{view}"."{column}" IS \'{quoted(about)}\';')
    connection.execute("\n".join(statements))
