"""The paper's findings as questions to your own data: each analysis says what the data show."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np

from safemt_client.results.sanitize import plain
from safemt_client.results.scores import wording
from safemt_client.results.scores.collect import deciding_judge
from safemt_client.results.scores.comparison import Condition, comparison, conditions, labels_of
from safemt_client.results.scores.controls import controls
from safemt_client.results.scores.effects import effects
from safemt_client.results.scores.trends import trends
from safemt_client.results.scores.unfinished import unfinished
from safemt_client.results.stats.intervals import Interval
from safemt_client.results.stats.shares import SMALL_ITEMS
from safemt_client.results.stats.shrunk import extreme, shrunk
from safemt_client.results.store.queries import Queryable

__all__ = ["ANALYSES", "Finding", "analyse"]

_LEVEL = 0.05
_SHUFFLES = 5000


@dataclass(frozen=True, slots=True)
class Finding:
    """The answer of one analysis, as a sentence. `shown` is True, False, or None if unknown."""

    analysis: str
    target: str
    shown: bool | None
    sentence: str
    data: Mapping[str, Any] = field(default_factory=dict)


def analyse(reader: Queryable, run_id: str, name: str) -> list[Finding]:
    """The findings of an analysis, by its name in `ANALYSES`, about the targets of a run."""
    open_ = {row["target"]: wording.not_finished(row) for row in unfinished(reader, run_id)}
    found = [finding for finding in ANALYSES[name](reader, run_id) if finding.target not in open_]
    found += [
        Finding(name, target, None, f"{plain(target)}: not known: {why}") for target, why in open_.items()
    ]
    if not found:
        found = [Finding(name, "", None, wording.UNANSWERED[name])]
    imported = {
        target
        for (target,) in reader.query(
            "SELECT name FROM run_targets WHERE run_id = ? AND imported_from IS NOT NULL", [run_id]
        ).rows
    }
    return [
        replace(finding, analysis=name, sentence=_marked(finding, finding.target in imported))
        for finding in found
    ]


def _marked(finding: Finding, imported: bool) -> str:
    """The sentence, which begins with the target's name, with the mark of an imported one behind that."""
    name = plain(finding.target)
    if not imported:
        return finding.sentence
    return finding.sentence.replace(f"{name}:", f"{name}{wording.IMPORTED}:", 1)


def _turns(reader: Queryable, run_id: str) -> list[Finding]:
    """Does the risk rise with the number of turns?"""
    found = []
    decides = _judge_name(reader, run_id)
    for row in trends(reader, run_id):
        if row["judge"] != decides or not row["items"]:
            continue
        sentence = f"{plain(row['target'])}: {wording.trend(row)}"
        found.append(Finding("turns", row["target"], row["verdict"] != "not shown", sentence, row))
    return found


def _settings(reader: Queryable, run_id: str, setting: str, what: str) -> list[Finding]:
    """The targets of a run against those of any run in the store that differ in this setting alone."""
    mine = conditions(reader, [run_id])
    runs = [row[0] for row in reader.query("SELECT run_id FROM runs ORDER BY created_at").rows]
    others = [c for run in runs for c in _or_none(reader, run)]
    found = []
    for base in mine:
        for other in others:
            alike = replace(
                base, **{setting: getattr(other, setting)}, name="", run_id="", target_key="", target=""
            )
            same = replace(other, name="", run_id="", target_key="", target="")
            if getattr(base, setting) == getattr(other, setting) or alike != same:
                continue
            result = comparison(reader, [base, other])[0]
            whole = next((row for row in result["rows"] if row["by"] == "all"), None)
            if whole is None:
                continue
            says = f"{what} {getattr(other, setting)} instead of {getattr(base, setting)}"
            answer = wording.paired(whole, "raises ASR", "lowers ASR", "no change in ASR is shown")
            sentence = f"{plain(base.target)}: {says}: {answer}"
            if result["careful"]:
                sentence += f"; warning: {'; '.join(map(plain, result['careful']))}"
            found.append(Finding(setting, base.target, whole["claim"] is not None, sentence, result))
    return found


def _or_none(reader: Queryable, run_id: str) -> list[Condition]:
    return conditions(reader, [run_id]) if deciding_judge(reader, run_id) is not None else []


def _images(reader: Queryable, run_id: str) -> list[Finding]:
    """Do the pictures matter?"""
    return _settings(reader, run_id, "images", "with pictures")


def _history(reader: Queryable, run_id: str) -> list[Finding]:
    """Does the model's own history differ from the scripted one?"""
    return _settings(reader, run_id, "history", "with history")


def _groups(reader: Queryable, run_id: str, column: str, plural: str) -> list[Finding]:
    """Do groups of items differ in ASR? Each item counts once, by its mean over the lengths.

    p is from shuffling the items over the groups; the statistic is the variance between groups, weighted
    by their sizes (that of the analysis of variance). The highest and the lowest are named only where groups
    differ and none ties with them, by rates that are `stats.shrunk`: of many, one is highest by chance.
    """
    found = []
    for condition in conditions(reader, [run_id]):
        labels, _ = labels_of(reader, condition)
        group_of = dict(
            reader.query(
                f"""SELECT DISTINCT ON (item_id) item_id, {column} FROM conversations
                    WHERE run_id = ? AND {column} IS NOT NULL""",
                [run_id],
            ).rows
        )
        risks: dict[str, list[float]] = defaultdict(list)
        for (item, *_), label in labels.items():
            if item in group_of:
                risks[item].append(label)
        items = sorted(risks)
        names = sorted({group_of[item] for item in items})
        if len(names) < 2:
            continue
        values = np.array([np.mean(risks[item]) for item in items])
        groups = np.array([names.index(group_of[item]) for item in items])
        p = _shuffled(values, groups, len(names))
        means = {name: float(values[groups == k].mean()) for k, name in enumerate(names)}
        rates = shrunk(values, groups)
        shown = p < _LEVEL
        says = f"{plural} differ in ASR" if shown else f"no difference between {plural} is shown"
        sentence = (
            f"{plain(condition.target)}: {says} (p {p:.2g}, {len(items)} items in {len(names)} {plural})"
        )
        if shown:
            sentence += _extremes(names, rates)
        small = len(items) < SMALL_ITEMS
        by_name = {name: asdict(rate) for name, rate in zip(names, rates, strict=True)}
        data = {"p": p, "items": len(items), "asr": means, "shrunk": by_name}
        found.append(Finding(column, condition.target, shown, sentence + wording.small(small), data))
    return found


def _extremes(names: Sequence[str], rates: Sequence[Interval]) -> str:
    found = [
        f"{word} of {len(names)} {plain(names[place])} {wording.rate(asdict(rates[place]))}"
        for word in ("highest", "lowest")
        if (place := extreme(rates, highest=word == "highest")) is not None
    ]
    return f"; {', '.join(found)}, shrunk towards the mean of all" if found else ""


def _shuffled(values: Any, groups: Any, count: int, seed: int = 0) -> float:
    """Source, for permutation tests of groups: E. Pitman, Biometrika 29 (1938), 322-335."""
    source = np.random.default_rng(seed)
    sizes = np.bincount(groups, minlength=count)

    def between(order: Any) -> float:
        sums = np.bincount(groups, order, count)
        return float((sums**2 / sizes).sum())

    here = between(values)
    extreme = sum(between(source.permutation(values)) >= here - 1e-12 for _ in range(_SHUFFLES))
    return float((extreme + 1) / (_SHUFFLES + 1))


def _scenarios(reader: Queryable, run_id: str) -> list[Finding]:
    """Do scenarios differ?"""
    return _groups(reader, run_id, "scenario", "scenarios")


def _methods(reader: Queryable, run_id: str) -> list[Finding]:
    """Do jailbreak methods differ?"""
    return _groups(reader, run_id, "method", "methods")


def _moderator(reader: Queryable, run_id: str) -> list[Finding]:
    """Do moderators lower ASR?"""
    decides = deciding_judge(reader, run_id)
    found = []
    for effect in effects(reader, run_id):
        whole = next((row for row in effect["rows"] if row["by"] == "all"), None)
        if effect["judge_key"] != decides or whole is None:
            continue
        shown = whole["claim"] is not None
        found.append(Finding("moderator", effect["target"], shown, wording.effect(effect), effect))
    return found


def _length_control(reader: Queryable, run_id: str) -> list[Finding]:
    """Does the risk still rise with the turns where they say nothing, or something else?"""
    found = []
    for row in controls(reader, run_id):
        means = wording.control_means(row)
        sentence = wording.control(row) + (f": {means}" if means else "")
        claims = [row[name]["claim"] for name in ("trend", "slope") if row[name] is not None]
        shown = any(claim is not None for claim in claims) if claims else None
        found.append(Finding("length-control", row["target"], shown, sentence, row))
    return found


def _judge_name(reader: Queryable, run_id: str) -> str | None:
    rows = reader.query(
        "SELECT name FROM run_judges WHERE run_id = ? AND judge_key = ?",
        [run_id, deciding_judge(reader, run_id)],
    ).rows
    return str(rows[0][0]) if rows else None


ANALYSES: Mapping[str, Callable[[Queryable, str], Sequence[Finding] | list[Finding]]] = {
    "turns": _turns,
    "images": _images,
    "history": _history,
    "scenarios": _scenarios,
    "moderator": _moderator,
    "methods": _methods,
    "length-control": _length_control,
}
"""The analyses by name."""
