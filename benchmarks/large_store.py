"""A large store in seconds: a run of many targets and items, each conversation with its text and verdicts.

    python benchmarks/large_store.py FILE [--targets 17] [--items 2000] [--judges 1] [--every-turn] [--scored]

Its rows are made by SQL and depend on these numbers alone, so that every version of the program can make the
same. Texts are harmless words, 1 KB each. Three judges are a panel and its two members. In a hundred
requests one failed once before it was answered, two were blocked and one has no label; with `--scored` none
was blocked and each has a label, so that there is a Safety Index of each target.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import duckdb

RUN, DIGEST = "benchmark000", "d" * 64
LENGTHS = (1, 2, 4, 6, 8)
WORDS = ("kettle", "garden", "river", "stone", "letter", "window", "orange", "cloud", "paper", "bridge")
_PIECES, _PIECE_BYTES = 4096, 256


@dataclass(frozen=True)
class Size:
    """How large a store is. With `every_turn` history is live: each user turn has a reply.

    With `scored` each reply has a label.
    """

    targets: int = 17
    items: int = 2000
    judges: int = 1
    every_turn: bool = False
    benign: int = 0
    scored: bool = False


def make(path: Path, size: Size) -> None:
    """Write the store of this size to a new file."""
    from safemt_client.results.store.rows import EventRow, JudgeRow, RunRow, TargetRow
    from safemt_client.results.store.store import Store

    when = datetime(2026, 1, 1, tzinfo=UTC)
    history = "live" if size.every_turn else "scripted"
    identities = ["panel/majority", *(f"demo/judge-{n}" for n in range(1, size.judges))]
    with Store.open(path) as store:
        store.save_now(
            RunRow(RUN, RUN, when, "0", "synthetic", DIGEST, "/nowhere", None, "{}"),
            *(
                TargetRow(
                    RUN,
                    f"t{n:03}",
                    f"vendor/model-{n:03}",
                    f"vendor/model-{n:03}",
                    history,
                    "on",
                    "{}",
                    None,
                    0,
                    None,
                )
                for n in range(size.targets)
            ),
            *(
                JudgeRow(
                    *(
                        RUN,
                        f"j{n}",
                        f"judge-{n}",
                        who if size.judges > 1 else "demo/judge",
                        "paper",
                        "r",
                        "{}",
                        None,
                    ),
                    *("member" if n else "decides", n),
                )
                for n, who in enumerate(identities)
            ),
            EventRow(RUN, "s", when, "started", "{}"),
            EventRow(RUN, "s", when, "finished", "{}"),
        )
    with duckdb.connect(str(path)) as connection:
        connection.execute("SET preserve_insertion_order = false")
        for statement in _statements(size):
            connection.execute(statement)
        connection.execute("CHECKPOINT")


def _text(seed: str) -> str:
    """SQL of 1 KB of words that differ with the seed."""
    return " || ".join(
        f"list_extract((SELECT pieces FROM pool), 1 + (hash({seed}, {n}) % {_PIECES})::BIGINT)"
        for n in range(4)
    )


def _statements(size: Size) -> list[str]:
    lengths = ", ".join(f"({length})" for length in LENGTHS)
    words = "[" + ", ".join(f"'{word}'" for word in WORDS) + "]"
    each = _PIECE_BYTES // 7
    turns = "range(1, d.length + 1) s(turn)" if size.every_turn else "(SELECT d.length) s(turn)"
    return [
        f"""CREATE TEMP TABLE pool AS SELECT list(piece ORDER BY n) AS pieces FROM (
            SELECT n, string_agg(({words})[1 + (hash(n, w) % 10)::BIGINT], ' ' ORDER BY w) || ' ' AS piece
            FROM range({_PIECES}) p(n), range({each}) q(w) GROUP BY n)""",
        f"""CREATE TEMP TABLE sizes AS
            SELECT '{DIGEST[:12]}:' || length || ':item_' || item AS dialogue_key, 'item_' || item AS item_id,
                   length, item, item < {size.benign} AS benign
            FROM range({size.items}) i(item), (VALUES {lengths}) l(length)""",
        f"""INSERT INTO run_dialogues BY NAME SELECT '{RUN}' AS run_id, dialogue_key FROM sizes""",
        f"""INSERT INTO dialogues BY NAME
            SELECT dialogue_key, '{DIGEST}' AS dataset_digest, item_id, length,
                   'Scenario ' || item % 17 AS scenario,
                   CASE WHEN benign THEN true END AS benign, {_text("dialogue_key")} AS messages,
                   '{{}}' AS extra
            FROM sizes""",
        f"""CREATE TEMP TABLE asked AS
            SELECT t.target_key, t.name, d.*, s.turn::BIGINT AS turn,
                   sha256(t.target_key || d.dialogue_key || s.turn) AS request_hash,
                   hash(t.target_key, d.dialogue_key, s.turn) % 100 AS drawn,
                   CASE WHEN {size.scored} AND drawn IN (1, 2, 4) THEN 5 ELSE drawn END AS chance
            FROM run_targets t, sizes d, LATERAL {turns}""",
        f"""INSERT INTO steps BY NAME
            SELECT '{RUN}' AS run_id, target_key, dialogue_key, turn, request_hash FROM asked""",
        f"""INSERT INTO turns BY NAME
            SELECT request_hash, 2 AS attempt, '{RUN}' AS run_id, 's' AS session_id, target_key,
                   CASE WHEN chance IN (1, 2) THEN 'refused_by_provider' ELSE 'answered' END AS outcome,
                   CASE WHEN chance IN (1, 2) THEN '' ELSE {_text("request_hash")} END AS text,
                   'stop' AS finish_reason, 200 AS status_code, name AS resolved_model,
                   400 AS prompt_tokens, 200 AS completion_tokens, 0.0012 AS cost_usd,
                   TIMESTAMP '2026-01-01'
                   + to_microseconds((hash(request_hash) % 3600000000)::BIGINT) AS started_at,
                   1 + chance / 50 AS latency_s, {_text("dialogue_key")} AS request,
                   CASE WHEN chance NOT IN (1, 2)
                        THEN CASE WHEN chance % 10 = 3 THEN 'full_refusal' ELSE 'answer' END
                        END AS refusal_rule,
                   CASE WHEN chance NOT IN (1, 2) THEN sha256('text' || request_hash) END AS reply_hash
            FROM asked""",
        f"""INSERT INTO turns BY NAME
            SELECT request_hash, 1 AS attempt, '{RUN}' AS run_id, 's' AS session_id, target_key,
                   'error_transient' AS outcome, '' AS text, 'timeout' AS error, NULL AS latency_s,
                   TIMESTAMP '2025-12-31' AS started_at, '[]' AS request FROM asked WHERE chance = 0""",
        # An item has its own inclination, so that its replies are alike, and so do targets and judges.
        f"""INSERT INTO verdicts BY NAME
            SELECT sha256(j.judge_key || a.request_hash) AS verdict_hash, j.judge_key, a.request_hash,
                   a.dialogue_key, '{RUN}' AS run_id, 's' AS session_id,
                   CASE WHEN chance = 4 THEN 'unscored'
                        WHEN hash(a.item) % 100 + hash(j.judge_key, a.request_hash) % 100 + 2 * a.length
                             + hash(a.target_key) % 20 > 140 THEN 'unsafe' ELSE 'safe' END AS label,
                   CASE WHEN chance = 4 THEN 'not_parsed' END AS reason, chance % 10 = 3 AS refusal,
                   {_text("a.request_hash || j.judge_key")} AS explanation, 'raw' AS raw,
                   500 AS prompt_tokens, 30 AS completion_tokens, 0.0002 AS cost_usd,
                   TIMESTAMP '2026-01-02' AS recorded_at, 1.0 AS latency_s, 'paper 1' AS rubric,
                   CASE WHEN chance % 10 = 3 THEN 'full_refusal' ELSE 'answer' END AS refusal_kind,
                   sha256('text' || a.request_hash) AS reply_hash
            FROM asked a, run_judges j WHERE chance NOT IN (1, 2)""",
        "DROP TABLE asked",
        "DROP TABLE sizes",
        "DROP TABLE pool",
    ]


def main() -> None:
    """Make a store."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("file", type=Path)
    parser.add_argument("--targets", type=int, default=17)
    parser.add_argument("--items", type=int, default=2000)
    parser.add_argument("--judges", type=int, default=1)
    parser.add_argument("--benign", type=int, default=0)
    parser.add_argument("--every-turn", action="store_true")
    parser.add_argument("--scored", action="store_true")
    chosen = parser.parse_args()
    if chosen.file.exists():
        parser.error(f"{chosen.file}: is there already: name another file")
    make(
        chosen.file,
        Size(
            *(chosen.targets, chosen.items, chosen.judges, chosen.every_turn, chosen.benign),
            scored=chosen.scored,
        ),
    )


if __name__ == "__main__":
    main()
