"""The effect of a moderator: the same dialogues with the same model, with and without it, pair by pair."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from safemt_client.judges.refusal import DECLINING
from safemt_client.results.stats.correction import clustered_share
from safemt_client.results.stats.pairs import compared
from safemt_client.results.store.reader import Queryable

__all__ = ["effects"]


@dataclass(frozen=True, slots=True)
class _Conversation:
    item: str
    length: int
    scenario: str
    label: str | None
    benign: bool
    declined: bool | None  # None where there is no reply that could decline
    dialogue: str


def effects(reader: Queryable, run_id: str) -> list[dict[str, Any]]:
    """The effect of each moderator on each target that is in the run without it too, under each judge.

    `rows` are those of `pairs.compared`: first without, second with the moderator. `rescued` and
    `newly_unsafe` are conversations whose reply is unsafe only without, or only with it; `newly_declined` are
    those that are declined or refused only with it, and `over_refusal` are those of the benign items.
    `detection` measures the guard before the reply (conversations whose assessment failed left out): against
    the data, whose items are harmful unless they are marked benign, and against the judge, by
    whose labels the model alone replies unsafely. `actions` counts turns by the action taken;
    `waited_s` is how long the moderator delayed the replies.
    """
    found = []
    for target, target_key, moderator, moderator_key, base, base_key in reader.query(
        """SELECT t.name, t.target_key, m.name, m.moderator_key, b.baseline, b.baseline_key
           FROM run_targets t
           JOIN run_moderators m ON m.run_id = t.run_id AND m.moderator_key = t.moderator
           JOIN baselines b ON b.run_id = t.run_id AND b.target_key = t.target_key
           WHERE t.run_id = ? ORDER BY t.name""",
        [run_id],
    ).rows:
        guard = _guard(reader, run_id, target_key)
        judges = reader.query(
            "SELECT judge_key, name FROM run_judges WHERE run_id = ? ORDER BY name", [run_id]
        ).rows
        for judge_key, judge in judges or [(None, None)]:
            alone = _conversations(reader, run_id, base_key, judge_key)
            guarded = _conversations(reader, run_id, target_key, judge_key)
            found.append(
                {"target": target, "without": base, "moderator": moderator, "moderator_key": moderator_key}
                | {"judge": judge, "judge_key": judge_key}
                | _effect(alone, guarded)
                | {"detection": _detection(guard, alone, guarded)}
                | {"actions": _actions(reader, run_id, target_key)}
                | _cost(reader, run_id, target_key)
            )
    return found


def _conversations(
    reader: Queryable, run_id: str, target_key: str, judge_key: str | None
) -> dict[str, _Conversation]:
    rows = reader.query(
        """SELECT dialogue_key, item_id, length, coalesce(scenario, 'unknown'), label,
                  coalesce(benign, false), outcome, by_guard, refusal_rule
           FROM conversations
           WHERE run_id = ? AND target_key = ? AND judge_key IS NOT DISTINCT FROM ?""",
        [run_id, target_key, judge_key],
    ).rows
    found = {}
    for key, item, length, scenario, label, benign, outcome, by_guard, rule in rows:
        declined = None
        if by_guard or outcome == "refused_by_provider":
            declined = True
        elif outcome in ("answered", "truncated"):
            declined = rule in DECLINING
        found[key] = _Conversation(item, length, scenario, label, benign, declined, key)
    return found


def _effect(alone: dict[str, _Conversation], guarded: dict[str, _Conversation]) -> dict[str, Any]:
    pairs = [(alone[key], after) for key, after in guarded.items() if key in alone]
    attacks = [(before, after) for before, after in pairs if not before.benign]
    benign = [(before, after) for before, after in pairs if before.benign]
    scenario_of = {before.item: before.scenario for before, _ in attacks}
    rows = compared(
        _labels([before for before, _ in attacks]), _labels([after for _, after in attacks]), scenario_of
    )
    changes = Counter(
        (before.label, after.label)
        for before, after in attacks
        if before.label in ("safe", "unsafe") and after.label in ("safe", "unsafe")
    )
    return {
        "rows": rows,
        "pairs": sum(changes.values()),
        "not_paired": len(attacks) - sum(changes.values()),
        "rescued": changes["unsafe", "safe"],
        "newly_unsafe": changes["safe", "unsafe"],
        "newly_declined": _newly_declined(pairs),
        "over_refusal": {
            "pairs": sum(_known(pair) for pair in benign),
            "without": sum(bool(before.declined) for before, after in benign if _known((before, after))),
            "with": sum(bool(after.declined) for before, after in benign if _known((before, after))),
            "newly_declined": _newly_declined(benign),
        },
    }


def _known(pair: tuple[_Conversation, _Conversation]) -> bool:
    return pair[0].declined is not None and pair[1].declined is not None


def _newly_declined(pairs: Sequence[tuple[_Conversation, _Conversation]]) -> int:
    return sum(before.declined is False and after.declined is True for before, after in pairs)


def _labels(conversations: Sequence[_Conversation]) -> dict[tuple[str, int], float]:
    return {
        (c.item, c.length): float(c.label == "unsafe") for c in conversations if c.label in ("safe", "unsafe")
    }


@dataclass(frozen=True, slots=True)
class _Found:
    """What the guard found in a conversation before the reply was given."""

    detected: bool
    first_turn: int | None
    failed: bool
    assessments: int


def _guard(reader: Queryable, run_id: str, target_key: str) -> dict[str, _Found]:
    rows = reader.query(
        """SELECT dialogue_key, detected, first_detected_turn, failed, assessments FROM detections
           WHERE run_id = ? AND target_key = ?""",
        [run_id, target_key],
    ).rows
    return {key: _Found(*found) for key, *found in rows}


def _detection(
    guard: dict[str, _Found], alone: dict[str, _Conversation], guarded: dict[str, _Conversation]
) -> dict[str, Any]:
    decided = [(key, found) for key, found in guard.items() if not found.failed and key in guarded]
    data = [(not guarded[key].benign, found.detected, guarded[key].item) for key, found in decided]
    judge = [
        (alone[key].label == "unsafe", found.detected, alone[key].item)
        for key, found in decided
        if key in alone and alone[key].label in ("safe", "unsafe") and not alone[key].benign
    ]
    first = sorted(found.first_turn for _, found in decided if found.first_turn is not None)
    turns = Counter(first)
    return {
        "assessed": len(decided),
        "failed": sum(found.failed for found in guard.values()),
        "by_data": _scores(data),
        "by_judge": _scores(judge),
        "first_detected_turn": {
            # If only the last turn was assessed, it is the first one.
            "every_turn": any(found.assessments > 1 for found in guard.values()),
            "median": first[len(first) // 2] if first else None,
            "counts": {str(turn): turns[turn] for turn in sorted(turns)},
        },
    }


def _scores(rows: Sequence[tuple[bool, bool, str]]) -> dict[str, Any]:
    """Precision, recall and F1 of (harmful, detected, item) triples; intervals resample whole items.

    Without harmless items precision is meaningless, and is None; so is F1.
    """
    positives = sum(harmful for harmful, _, _ in rows)
    both = [row for row in rows if row[0]]
    alarms = [row for row in rows if row[1]]
    recall = _share([detected for _, detected, _ in both], [item for _, _, item in both])
    some_harmless = positives < len(rows)
    precision = (
        _share([harmful for harmful, _, _ in alarms], [item for _, _, item in alarms])
        if some_harmless
        else None
    )
    hits = sum(detected for _, detected, _ in both)
    total = positives + len(alarms)
    return {
        "harmful": positives,
        "harmless": len(rows) - positives,
        "detected": len(alarms),
        "hits": hits,
        "recall": recall,
        "precision": precision,
        "f1": 2 * hits / total if total and some_harmless else None,
    }


def _actions(reader: Queryable, run_id: str, target_key: str) -> dict[str, int]:
    """How many turns each action of the moderator applies to."""
    return dict(
        reader.query(
            """SELECT intervention, count(*) FROM replies
               WHERE run_id = ? AND target_key = ? AND intervention IS NOT NULL GROUP BY ALL ORDER BY ALL""",
            [run_id, target_key],
        ).rows
    )


def _share(right: Sequence[bool], items: Sequence[str]) -> dict[str, Any] | None:
    if not right:
        return None
    values = np.array(right, dtype=np.float64)
    return asdict(clustered_share(values, np.ones(len(values)), items)[0])


def _cost(reader: Queryable, run_id: str, target_key: str) -> dict[str, Any]:
    """What the moderator added to the turns of a target: time waited, and what its assessments cost."""
    turns, total, median, p95 = reader.query(
        """SELECT count(*), sum(waited), median(waited), quantile_cont(waited, 0.95) FROM (
               SELECT request_hash, sum(waited_s) AS waited FROM (
                   SELECT DISTINCT request_hash, stage, turn, waited_s FROM assessed
                   WHERE run_id = ? AND target_key = ?) GROUP BY ALL)""",
        [run_id, target_key],
    ).rows[0]
    model_s = reader.query(
        """SELECT sum(latency_s) FROM (SELECT DISTINCT request_hash, model_request_hash FROM turns
           WHERE model_request_hash IS NOT NULL) w
           JOIN current_turns m ON m.request_hash = w.model_request_hash
           SEMI JOIN (SELECT request_hash FROM steps WHERE run_id = ? AND target_key = ?) s
             ON s.request_hash = w.request_hash""",
        [run_id, target_key],
    ).rows[0][0]
    calls, tokens, usd, unknown = reader.query(
        """SELECT count(*), sum(coalesce(prompt_tokens, 0) + coalesce(completion_tokens, 0)), sum(cost_usd),
                  count(*) - count(cost_usd)
           FROM (SELECT DISTINCT w.assessment_hash FROM moderations w
                 JOIN steps s ON s.request_hash = w.request_hash
                 JOIN run_targets t ON t.run_id = s.run_id AND t.target_key = s.target_key
                                   AND t.moderator = w.moderator_key
                 WHERE s.run_id = ? AND s.target_key = ?)
           JOIN current_assessments USING (assessment_hash)""",
        [run_id, target_key],
    ).rows[0]
    return {
        "waited_s": {"turns": turns, "total": total, "median": median, "p95": p95, "model": model_s},
        "assessments": {"calls": calls, "tokens": tokens, "cost_usd": usd, "calls_of_unknown_cost": unknown},
    }
