"""Facts: what a team keeps of runs, without any text, as Parquet in a folder or a bucket.

A run is in facts with a manifest, `manifests/RUN.json`, and the Parquet files that it lists. It is written
last and replaced in one step, so what it does not list is not there. Small tables are in it as rows. Of a
large one there is a file for each target, under `TABLE/dataset=.../target=.../run=.../`.

Hashes of requests and replies are numbers in facts: they tell which are alike within a run, and nothing else.
So are people. How many replies a label stands for only the store can say, since that depends on all of its
runs: `labelled_replies` has the labelled replies as the store counts them.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from typing import Any
from urllib.parse import quote

from safemt_client.providers.errors import InputError

__all__ = [
    "HASHES",
    "LARGE",
    "MANIFESTS",
    "ROWS",
    "VERSION",
    "FactFile",
    "Manifest",
    "folder_of",
    "kept_name",
    "shadows",
]

VERSION = 2
"""The version of facts; a reader of an older one refuses them. A new column needs no new version."""
MANIFESTS = "manifests"
_LONGEST = 200
"""Bytes of a name in the name of a folder: file systems take 255."""

ROWS = (
    *("runs", "run_targets", "run_judges", "run_moderators", "run_events", "server_use"),
    *("stop_rules", "stop_decisions", "stop_events", "baselines", "spend", "sent_parameters"),
    *("label_draws", "anchor_runs", "judge_anchors"),
)
"""The tables and views whose rows are in the manifest."""

LARGE = {
    "conversations": "target_key judge judge_key dialogue_key item_id length scenario source method outcome "
    "turn state label reason refusal refusal_kind refusal_rule category severity specificity "
    "confidence confidence_kind benign by_guard intervention moderator request_no judged_no reply_no "
    "imported_from condition paired_length sample",
    "turns": "target_key dialogue_key item_id length turn scenario source method outcome "
    "resolved_model prompt_tokens completion_tokens cost_usd started_at latency_s history "
    "request_no refusal_rule benign intervention moderator judged_no reply_no error_code last "
    "imported_from condition sample",
    "verdicts": "judge_key request_no dialogue_key reply_no label reason refusal refusal_kind category "
    "severity specificity confidence confidence_kind recorded_at resolved_model",
    "requests": "request_no model_no outcome intervention latency_s cost_usd prompt_tokens "
    "completion_tokens started_at reply_no target_key refusal_rule error_code resolved_model",
    "moderations": "request_no moderator_key stage turn assessment_no guard_key action waited_s recorded_at",
    "assessments": "assessment_no guard_key stage verdict confidence confidence_kind refusal prompt_tokens "
    "completion_tokens cost_usd recorded_at latency_s error_code reply_no",
    "dialogues": "dialogue_key dataset_digest item_id length scenario source method benign extra condition "
    "paired_length",
    "planned": "dialogue_key not_attempted",
    "stop_order": "item_id place",
    "labels": "request_no dialogue_key reply_no annotator label refusal_kind recorded_at adjudicated",
    "labelled": "judge_key place target_key length item_id human judge weight by_chance",
    "drawn": "draw_id created_at wanted basis judge_key judge reference_key reference target_key item_id "
    "length dialogue_key request_no judged_no reply_no place judge_label doubt guess chance label reason",
    "anchored": "anchor_id number created_at wanted judge judge_key anchor_key place item_id length "
    "dialogue_key judged_no reply_no label_before judged_before label reason judged_again same_label",
}
"""The columns of the tables that are in files of their own."""

HASHES = {
    "request_no": "request_hash",
    "judged_no": "judged_hash",
    "reply_no": "reply_hash",
    "model_no": "model_request_hash",
    "assessment_no": "assessment_hash",
}
"""The columns that are numbers, and what they are called in a store."""


@dataclass(frozen=True, slots=True)
class FactFile:
    """A file of a run: its table, where it is below the folder, its size, and its rows."""

    table: str
    path: str
    size: int
    rows: int


@dataclass(frozen=True, slots=True)
class Manifest:
    """What facts have of one run: `rows` of small tables by their names, and `files`.

    `calibration` is the latest one of the run's judge, as a report has it.
    """

    run_id: str
    exported_at: str
    program_version: str
    rows: dict[str, list[dict[str, Any]]]
    files: list[FactFile]
    calibration: dict[str, Any] | None = None
    columns: dict[str, str] = field(default_factory=lambda: dict(LARGE))
    """The columns of the files, by their table: a program of this version may have fewer, or more."""

    def text(self) -> bytes:
        """The manifest as it is written."""
        return json.dumps({"version": VERSION} | asdict(self), default=str, allow_nan=False).encode()

    @staticmethod
    def read(text: bytes, where: str) -> Manifest:
        """The manifest of this text.

        Raises:
            InputError: it is of a newer version, or is none.
        """
        try:
            found = json.loads(text)
            version = int(found.pop("version"))
            if version > VERSION:
                raise InputError(f"{where}: facts of a newer version of safemt_client: update it")
            files = [FactFile(**one) for one in found.pop("files")]
            manifest = Manifest(files=files, **found)
        except (ValueError, TypeError, LookupError, AttributeError):
            raise InputError(f"{where}: is not a manifest of facts: export that run again") from None
        if any(one.path.startswith("/") or ".." in one.path.split("/") for one in files):
            raise InputError(f"{where}: names files outside its folder: do not trust it")
        return manifest


def kept_name(name: str) -> str:
    """A name as facts have it: one that no folder can be called is cut."""
    if len(quote(name, safe="")) <= _LONGEST:
        return name
    short = name
    while len(quote(short, safe="")) > _LONGEST - 12:
        short = short[:-1]
    return f"{short}~{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def folder_of(table: str, dataset: str, target: str | None, run_id: str) -> str:
    """Where the files of a table are, below the folder of facts; without a target, those of the whole run."""
    parts = {"dataset": dataset, "target": target, "run": run_id}
    return "/".join([table, *(f"{k}={quote(v, safe='')}" for k, v in parts.items() if v is not None)])


def shadows(sources: dict[str, str], known: dict[str, set[str]]) -> dict[str, str]:
    """What stands for tables and views of a store, by their names; `sources` has what reads each large table.

    Of a column that facts do not have there is none in it: `known` has those of each table.
    """

    def columns(table: str) -> str:
        named = [name for name in LARGE[table].split() if name in known[table]]
        return ", ".join(f"run || '-' || {c} AS {HASHES[c]}" if c in HASHES else c for c in named)

    def of(table: str, *more: str) -> str:
        return f"SELECT run AS run_id, {', '.join((*more, columns(table)))} FROM {sources[table]}"

    found = {}
    for table, name in (
        ("dialogues", "dialogues"),
        ("planned", "run_dialogues"),
        ("stop_order", "stop_order"),
    ):
        if table in sources:
            found[name] = of(table)
    if "conversations" in sources:
        found["every_conversation"] = of("conversations", "target")
    if "turns" in sources:
        found["replies"] = of("turns", "target")
        found["steps"] = (
            "SELECT run AS run_id, target_key, dialogue_key, turn, "
            f"run || '-' || request_no AS request_hash, sample FROM {sources['turns']}"
        )
        # Of a moderated turn, that and what the model itself was asked are among the requests.
        some = columns("turns")
        found["current_turns"] = (
            f"SELECT DISTINCT ON (request_hash) * FROM (SELECT run AS run_id, {some} FROM {sources['turns']}"
            + (
                " WHERE moderator IS NULL UNION ALL BY NAME " + of("requests")
                if "requests" in sources
                else ""
            )
            + ")"
        )
        found["turns"] = found["current_turns"]
    if "verdicts" in sources:
        found["verdicts"] = of("verdicts")
        found["final_verdicts"] = (
            "SELECT DISTINCT ON (judge_key, request_hash, dialogue_key, reply_hash) * "
            f"FROM ({of('verdicts')})"
        )
    for table, name in (
        *(("moderations", "moderations"), ("assessments", "assessments"), ("labels", "human_labels")),
        *(("labelled", "labelled_replies"), ("anchored", "anchored_replies")),
    ):
        if table in sources:
            found[name] = of(table)
    if "drawn" in sources:
        found["drawn_labels"] = (
            f"SELECT d.*, t.name AS target FROM ({of('drawn')}) d "
            "LEFT JOIN (SELECT DISTINCT ON (run_id, target_key) * FROM run_targets) t "
            "USING (run_id, target_key)"
        )
    return found
