"""Two conditions compared on the same replies: by number of turns, by scenario, and over all.

There is one figure for every difference, a ratio of sums: over the replies (item, length, sample) that both
sides have scored, the unsafe ones of the second minus those of the first, divided by their number. Both rates
are over exactly these replies, so that their difference is the difference.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from safemt_client.results.stats.exchange import exchange_p
from safemt_client.results.stats.intervals import bootstrap_weights, never_seen
from safemt_client.results.stats.proportions import mcnemar_mid_p, newcombe_paired
from safemt_client.results.stats.shares import SMALL_EVENTS, SMALL_ITEMS

__all__ = ["Labels", "compared", "compared_pairs", "holm"]

Labels = Mapping[tuple[str, int, int], float]
"""By item, length and sample: 1 unsafe, 0 safe, NaN where a reply that was wanted has no label."""

Flags = NDArray[np.bool_]
Counts = NDArray[np.int64]
Group = tuple[str, str | int, Any, Any]
"""By what, its value, and which items and lengths of the cube are in it."""

LEVEL, ALPHA = 0.95, 0.05
_AT_ONCE = 2**22
"""Cells of items and lengths of the pairs that are looked at together."""


def compared(first: Labels, second: Labels, scenario_of: Mapping[str, str]) -> list[dict[str, Any]]:
    """The rows of one pair; see `compared_pairs`."""
    return compared_pairs([first, second], [(0, 1)], scenario_of)[0]


def compared_pairs(
    sides: Sequence[Labels], pairs: Sequence[tuple[int, int]], scenario_of: Mapping[str, str]
) -> list[list[dict[str, Any]]]:
    """For each pair of sides, by their places, its rows: the second against the first.

    Rows are `by` length, scenario and all; those without a reply that both have scored are left out.

    - `replies` and `items` that both have scored; `asr_first` and `asr_second` over exactly these;
      `only_first` and `only_second`: items with more unsafe replies on that side.
    - `difference`: its estimate and 95 % interval. For a length with one sample that is Newcombe's for paired
      shares (`proportions.newcombe_paired`), else whole items are resampled with the same ratio. `small`
      marks fewer than 30 items, or fewer than 5 that differ.
    - `p`: for a length with one sample McNemar's mid-p, else that of exchanging the sides of whole items
      (`exchange.exchange_p`). `p_holm` is corrected by Holm's method over all rows of the same kind of all
      these pairs.
    - `agrees`: whether `p` < .05 where the interval leaves 0 out, and only there. `claim`: "higher" or
      "lower", if they agree, 0 is left out and `p_holm` < .05; else None.
    - `alone_first`, `alone_second`: the rate and the number of `scored` replies of each side whether or not
      the other has them; `same_rates`: whether these are the rates of the row.
    - `bounds`: the least and the largest difference that the unscored replies allow, over all `replies` that
      both sides were to give: each of them unsafe on one side and safe on the other.

    A side's items and lengths that the other was not to give are outside of all this.
    """
    cube = _Cube.of(sides)
    found: list[list[dict[str, Any]]] = [[] for _ in pairs]
    cells = max(1, cube.unsafe[0].size) if len(sides) else 1
    step = max(1, _AT_ONCE // cells)
    groups = list(_groups(cube, scenario_of))
    alone = [cube.alone(group) for group in groups]
    for begin in range(0, len(pairs), step):
        some = pairs[begin : begin + step]
        both = _Both.of(cube, some)
        for group, rates in zip(groups, alone, strict=True):
            for place, row in both.rows(group):
                row |= _apart(row, *(rates[side] for side in some[place]))
                found[begin + place].append(row)
    _decide(found)
    for rows in found:
        rows.sort(key=lambda row: (row["by"], row["value"]))
    return found


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusted p-values, in the order given. Source: S. Holm, Scand. J. Statistics 6 (1979), 65-70."""
    order = np.argsort(p_values, kind="stable")
    adjusted = np.empty(len(p_values))
    most = 0.0
    for rank, index in enumerate(order):
        most = max(most, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = most
    return [float(p) for p in adjusted]


@dataclass(frozen=True, slots=True)
class _Cube:
    """Sides x items x (lengths and samples): what each was to give, what is scored, and what is unsafe."""

    items: Sequence[str]
    lengths: Mapping[int, slice]
    wanted: Flags
    scored: Flags
    unsafe: Flags

    @classmethod
    def of(cls, sides: Sequence[Labels]) -> _Cube:
        # In a fixed order, so that the same labels give the same resamples.
        items = sorted({key[0] for side in sides for key in side})
        places = sorted({key[1:] for side in sides for key in side})
        rows = {item: place for place, item in enumerate(items)}
        columns = {at: place for place, at in enumerate(places)}
        of_length = [at[0] for at in places]
        lengths = {
            length: slice(of_length.index(length), of_length.index(length) + of_length.count(length))
            for length in dict.fromkeys(of_length)
        }
        wanted = np.zeros((len(sides), len(items), len(places)), dtype=np.bool_)
        labels = np.full(wanted.shape, np.nan)
        for number, side in enumerate(sides):
            where = [rows[key[0]] for key in side], [columns[key[1:]] for key in side]
            wanted[number][where] = True
            labels[number][where] = list(side.values())
        return cls(items, lengths, wanted, ~np.isnan(labels), labels == 1)

    def alone(self, group: Group) -> list[tuple[int, int]]:
        """Unsafe and scored replies of each side in a group."""
        _, _, rows, columns = group
        return [
            (int(unsafe[rows, columns].sum()), int(scored[rows, columns].sum()))
            for unsafe, scored in zip(self.unsafe, self.scored, strict=True)
        ]


def _groups(cube: _Cube, scenario_of: Mapping[str, str]) -> Iterator[Group]:
    every = slice(None)
    if cube.items:
        yield "all", "all", every, every
    for length, columns in cube.lengths.items():
        yield "length", length, every, columns
    names = np.array([scenario_of.get(item, "unknown") for item in cube.items])
    for name in sorted(set(names.tolist())):
        yield "scenario", name, names == name, every


@dataclass(frozen=True, slots=True)
class _Both:
    """Pairs x items x (lengths and samples): what both have scored, what is unsafe, and what may yet be."""

    scored: Flags
    first: Flags
    second: Flags
    low: NDArray[np.int8]
    high: NDArray[np.int8]
    wanted: Flags

    @classmethod
    def of(cls, cube: _Cube, pairs: Sequence[tuple[int, int]]) -> _Both:
        a, b = [first for first, _ in pairs], [second for _, second in pairs]
        scored, wanted = cube.scored[a] & cube.scored[b], cube.wanted[a] & cube.wanted[b]
        unsafe_a, unsafe_b = cube.unsafe[a] & wanted, cube.unsafe[b] & wanted
        open_a, open_b = wanted & ~cube.scored[a], wanted & ~cube.scored[b]
        low = unsafe_b.astype(np.int8) - (unsafe_a | open_a)
        high = (unsafe_b | open_b).astype(np.int8) - unsafe_a
        return cls(scored, unsafe_a & scored, unsafe_b & scored, low, high, wanted)

    def rows(self, group: Group) -> Iterator[tuple[int, dict[str, Any]]]:
        """The row of each pair that has replies in the group, with the pair's place."""
        by, value, rows, columns = group
        first, second, replies, low, high, wanted = (
            table[:, rows, columns].sum(axis=2, dtype=np.int64)
            for table in (self.first, self.second, self.scored, self.low, self.high, self.wanted)
        )
        kept = np.flatnonzero(replies.any(axis=1))
        if not len(kept):
            return
        change = second - first
        bounds: list[tuple[float, float]]
        if by == "length" and columns.stop - columns.start == 1:
            bounds, p_values = _once(first[kept], second[kept], replies[kept])
        else:
            bounds = _resampled(change[kept], replies[kept])
            p_values = [exchange_p(one) for one in change[kept]]
        counts = {
            "items": np.count_nonzero(replies, axis=1),
            "replies": replies.sum(axis=1),
            "unsafe_first": first.sum(axis=1),
            "unsafe_second": second.sum(axis=1),
            "only_first": np.count_nonzero(change < 0, axis=1),
            "only_second": np.count_nonzero(change > 0, axis=1),
            "low": low.sum(axis=1),
            "high": high.sum(axis=1),
            "wanted": wanted.sum(axis=1),
        }
        found = np.stack([one[kept] for one in counts.values()], axis=1).tolist()
        for place, numbers, interval, p in zip(kept.tolist(), found, bounds, p_values, strict=True):
            yield (
                place,
                {"by": by, "value": value} | _row(dict(zip(counts, numbers, strict=True)), interval, p),
            )


def _row(counts: Mapping[str, int], interval: tuple[float, float], p: float) -> dict[str, Any]:
    replies, wanted = counts["replies"], counts["wanted"]
    differ = counts["only_first"] + counts["only_second"]
    return {
        "items": counts["items"],
        "replies": replies,
        "asr_first": counts["unsafe_first"] / replies,
        "asr_second": counts["unsafe_second"] / replies,
        "only_first": counts["only_first"],
        "only_second": counts["only_second"],
        "p": p,
        "difference": {
            "estimate": (counts["unsafe_second"] - counts["unsafe_first"]) / replies,
            "low": interval[0],
            "high": interval[1],
            "small": counts["items"] < SMALL_ITEMS or differ < SMALL_EVENTS,
        },
        "bounds": {"low": counts["low"] / wanted, "high": counts["high"] / wanted, "replies": wanted},
    }


def _once(first: Counts, second: Counts, scored: Counts) -> tuple[list[tuple[float, float]], list[float]]:
    """Bounds and p of pairs at one length of which an item has one sample."""
    both = (first & second).sum(axis=1)
    only_a, only_b = first.sum(axis=1) - both, second.sum(axis=1) - both
    neither = scored.sum(axis=1) - both - only_a - only_b
    tables = np.stack([both, only_a, only_b, neither], axis=1).tolist()
    bounds = [newcombe_paired(*table) for table in tables]
    return bounds, [mcnemar_mid_p(table[1], table[2]) for table in tables]


def _resampled(change: Counts, replies: Counts) -> list[tuple[float, float]]:
    """Bounds of pairs (rows) from resampling items (columns), each with all its replies.

    What no item does cannot occur in a resample. Where none is worse, or none better, the bound on that side
    reaches at least to where it would be if as many did as Wilson's bound for what was never seen.
    """
    weights = bootstrap_weights(change.shape[1])
    with np.errstate(invalid="ignore", divide="ignore"):
        again = (change.astype(np.float64) @ weights.T) / (replies.astype(np.float64) @ weights.T)
        rates = np.where(replies > 0, change / replies, np.nan)
    # A resample without any reply of a small group says nothing.
    quantile = np.nanquantile if np.isnan(again).any() else np.quantile
    low, high = quantile(again, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=1)
    estimate = change.sum(axis=1) / replies.sum(axis=1)
    unseen = np.array([never_seen(int(items), LEVEL) for items in np.count_nonzero(replies, axis=1)])
    alike = np.nanmax(rates, axis=1) - np.nanmin(rates, axis=1) < 1e-12
    no_better, no_worse = ~(change < 0).any(axis=1), ~(change > 0).any(axis=1)
    low = np.where(no_better | alike, np.minimum(low, (1 - unseen) * estimate - unseen), low)
    high = np.where(no_worse | alike, np.maximum(high, (1 - unseen) * estimate + unseen), high)
    return list(zip(np.maximum(-1.0, low).tolist(), np.minimum(1.0, high).tolist(), strict=True))


def _apart(row: Mapping[str, Any], first: tuple[int, int], second: tuple[int, int]) -> dict[str, Any]:
    """Each side's own rate, and whether they are those of the row."""
    alone = [{"asr": unsafe / scored, "scored": scored} for unsafe, scored in (first, second)]
    return {
        "alone_first": alone[0],
        "alone_second": alone[1],
        "same_rates": alone[0]["asr"] == row["asr_first"] and alone[1]["asr"] == row["asr_second"],
    }


def _decide(found: Sequence[Sequence[dict[str, Any]]]) -> None:
    """Add what is corrected over all rows of a kind, and what each row may claim."""
    for by in ("all", "length", "scenario"):
        rows = [row for pair in found for row in pair if row["by"] == by]
        for row, p in zip(rows, holm([row["p"] for row in rows]), strict=True):
            change = row["difference"]
            apart = change["low"] > 0 or change["high"] < 0
            row["p_holm"] = p
            row["agrees"] = apart == (row["p"] < ALPHA)
            shown = apart and row["agrees"] and p < ALPHA
            row["claim"] = ("higher" if change["estimate"] > 0 else "lower") if shown else None
