"""What chance a reply had to be labelled by people, where some were drawn by `label --adaptive`.

A label may come from several samples: those that `label` draws by strata, in which the chance of a reply is
the share of its stratum that is labelled, and those that are drawn by chance, which are one that grows. The
samples are drawn independently, so that a reply is in none of them with the product of the chances that it is
not in each.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence, Set
from dataclasses import dataclass

from safemt_client.results.store.queries import Queryable

__all__ = ["DRAWN", "Draws", "Given", "Key", "draws_for_people", "weights_by_chance"]

DRAWN = "draw:"
"""What stands before the id of a draw in place of the stratum of a label."""


Key = tuple[str, str, str]
"""Request hash, dialogue key and hash of the text: a reply."""


@dataclass(frozen=True, slots=True)
class Given:
    """A labelled reply. `stratum` is the one that it was drawn from, None if not by strata.

    `strata` are those that it belongs to, whether or not it was drawn from them.
    """

    key: Key
    token: str
    stratum: str | None
    strata: Collection[str]

    @property
    def by_chance(self) -> bool:
        """Whether a draw brought it."""
        return self.token.startswith(DRAWN)

    @property
    def was_drawn(self) -> bool:
        """Whether any sample brought it."""
        return self.by_chance or self.stratum is not None

    def order_in(self, stratum: str) -> str:
        """What the replies of a stratum are drawn in the order of."""
        run_id = stratum.partition("|")[0]
        return hashlib.sha256(f"{self.key[0]} {self.key[1]} {run_id}".encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Draws:
    """The draws for people. `drawn` are the replies of each, by draw and target, the earliest draw first.

    `chances` are those of labelled replies: draw, target, reply and chance.
    """

    drawn: Mapping[tuple[str, str], Set[Key]]
    chances: Sequence[tuple[str, str, Key, float]]


def draws_for_people(reader: Queryable) -> Draws:
    """Those of a store."""
    drawn: dict[tuple[str, str], set[Key]] = defaultdict(set)
    for draw_id, target_key, request_hash, dialogue_key, reply_hash in reader.query(
        """SELECT d.draw_id, r.target_key, r.request_hash, r.dialogue_key, r.reply_hash
           FROM (SELECT DISTINCT ON (draw_id) * FROM label_draws WHERE reference_key IS NULL) d
           JOIN (SELECT DISTINCT * FROM drawn_replies WHERE place IS NOT NULL) r USING (draw_id)
           ORDER BY d.created_at, d.draw_id"""
    ).rows:
        drawn[draw_id, target_key].add((request_hash, dialogue_key, reply_hash))
    rows = reader.query(
        """SELECT DISTINCT r.draw_id, r.target_key, r.request_hash, r.dialogue_key, r.reply_hash, r.chance
           FROM drawn_replies r
           SEMI JOIN (SELECT * FROM label_draws WHERE reference_key IS NULL) d USING (draw_id)
           SEMI JOIN human_labels h ON h.request_hash = r.request_hash AND h.dialogue_key = r.dialogue_key"""
    ).rows
    return Draws(drawn, [(row[0], row[1], (row[2], row[3], row[4]), row[5]) for row in rows])


def weights_by_chance(labels: Sequence[Given], sizes: Mapping[str, int], draws: Draws) -> list[float]:
    """One over the chance of each reply to be labelled; `sizes` is how many replies each stratum has.

    A reply that no sample brought stands for itself.
    """
    by_strata = _by_strata(labels, sizes)
    by_chance = _by_chance(labels, draws)
    found = []
    for one in labels:
        missed = 1 - by_chance.get(one.key, 0.0)
        for stratum in set(one.strata):
            missed *= 1 - by_strata.get(stratum, 0.0)
        found.append(1 / (1 - missed) if one.was_drawn and missed < 1 else 1.0)
    return found


def _by_strata(labels: Sequence[Given], sizes: Mapping[str, int]) -> dict[str, float]:
    """The share of each stratum that is labelled: of those that labels were drawn from.

    A reply that was drawn by chance before its turn came is labelled in it as well.
    """
    last: dict[str, str] = {}
    for one in labels:
        if one.stratum is not None:
            last[one.stratum] = max(last.get(one.stratum, ""), one.order_in(one.stratum))
    counts: Counter[str] = Counter()
    every: Counter[str] = Counter()
    for one in labels:
        for stratum in set(one.strata) & last.keys():
            every[stratum] += 1
            counts[stratum] += one.stratum == stratum or (
                one.by_chance and one.order_in(stratum) <= last[stratum]
            )
    return {
        stratum: 1.0 if every[stratum] == sizes[stratum] else counts[stratum] / sizes[stratum]
        for stratum in last
    }


def _by_chance(labels: Sequence[Given], draws: Draws) -> dict[Key, float]:
    """The chance of each labelled reply by the draws together: they are one that grows.

    Each draw adds to a reply's chance what it has more than those before. Where it is labelled in part, it
    adds that part: of each target, of what no earlier draw and no stratum has brought. What it brings comes
    in an order that looks random (`drawing.drawn`).
    """
    of_strata = {one.key for one in labels if one.stratum is not None}
    labelled = {one.key for one in labels}
    before: set[Key] = set()
    chances: dict[tuple[str, str], dict[Key, float]] = defaultdict(dict)
    for draw_id, target_key, reply, chance in draws.chances:
        chances[draw_id, target_key][reply] = chance
    found: dict[Key, float] = defaultdict(float)
    most: dict[Key, float] = defaultdict(float)
    for place, replies in draws.drawn.items():
        asked = replies - before - of_strata
        before |= replies
        part = len(asked & labelled) / len(asked) if asked else 1.0
        for reply, chance in chances[place].items():
            found[reply] += part * max(0.0, chance - most[reply])
            most[reply] = max(chance, most[reply])
    return found
