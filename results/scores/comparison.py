"""Comparisons of conditions: runs, targets, moderators, histories, pictures; and what limits them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from safemt_client.providers.errors import InputError
from safemt_client.results.names import meant
from safemt_client.results.scores import wording
from safemt_client.results.scores.collect import deciding_judge, latest_run
from safemt_client.results.scores.labels import value_of
from safemt_client.results.scores.sent import apart
from safemt_client.results.scores.unfinished import unfinished
from safemt_client.results.scores.views import coverages
from safemt_client.results.stats.pairs import compared_pairs
from safemt_client.results.store.queries import Queryable

__all__ = ["Condition", "comparison", "conditions", "labels_of", "labels_of_each", "replies_of_each"]

_Labels = dict[tuple[str, int, int], float]
_COVERAGE_APART = 0.02
# Settings that a comparison may be about; all others should be equal.
_MEANT = (
    *("target", "identity", "moderator", "history", "images", "sampling", "system_prompt", "sample"),
    "control",
)


@dataclass(frozen=True, slots=True)
class Condition:
    """A target of a run under the judge that decides there; `name` is how the user may call it.

    `control` is the condition of the controls that it was shown; None of the originals.
    """

    name: str
    run_id: str
    target_key: str
    target: str
    identity: str
    moderator: str | None
    history: str
    images: str
    sampling: str
    system_prompt: str | None
    sample: int
    judge_key: str
    judge: str
    rubric: str
    data: str
    imported_from: str | None = None
    control: str | None = None


def conditions(reader: Queryable, words: Sequence[str], *, controls: bool = False) -> list[Condition]:
    """The conditions of these names: RUN, RUN:TARGET, or TARGET of the latest run; each may be several.

    With `controls`, `@CONDITION` behind a name means the controls of this condition in its place.

    Raises:
        InputError: a name is not known, or has no verdicts.
    """
    runs = {row[0] for row in reader.query("SELECT run_id FROM runs").rows}
    found: list[Condition] = []
    for name in words:
        word, control = _of_control(reader, name) if controls else (name, None)
        run, colon, target = word.partition(":")
        if run in runs and (colon or word == run):
            run_id, wanted = run, target or None
        else:
            run_id, wanted = latest_run(reader, None), word
        every = _of_run(reader, run_id)
        known = [c.target for c in every]
        those = [c for c in every if wanted is None or c.target == meant(wanted, known)]
        if not those:
            raise InputError(
                f"{word!r}: no such run, and no such target in run {run_id}; "
                f"it has {', '.join(known) or 'none with verdicts'}"
            )
        if control is not None:
            those = [replace(c, name=f"{c.name}@{control}", control=control) for c in those]
            _check_control(reader, run_id, control, name)
        found += [c for c in those if c not in found]
    return found


def _of_control(reader: Queryable, word: str) -> tuple[str, str | None]:
    """What is before the last @, and the condition behind it; addresses in names have one as well."""
    name, at, control = word.rpartition("@")
    known = at and reader.query("SELECT 1 FROM dialogues WHERE condition = ? LIMIT 1", [control]).rows
    return (name, control) if known else (word, None)


def _check_control(reader: Queryable, run_id: str, control: str, word: str) -> None:
    known = [
        row[0]
        for row in reader.query(
            "SELECT DISTINCT condition FROM dialogues SEMI JOIN (SELECT dialogue_key FROM run_dialogues "
            "WHERE run_id = ?) r USING (dialogue_key) WHERE condition IS NOT NULL ORDER BY ALL",
            [run_id],
        ).rows
    ]
    if control not in known:
        raise InputError(
            f"{word!r}: run {run_id} has no controls {control}; it has {', '.join(known) or 'none'}"
        )


def _of_run(reader: Queryable, run_id: str) -> list[Condition]:
    judge = deciding_judge(reader, run_id)
    rows = reader.query(
        """SELECT t.run_id, t.target_key, t.name, t.identity, m.name, t.history, t.images, t.sampling,
                  t.system_prompt, t.sample, j.judge_key, j.name, j.rubric || ' ' || j.rubric_hash[:8],
                  r.dataset_digest, t.imported_from
           FROM run_targets t JOIN runs r USING (run_id) JOIN run_judges j USING (run_id)
           LEFT JOIN run_moderators m ON m.run_id = t.run_id AND m.moderator_key = t.moderator
           WHERE t.run_id = ? AND j.judge_key = ? ORDER BY t.name""",
        [run_id, judge],
    ).rows
    return [Condition(f"{row[0]}:{row[2]}", *row) for row in rows]


def labels_of(reader: Queryable, condition: Condition) -> tuple[_Labels, dict[str, str]]:
    """The labels of a condition by item, length and sample, no benign items; and each item's scenario."""
    [[wanted, scenario_of]] = _replies(reader, [condition])
    labels = _known(wanted)
    return labels, {item: scenario_of[item] for item, *_ in labels}


def labels_of_each(reader: Queryable, found: Sequence[Condition]) -> list[_Labels]:
    """The labels of each of these conditions, as `labels_of` has them; one query for each run."""
    return [_known(wanted) for wanted, _ in _replies(reader, found)]


def replies_of_each(reader: Queryable, found: Sequence[Condition]) -> list[_Labels]:
    """As `labels_of_each`, with NaN for the planned replies that have no label."""
    return [wanted for wanted, _ in _replies(reader, found)]


def _known(wanted: _Labels) -> _Labels:
    return {key: label for key, label in wanted.items() if not math.isnan(label)}


def _replies(reader: Queryable, found: Sequence[Condition]) -> list[tuple[_Labels, dict[str, str]]]:
    """As `labels_of` of each condition, with NaN for the planned replies that have no label."""
    sides: dict[tuple[str, str, str | None, str], tuple[_Labels, dict[str, str]]] = {
        (one.run_id, one.judge_key, one.control, one.target_key): ({}, {}) for one in found
    }
    for about in dict.fromkeys(key[:3] for key in sides):
        targets = [key[3] for key in sides if key[:3] == about]
        # A control is paired by the number of turns of its original.
        rows = reader.query(
            f"""SELECT target_key, item_id, paired_length, sample, label, coalesce(scenario, 'unknown')
                FROM every_conversation
                WHERE run_id = ? AND judge_key = ? AND condition IS NOT DISTINCT FROM ?
                      AND target_key IN ({", ".join("?" * len(targets))}) AND benign IS NOT TRUE
                ORDER BY item_id, paired_length, sample""",
            [*about, *targets],
        ).rows
        for target, item, length, sample, label, scenario in rows:
            labels, scenario_of = sides[*about, target]
            labels[item, length, sample] = value_of(label)
            scenario_of[item] = scenario
    return [sides[one.run_id, one.judge_key, one.control, one.target_key] for one in found]


def comparison(reader: Queryable, found: Sequence[Condition]) -> list[dict[str, Any]]:
    """Each condition against the first one, on the replies that both have scored; see `pairs.compared_pairs`.

    `differs` names the settings in which the two differ on purpose, `careful` anything else that limits
    the comparison. There are no `rows` where one of the two is not finished. p is corrected over the pairs
    that are asked for.

    Raises:
        InputError: there are fewer than two.
    """
    if len(found) < 2:
        raise InputError(
            "compare: name two or more runs or targets: RUN, RUN:TARGET, or TARGET of the latest run"
        )
    first, *others = found
    sides: list[_Labels] = []
    scenario_of: dict[str, str] = {}
    for replies, scenarios in _replies(reader, found):
        sides.append(replies)
        scenario_of |= scenarios
    runs = dict.fromkeys((condition.run_id, condition.judge_key) for condition in found)
    open_in = {(one.run_id, one.control): unfinished(reader, one.run_id, one.control) for one in found}
    covered = {key: coverages(reader, *key) for key in runs}
    waits = [_unfinished(open_in, first, other) for other in others]
    pairs = [(0, place) for place, open_ in enumerate(waits, 1) if not open_]
    rows = dict(zip(pairs, compared_pairs(sides, pairs, scenario_of), strict=True))
    return [
        {
            "first": first.name,
            "second": other.name,
            "differs": _differs(first, other),
            "imported_from": [first.imported_from, other.imported_from],
            "careful": [
                *open_,
                *_careful(first, other),
                *apart(reader, *((c.run_id, c.target_key, c.sampling) for c in (first, other))),
                *_coverage(covered, (first, sides[0]), (other, sides[place])),
                *_unpaired(sides[0], sides[place]),
            ],
            "rows": rows.get((0, place), []),
        }
        for place, (other, open_) in enumerate(zip(others, waits, strict=True), 1)
    ]


def _unfinished(
    open_in: Mapping[tuple[str, str | None], list[dict[str, Any]]], *both: Condition
) -> list[str]:
    """What is still to come of the two: before that nothing is inferred."""
    return [
        f"{condition.name}: {wording.not_finished(row)}: no difference is given"
        for condition in both
        for row in open_in[condition.run_id, condition.control]
        if row["target_key"] == condition.target_key
    ]


def _differs(a: Condition, b: Condition) -> dict[str, list[Any]]:
    one, two = asdict(a), asdict(b)
    return {name: [one[name], two[name]] for name in _MEANT if one[name] != two[name]}


def _careful(a: Condition, b: Condition) -> list[str]:
    found = [
        f"{condition.name}: imported from {condition.imported_from}: how it was asked is not known here"
        for condition in (a, b)
        if condition.imported_from is not None
    ]
    if a.data != b.data:
        found.append(f"different data: digests {a.data[:12]} and {b.data[:12]}; items are paired by id only")
    if a.judge_key != b.judge_key:
        found.append(f"different judges or judge settings: {a.judge} ({a.rubric}) and {b.judge} ({b.rubric})")
    if a.rubric != b.rubric:
        found.append(f"different rubrics: {a.rubric} and {b.rubric}")
    meant = [
        name
        for name in ("identity", "moderator", "history", "images", "sampling", "system_prompt", "control")
        if _at(a, name) != _at(b, name)
    ]
    if len(meant) > 1:
        found.append(f"they differ in more than one setting: {', '.join(meant)}")
    return found


def _at(condition: Condition, name: str) -> Any:
    return getattr(condition, name)


def _coverage(
    covered: Mapping[tuple[str, str], Mapping[str, float | None]], *both: tuple[Condition, _Labels]
) -> list[str]:
    shares = [
        len(_known(replies)) / max(1, len(replies))
        if one.control is not None
        else covered[one.run_id, one.judge_key].get(one.target_key) or 0.0
        for one, replies in both
    ]
    if abs(shares[0] - shares[1]) > _COVERAGE_APART or min(shares) < 1 - _COVERAGE_APART:
        return [f"coverage {shares[0]:.1%} and {shares[1]:.1%}: unscored replies may explain the difference"]
    return []


def _unpaired(a: _Labels, b: _Labels) -> list[str]:
    first, second = ({key for key, label in side.items() if not math.isnan(label)} for side in (a, b))
    if first == second:
        return []
    return [
        f"{len(first - second)} replies are scored only in the first, {len(second - first)} only in the "
        "second: left out"
    ]
