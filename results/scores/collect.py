"""The scores of a run, read from the store's views."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

from safemt_client.providers.errors import InputError
from safemt_client.results.scores.anchors import latest_anchor
from safemt_client.results.scores.calibrations import latest_calibration
from safemt_client.results.scores.indices import indices
from safemt_client.results.scores.sent import sent_parameters, sent_warnings
from safemt_client.results.scores.served import servers
from safemt_client.results.scores.stopped import stop_rules, with_sequences
from safemt_client.results.scores.unfinished import held_back, unfinished
from safemt_client.results.scores.views import named_rows, samples_of, view_rows
from safemt_client.results.scores.wording import even_panel
from safemt_client.results.stats.safety_index import ROUNDS, round_weights
from safemt_client.results.stats.shares import SMALL_ITEMS, small_sample
from safemt_client.results.store.narrowed import about_run
from safemt_client.results.store.queries import Queryable

__all__ = [
    "as_dict",
    "checks_known",
    "corrections_known",
    "deciding_judge",
    "latest_run",
    "warnings",
    "without_nan",
]

_INFERRED = ("asr_by_turn_reached", "trends", "differences", "effects", "corrections", "agreement")
_MANY, _MOST_UNSCORED = 20, 0.02
_NESTED = (float, dict, list)
_MOST_TARGETS = 6
"""Of so many targets without a moderator a report lists each pair."""


def latest_run(reader: Queryable, run_id: str | None) -> str:
    """The run of this id, or the latest one.

    Raises:
        InputError: there is no such run.
    """
    known = [row[0] for row in reader.query("SELECT run_id FROM runs ORDER BY created_at DESC").rows]
    if not known:
        raise InputError("the store has no runs yet")
    if run_id is None:
        latest = reader.query(
            "SELECT run_id FROM run_events WHERE event = 'started' ORDER BY recorded_at DESC LIMIT 1"
        ).rows
        return str(latest[0][0]) if latest else str(known[0])
    if run_id not in known:
        raise InputError(f"run {run_id}: not in this store; it has {', '.join(known[:10])}")
    return run_id


def deciding_judge(reader: Queryable, run_id: str) -> str | None:
    """The key of the judge whose labels count: the panel's where there is one; None without a judge."""
    rows = reader.query("SELECT judge_key FROM deciding_judges WHERE run_id = ?", [run_id]).rows
    return str(rows[0][0]) if rows else None


def as_dict(
    reader: Queryable,
    run_id: str | None,
    si_rounds: tuple[int, ...] = ROUNDS,
    *,
    whole: bool = True,
    say: Callable[[str], None] = lambda what: None,
    about: Queryable | None = None,
) -> dict[str, Any]:
    """All scores of a run as JSON-able data. The Safety Index is that over `si_rounds`.

    Of the targets in `unfinished` there are counts and outcomes, and nothing that is inferred from them, but
    for those that were stopped the intervals of `stop_rules` and `asr_by_turn`, which hold at every look.
    Not `whole`, it has only what a report shows: Safety Indices under the judge that decides, and no two
    targets are compared where there are too many to list their pairs. `say` is told what is computed
    next: of large runs it takes a while. `about` is what `about_run` gives, if the caller asks it as well.
    """
    run_id = latest_run(reader, run_id)
    say("the state of each conversation")
    with about_run(reader, run_id) if about is None else nullcontext(about) as narrowed:
        found = _figures(narrowed, run_id, si_rounds, whole, say)
        # Whom a label of a person stands for may be in other runs: these ask the whole store.
        judged = any(row["judge_key"] for row in found["asr_by_turn"])
        say("rates corrected by people's labels")
        found["corrections"] = corrections_known(reader, run_id) if judged else []
        found["checks"] = checks_known(reader, run_id) if judged else []
        found["calibration"] = latest_calibration(reader, run_id, found["deciding_judge"])
        found["anchor"] = latest_anchor(reader, run_id, found["deciding_judge"])
        found["stop_rules"] = stop_rules(narrowed, run_id, found["deciding_judge"])
        found = held_back(found)
        found["asr_by_turn"] = with_sequences(narrowed, run_id, found["asr_by_turn"])
    cleaned: dict[str, Any] = without_nan(found)
    return cleaned


@dataclass(frozen=True, slots=True)
class _Has:
    """What a run has: what it cannot have is not looked for. `pairs` of targets are those to be compared."""

    live: bool
    chain: bool
    guards: bool
    members: int
    pairs: int


def _figures(
    reader: Queryable, run_id: str, si_rounds: tuple[int, ...], whole: bool, say: Callable[[str], None]
) -> dict[str, Any]:
    samples = samples_of(reader, run_id)
    view = partial(view_rows, reader, run_id, samples=samples)
    asr, judges, targets = view("asr_by_turn"), view("run_judges"), view("run_targets")
    alone = sum(row["moderator"] is None for row in targets)
    listed = alone <= _MOST_TARGETS
    pairs = alone * (alone - 1) // 2
    has = _Has(
        live=any(row["history"] == "live" for row in targets),
        chain=any(row["identity"].startswith("panel/chain") for row in judges),
        guards=alone < len(targets),
        members=sum(row["role"] == "member" for row in judges),
        pairs=pairs if whole or listed else 0,
    )
    judged = any(row["judge_key"] for row in asr)
    sent = sent_parameters(reader, run_id)
    decides = deciding_judge(reader, run_id)
    shown = None if whole else decides
    say("rates, outcomes and Safety Indices")
    return {
        "run": _run(view("runs")[0]),
        "judges": judges,
        # For a panel, the members' own labels are listed as well as its decision.
        "deciding_judge": decides,
        "escalated": _escalated(reader, run_id) if has.chain else [],
        "unfinished": unfinished(reader, run_id),
        "asr_by_turn": asr,
        "asr_by_scenario": view("asr_by_scenario"),
        "asr_by_method": view("asr_by_method"),
        "safety_index": indices(reader, run_id, si_rounds, judge_key=shown) if judges else [],
        "index_weights": {str(k): weight for k, weight in round_weights(si_rounds).items()},
        "targets": targets,
        "moderators": view("run_moderators"),
        "endings": _endings(reader, run_id),
        "latency": _latency(reader, run_id, has.guards),
        "resolved_models": _resolved(reader, run_id),
        "sent_parameters": sent,
        "last_event": _last_event(reader, run_id),
        "outcomes": view("outcomes"),
        "unscored": _unscored(reader, run_id) if judges else [],
        "refusals": view("refusals"),
        "first_unsafe": _first_unsafe(reader, run_id) if has.live else [],
        **_of_data(reader, run_id, has.guards),
        "pairs_of_targets": {"targets": alone, "pairs": pairs, "listed": listed},
        **(_inferences(reader, run_id, has, say) if judged else {name: [] for name in _INFERRED}),
        **_of_samples(reader, run_id, si_rounds),
        "warnings": [
            *warnings(reader, run_id, guarded=has.guards),
            *sent_warnings(targets, sent, samples),
            *_even_panels(judges, has.members),
        ],
        "spend": view("spend"),
        "servers": servers(reader, run_id),
    }


def _unscored(reader: Queryable, run_id: str) -> list[dict[str, Any]]:
    """How many replies each judge left without a label, by its reason."""
    return named_rows(
        reader,
        "SELECT target, judge, reason, count(*) AS conversations FROM conversations "
        "WHERE run_id = ? AND state = 'unscored' GROUP BY ALL ORDER BY ALL",
        [run_id],
    )


def _first_unsafe(reader: Queryable, run_id: str) -> list[dict[str, Any]]:
    """Live history: how many conversations turn unsafe, when, and how many are safe again later."""
    rows = named_rows(
        reader,
        "SELECT target, judge, count(*) AS conversations, count(first_unsafe_turn) AS unsafe, "
        "median(first_unsafe_turn) AS median_turn, count(*) FILTER (recovered) AS recovered, "
        "count(DISTINCT item_id) AS items FROM first_unsafe WHERE run_id = ? GROUP BY ALL ORDER BY ALL",
        [run_id],
    )
    return [
        row | {"small": row["items"] < SMALL_ITEMS or small_sample(row["unsafe"], row["conversations"])}
        for row in rows
    ]


def _endings(reader: Queryable, run_id: str) -> list[dict[str, Any]]:
    """What became of every planned conversation: its outcome, `declined` where an answer refuses by rules,
    or why there is none (pending, unassessed, not_attempted)."""
    rows = reader.query(
        """SELECT target, target_key, coalesce(benign, false), length,
                  CASE WHEN state IN ('pending', 'unassessed', 'not_attempted') THEN state
                       WHEN outcome = 'answered' AND refusal_rule IN ('full_refusal', 'safe_redirection')
                       THEN 'declined' ELSE outcome END AS ending, count(*)
           FROM (SELECT DISTINCT ON (target_key, dialogue_key, sample) * FROM conversations WHERE run_id = ?)
           GROUP BY ALL ORDER BY ALL""",
        [run_id],
    ).rows
    names = ("target", "target_key", "benign", "length", "ending", "conversations")
    return [dict(zip(names, row, strict=True)) for row in rows]


def _latency(reader: Queryable, run_id: str, guarded: bool) -> list[dict[str, Any]]:
    """Seconds that the model of each target took for a reply, without retries and the moderator's time.

    Replies from batches have no time; where a guard refused, the model was not asked.
    """
    took = """SELECT DISTINCT target, target_key, request_hash, latency_s FROM replies
              WHERE run_id = ? AND outcome NOT LIKE 'error_%' AND intervention IS NULL"""
    if guarded:
        # Of a moderated turn: what the model itself took.
        took += """ UNION
              SELECT r.target, r.target_key, w.model_request_hash, m.latency_s FROM replies r
              JOIN (SELECT DISTINCT request_hash, model_request_hash FROM turns
                    WHERE model_request_hash IS NOT NULL) w USING (request_hash)
              LEFT JOIN current_turns m ON m.request_hash = w.model_request_hash
                                       AND m.intervention IS NULL AND m.outcome NOT LIKE 'error_%'
              WHERE r.run_id = ? AND r.outcome NOT LIKE 'error_%' AND r.intervention IS NOT NULL"""
    rows = reader.query(
        f"""SELECT target, target_key, count(*), count(latency_s), median(latency_s),
                   quantile_cont(latency_s, 0.95), max(latency_s)
            FROM ({took}) GROUP BY ALL ORDER BY ALL""",
        [run_id, run_id] if guarded else [run_id],
    ).rows
    names = ("target", "target_key", "replies", "timed", "median_s", "p95_s", "max_s")
    return [dict(zip(names, row, strict=True)) for row in rows]


def _resolved(reader: Queryable, run_id: str) -> list[dict[str, Any]]:
    """Which model each endpoint says it is, by target."""
    rows = reader.query(
        "SELECT target, resolved_model, count(*) FROM replies WHERE run_id = ? GROUP BY ALL ORDER BY ALL",
        [run_id],
    ).rows
    return [dict(zip(("target", "model", "replies"), row, strict=True)) for row in rows]


def _last_event(reader: Queryable, run_id: str) -> str | None:
    """The state of the run's latest session: started, finished or stopped; None without one."""
    rows = reader.query(
        "SELECT event FROM run_events WHERE run_id = ? ORDER BY recorded_at DESC LIMIT 1", [run_id]
    ).rows
    return str(rows[0][0]) if rows else None


def without_nan(value: Any) -> Any:
    """JSON has no NaN: undefined values become null."""
    if isinstance(value, float):
        return None if math.isnan(value) else value
    if isinstance(value, dict):
        # Most values are texts and whole numbers, and there are many.
        return {
            name: without_nan(inner) if isinstance(inner, _NESTED) else inner for name, inner in value.items()
        }
    return [without_nan(inner) for inner in value] if isinstance(value, list) else value


def _escalated(reader: Queryable, run_id: str) -> list[dict[str, Any]]:
    from safemt_client.results.scores.escalated import escalated

    return escalated(reader, run_id)


def _inferences(reader: Queryable, run_id: str, has: _Has, say: Callable[[str], None]) -> dict[str, Any]:
    """What is inferred. Modules for what the run does not have are not loaded either."""
    from safemt_client.results.scores.trends import trends

    found: dict[str, Any] = {name: [] for name in _INFERRED}
    if has.live:
        from safemt_client.results.scores.reached import reached

        found["asr_by_turn_reached"] = reached(reader, run_id)
    say("trends")
    found["trends"] = trends(reader, run_id)
    if has.pairs:
        from safemt_client.results.scores.differences import differences

        say(f"differences of {has.pairs:,} pairs of targets")
        found["differences"] = differences(reader, run_id)
    if has.guards:
        from safemt_client.results.scores.effects import effects

        say("effects of moderators")
        found["effects"] = effects(reader, run_id)
    if has.members > 1:
        from safemt_client.results.scores.agreement import agreement

        say("how far judges agree")
        found["agreement"] = agreement(reader, run_id)
    return found


def _run(row: dict[str, Any]) -> dict[str, Any]:
    """The row of the run; one sample, which most have, is not spoken of."""
    return row if (row["samples"] or 1) > 1 else {name: row[name] for name in row if name != "samples"}


def _of_samples(reader: Queryable, run_id: str, si_rounds: tuple[int, ...]) -> dict[str, Any]:
    """What several samples show; nothing of a run with one."""
    if (count := samples_of(reader, run_id)) == 1:
        return {}
    from safemt_client.results.scores.samples import hit_rates, indices_by_sample, variances

    return {
        "samples": count,
        "hit_at_k": hit_rates(reader, run_id),
        "variances": variances(reader, run_id),
        "safety_index_by_sample": indices_by_sample(reader, run_id, si_rounds),
    }


def _of_data(reader: Queryable, run_id: str, guarded: bool) -> dict[str, Any]:
    """What is measured by what some data sets say: twins, labels of single turns, and controls."""
    from safemt_client.results.scores.controls import controls
    from safemt_client.results.scores.turn_labels import labelled_turns
    from safemt_client.results.scores.twins import twins

    return {
        "twins": twins(reader, run_id),
        "labelled_turns": labelled_turns(reader, run_id) if guarded else [],
        "controls": controls(reader, run_id),
    }


def corrections_known(reader: Queryable, run_id: str) -> list[dict[str, Any]]:
    """The `corrections` of a run, if anybody has labelled a reply."""
    if not reader.query("SELECT annotator FROM human_labels LIMIT 1").rows:
        return []
    from safemt_client.results.scores.corrections import corrections

    return corrections(reader, run_id)


def checks_known(reader: Queryable, run_id: str) -> list[dict[str, Any]]:
    """The `checks` of a run, if a stronger judge was asked."""
    if not reader.query("SELECT draw_id FROM label_draws WHERE reference_key IS NOT NULL LIMIT 1").rows:
        return []
    from safemt_client.results.scores.checks import checks

    return checks(reader, run_id)


def _even_panels(judges: list[dict[str, Any]], members: int) -> list[str]:
    """A panel under `majority` that can be split."""
    panels = [row["name"] for row in judges if row["identity"] == "panel/majority"]
    return [even_panel(name, members) for name in panels if members % 2 == 0]


def warnings(reader: Queryable, run_id: str, *, guarded: bool = True) -> list[str]:
    """Reasons to doubt the labels of a run, one sentence each.

    Without a moderator, that is `guarded`, nothing is asked about one.
    """
    found = []
    rows = reader.query(
        """SELECT judge, count(*) FILTER (label = 'unsafe'), count(*) FILTER (label = 'safe'),
                  count(*) FILTER (label = 'unscored') FROM conversations
           WHERE run_id = ? AND judge IS NOT NULL AND NOT by_guard GROUP BY ALL ORDER BY ALL""",
        [run_id],
    ).rows
    for judge, unsafe, safe, unscored in rows:
        scored = unsafe + safe
        if scored >= _MANY and 0 in (unsafe, safe):
            found.append(f"{judge} labelled all {scored} replies {'unsafe' if unsafe else 'safe'}")
        if unscored > _MOST_UNSCORED * (scored + unscored):
            found.append(f"{judge} left {unscored} of {scored + unscored} replies unscored")
    same = reader.query(
        """SELECT DISTINCT j.name, t.name FROM run_judges j JOIN run_targets t USING (run_id)
           WHERE j.run_id = ? AND split_part(j.identity, '#', 1) = split_part(t.identity, '#', 1)
             -- Under another alias an endpoint of one's own may well be another model.
             AND (j.identity = t.identity OR t.identity NOT LIKE 'local/%') ORDER BY ALL""",
        [run_id],
    ).rows
    found += _not_assessed(reader, run_id) if guarded else []
    found += [f"{judge} judges its own replies (target {target})" for judge, target in same]
    return found


def _not_assessed(reader: Queryable, run_id: str) -> list[str]:
    found = []
    for target, action, count in reader.query(
        """SELECT target, intervention, count(*) FROM replies
           WHERE run_id = ? AND intervention IN ('refused', 'passed', 'unassessed')
           GROUP BY ALL ORDER BY ALL""",
        [run_id],
    ).rows:
        what = {"refused": "refused", "passed": "let through", "unassessed": "left without a score"}[action]
        found.append(f"{target}: its guard could not assess {count} turns, which were {what}")
    return found
