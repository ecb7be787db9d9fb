"""Runs that stop when they know: the rules of `--stop-when`, and the order in which items are asked for them.

A rule looks at items in one random order that is fixed when the run starts, and an item counts once every one
before it is settled: replies that refuse are short and arrive first, so that in the order of arrival a rule
would be decided by them. A rule is about all items of the data that `--turns`, `--scenario` and `--limit`
leave, of which `--sample` may take the first ones.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from safemt_client.datasets.model import Dialogue
from safemt_client.planning.sampling import order_of
from safemt_client.planning.target import Target
from safemt_client.providers.errors import InputError
from safemt_client.results.names import meant, short_names
from safemt_client.results.scores.rules import Rule, read_stop_rule
from safemt_client.results.store.rows import DialogueRow, StopOrderRow, StopRuleRow
from safemt_client.settings import RunSettings

if TYPE_CHECKING:
    from safemt_client.results.scores.stopping import Population
    from safemt_client.results.store.store import Store

__all__ = ["PlannedRule", "StopWhen", "check_stop_when", "is_about", "stop_when_of"]


@dataclass(frozen=True, slots=True)
class PlannedRule:
    """A rule for one target, or for the two that it compares (`other_key` is then subtracted).

    `alpha` is the chance that it is ever decided wrongly. With `anew` it was named after the run had begun.
    `decided` is the decision that the store has of it, and `place` the last item in the order that it needed;
    `stored` says whether the store has the rule.
    """

    rule: Rule
    target_key: str
    other_key: str | None
    population: Population
    alpha: float
    anew: bool = False
    decided: str | None = None
    place: int | None = None
    stored: bool = False

    @property
    def keys(self) -> tuple[str, ...]:
        """The targets whose replies it looks at."""
        return (self.target_key,) if self.other_key is None else (self.target_key, self.other_key)


@dataclass(frozen=True)
class StopWhen:
    """The rules of a run, and its items in the order in which they are asked and looked at.

    `ordered` says whether the store has that order already.
    """

    rules: tuple[PlannedRule, ...]
    order: tuple[str, ...]
    ordered: bool = False

    @property
    def stopped(self) -> Mapping[str, int]:
        """The targets all of whose rules are decided in the store, with the last item that these needed.

        Nothing is asked of them.
        """
        open_ = {key for one in self.rules if one.decided is None for key in one.keys}
        places: dict[str, int] = {}
        for one in self.rules:
            for key in set(one.keys) - open_:
                places[key] = max(places.get(key, 0), one.place or 0)
        return places

    def rows(self, run_id: str, session_id: str) -> list[StopRuleRow | StopOrderRow]:
        """What the store does not have of this yet."""
        now = datetime.now(UTC)
        found: list[StopRuleRow | StopOrderRow] = [
            StopRuleRow(
                *(run_id, session_id, now, one.rule.text, one.target_key, one.other_key, one.alpha),
                *(one.population.items, one.population.most, one.population.replies, one.anew),
            )
            for one in self.rules
            if not one.stored
        ]
        if not self.ordered:
            found += [StopOrderRow(run_id, place, item) for place, item in enumerate(self.order, start=1)]
        return found


def check_stop_when(settings: RunSettings) -> list[Rule]:
    """The rules of the settings; none without `--stop-when`.

    Raises:
        InputError: one cannot be read, or another setting does not go with them.
    """
    if not settings.stop_when:
        return []
    rules = [read_stop_rule(text) for text in dict.fromkeys(settings.stop_when)]
    if not settings.judge_names:
        raise InputError("--stop-when: looks at the judge's labels: leave --judge none out")
    if settings.batch:
        raise InputError("--stop-when: a batch asks everything at once: leave --batch out")
    if settings.sample is not None and settings.sample_by == "scenario":
        raise InputError("--stop-when: looks at items in one random order: leave --sample-by scenario out")
    return rules


def stop_when_of(
    rules: Sequence[Rule],
    all_: Sequence[Dialogue],
    items: Collection[str],
    targets: Sequence[Target],
    settings: RunSettings,
    earlier: tuple[Store, str] | None,
) -> StopWhen | None:
    """What a run stops by, None without rules.

    `all_` are the dialogues of the data that it may ask, and `items` those that it takes of them; `earlier`
    is where an earlier session of the run is stored, and the run's id.

    Raises:
        InputError: a rule is about a target or a number of turns that the run does not have, or the order
            of the items would not be random or not that of before.
    """
    if not rules:
        return None
    from safemt_client.results.scores.stopping import ALPHA

    known = {} if earlier is None else _stored(*earlier)
    asked = [
        (rule, *keys, _population(rule, all_, settings.samples))
        for rule in rules
        for keys in _keys(rule, targets)
    ]
    new = sum((rule.text, key) not in known for rule, key, *_ in asked)
    planned = tuple(
        known.get((rule.text, key))
        or PlannedRule(rule, key, other, population, ALPHA / new, anew=earlier is not None)
        for rule, key, other, population in asked
    )
    _check_pairs(all_)
    seed = settings.sample_seed
    order = tuple(item for item in order_of(all_, seed) if item in items)
    return StopWhen(planned, order, ordered=earlier is not None and _is_stored(order, seed, *earlier))


def is_about(rule: Rule, row: DialogueRow | Dialogue) -> bool:
    """Whether a rule looks at a dialogue: a harmful original with its number of turns."""
    return not row.benign and row.condition is None and rule.turns in (None, row.length)


def _keys(rule: Rule, targets: Sequence[Target]) -> list[tuple[str, str | None]]:
    """The targets that a rule is checked for: each of them, or the two that it names."""
    if rule.quantity != "targets":
        return [(target.key, None) for target in targets]
    named = {target.name: target.key for target in targets}
    first, second = (meant(str(name), named) for name in (rule.first, rule.second))
    for name in (first, second):
        if name not in named:
            have = ", ".join(short_names(named).values())
            raise InputError(f"--stop-when {rule.text!r}: {name} is no target of the run; it has {have}")
    return [(named[first], named[second])]


def _population(rule: Rule, all_: Sequence[Dialogue], samples: int) -> Population:
    from safemt_client.results.scores.stopping import Population

    counts = Counter(dialogue.item_id for dialogue in all_ if is_about(rule, dialogue))
    if not counts:
        lengths = sorted({dialogue.length for dialogue in all_ if not dialogue.benign})
        have = f"it has {', '.join(map(str, lengths))}" if lengths else "all of its items are benign"
        turns = "" if rule.turns is None else f" of {rule.turns} turns"
        raise InputError(
            f"--stop-when {rule.text!r}: the run has no harmful dialogues{turns}; {have}; "
            "write such as 'asr < 10%'"
        )
    return Population(len(counts), samples * max(counts.values()), samples * counts.total())


def _check_pairs(all_: Sequence[Dialogue]) -> None:
    """Refuse data whose harmful items do not stand in a random order one by one: twins stand together."""
    pairs: Mapping[str, set[str]] = defaultdict(set)
    for dialogue in all_:
        if not dialogue.benign and (pair := dialogue.extra.get("pair")) is not None:
            pairs[str(pair)].add(dialogue.item_id)
    if (found := next((pair for pair, items in pairs.items() if len(items) > 1), None)) is not None:
        raise InputError(
            f"--stop-when: several harmful items have the pair {found!r} in common and are drawn together, "
            "not in a random order: leave the field out of the data, or --stop-when"
        )


def _stored(store: Store, run_id: str) -> dict[tuple[str, str], PlannedRule]:
    """The rules that were named in earlier sessions of the run, with what was decided of them."""
    from safemt_client.results.scores.stopping import Population

    rows = store.query(
        """SELECT DISTINCT ON (rule, target_key)
                  rule, target_key, other_key, alpha, population, most, replies, anew, decision, place
           FROM stop_rules LEFT JOIN (SELECT rule, target_key, arg_min(decision, recorded_at) AS decision,
                                             arg_min(place, recorded_at) AS place
                                      FROM stop_decisions WHERE run_id = $1 GROUP BY ALL)
                USING (rule, target_key)
           WHERE run_id = $1 ORDER BY recorded_at""",
        [run_id],
    ).rows
    return {
        (text, key): PlannedRule(
            *(read_stop_rule(text), key, other, Population(items, most, replies), alpha),
            *(anew, decision, place),
            stored=True,
        )
        for text, key, other, alpha, items, most, replies, anew, decision, place in rows
    }


def _is_stored(order: Sequence[str], seed: int, store: Store, run_id: str) -> bool:
    """Whether the store has the order of a run's items.

    Raises:
        InputError: it has another one: a seed that is chosen after looking decides as one pleases.
    """
    rows = store.query(
        "SELECT item_id FROM stop_order WHERE run_id = ? GROUP BY ALL ORDER BY min(place)", [run_id]
    ).rows
    (kept,) = store.query("SELECT settings FROM runs WHERE run_id = ?", [run_id]).rows[0]
    before = json.loads(kept).get("sample_seed", 0)
    if before != seed or (rows and [item for (item,) in rows] != list(order)):
        raise InputError(
            f"--sample-seed {seed}: run {run_id} has begun with the order of --sample-seed {before}: "
            "rules look along that one"
        )
    return bool(rows)
