"""Runs that stop when they know, simulated: how often a rule is decided wrongly, and after how many items.

    python tests/simulations/stopping.py                            # print the tables
    python tests/simulations/stopping.py --write docs/stopping.md   # put them into the page

Each study is the whole of a run: items in a random order, one look after each, until the rule is decided.
"""

from __future__ import annotations

import argparse
import heapq
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

if __name__ == "__main__":
    sys.path[:0] = [str(place) for place in Path(__file__).resolve().parents[1:3]]

from safemt_client.results.scores.rules import Rule, read_stop_rule
from safemt_client.results.scores.stopping import ALPHA, Population, RuleState
from safemt_client.results.stats.power import items_for_half_width
from safemt_client.results.stats.shares import wilson

__all__ = ["EXPECTED", "KINDS", "Kind", "Looks", "early", "looks", "needed", "tables", "widths"]

Labels = np.ndarray
"""Items x replies of a target: 1 unsafe, 0 safe, NaN without a label."""

EXPECTED = {0.01: 54, 0.05: 184, 0.15: 296, 0.20: 91}
"""Items after which `asr@8 < 10%` of 2,000 items is to be decided, by the true rate."""


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of rule. `draw` makes the replies of all items: of one target or of two, and what is known of
    them, which lacks labels."""

    name: str
    design: str
    rule: str
    draw: Callable[[np.random.Generator], Sequence[Labels]]
    lost: float = 0.0
    """The share of unsafe replies that have no label; of safe ones a fifth of it."""
    studies: int = 400


@dataclass(frozen=True, slots=True)
class Looks:
    """What became of the studies of a kind.

    In `wrong` of them the rule was decided wrongly where the truth is at its bound, so that every decision
    before the end is the wrong one (of a width: the interval at the stop leaves the truth out); in `left_out`
    the interval left the truth out at any look.
    """

    studies: int
    wrong: int
    left_out: int

    def within(self, count: int, level: float = ALPHA) -> bool:
        """Whether so many are no more than the level, within twice the simulation's own error."""
        return count / self.studies <= level + 2 * (level * (1 - level) / self.studies) ** 0.5


def _risks(source: np.random.Generator, items: int, replies: int, rate: float) -> Labels:
    """Replies to items of unequal risk."""
    risk = source.beta(rate * 1.5, (1 - rate) * 1.5, (items, 1))
    return (source.random((items, replies)) < risk).astype(float)


def _two(source: np.random.Generator, items: int, replies: int) -> tuple[Labels, Labels]:
    """Two targets that are alike on most replies; the first is unsafe more often by about 3 points."""
    first = _risks(source, items, replies, 0.2)
    other = source.random(first.shape)
    second = np.where(first == 1, (other > 0.25).astype(float), (other < 0.025).astype(float))
    return first, second


KINDS = (
    Kind(
        "one length, one reply",
        "1,000 items, ASR 10 %",
        "asr@8 < 10%",
        lambda source: [(np.arange(1000) < 100).astype(float)[:, None]],
        studies=2000,
    ),
    Kind(
        "pooled over lengths",
        "600 items of unequal risk, 5 lengths, ASR about 10 %",
        "asr < 10%",
        lambda source: [_risks(source, 600, 5, 0.1)],
    ),
    Kind(
        "samples",
        "600 items of unequal risk, 3 samples, ASR about 10 %",
        "asr@8 < 10%",
        lambda source: [_risks(source, 600, 3, 0.1)],
    ),
    Kind(
        "difference at one length",
        "600 items, about 3 points",
        "A@8 - B@8 < 3 points",
        lambda source: _two(source, 600, 1),
    ),
    Kind(
        "difference over lengths",
        "600 items, 5 lengths, about 3 points",
        "A - B < 3 points",
        lambda source: _two(source, 600, 5),
    ),
    Kind(
        "width at one length",
        "1,000 items, ASR about 10 %",
        "ci(asr@8) < 8 points",
        lambda source: [_risks(source, 1000, 1, 0.1)],
        studies=1000,
    ),
    Kind(
        "width over lengths",
        "600 items, 5 lengths, ASR about 10 %",
        "ci(asr) < 8 points",
        lambda source: [_risks(source, 600, 5, 0.1)],
    ),
    Kind(
        "one length, without all labels",
        "1,000 items, ASR 10 %; 10 % of unsafe and 2 % of safe replies have no label",
        "asr@8 < 10%",
        lambda source: [(np.arange(1000) < 100).astype(float)[:, None]],
        lost=0.1,
        studies=1000,
    ),
    Kind(
        "difference, without all labels",
        "600 items, 5 lengths, about 3 points; 10 % of unsafe and 2 % of safe replies have no label",
        "A - B < 3 points",
        lambda source: _two(source, 600, 5),
        lost=0.1,
    ),
)


def looks(kind: Kind, studies: int | None = None, seed: int = 40) -> Looks:
    """Studies with the truth at the bound of the rule, looked at after each item until the last."""
    source = np.random.default_rng(seed)
    wrong = left_out = 0
    studies = studies or kind.studies
    for _ in range(studies):
        sides = kind.draw(source)
        items, replies = sides[0].shape
        total = sum(side.sum() * sign for side, sign in zip(sides, (1, -1), strict=False))
        truth = float(total) / (items * replies)
        rule = read_stop_rule(kind.rule)
        state = RuleState(
            rule if rule.width else replace(rule, bound=truth),
            Population(items, replies, items * replies),
            ALPHA,
        )
        known = [_without(source, side, kind.lost) for side in sides]
        missed, at_stop = _walk(state, known, source.permutation(items), truth)
        left_out += missed
        wrong += at_stop
    return Looks(studies, wrong, left_out)


def _without(source: np.random.Generator, labels: Labels, lost: float) -> Labels:
    chance = np.where(labels == 1, lost, lost / 5)
    return np.where(source.random(labels.shape) < chance, np.nan, labels)


def _walk(state: RuleState, sides: Sequence[Labels], order: Iterable[int], truth: float) -> tuple[bool, bool]:
    """Whether the interval ever leaves the truth out, and whether the rule is decided wrongly."""
    rows = [side.tolist() for side in sides]
    missed = wrong = False
    # Of a difference, a rounding error is none.
    slack = 1e-9
    for item in order:
        state.feed(*(side[item] for side in rows))
        out = not state.low - slack <= truth <= state.high + slack
        missed = missed or out
        if state.decided_at == state.items:
            # At the bound "holds" is wrong, as the rule is that the figure is below it.
            wrong = out if state.rule.width else state.state == "holds"
    return missed, wrong


def needed(rate: float, studies: int = 500, items: int = 2000, seed: int = 41) -> tuple[float, float, float]:
    """Of `asr@8 < 10%`: items until it is decided, on average; the share decided wrongly, and the share that
    is if one stops as soon as a 95 % interval for a fixed number leaves the bound out."""
    source = np.random.default_rng(seed)
    rule = read_stop_rule("asr@8 < 10%")
    labels = (np.arange(items) < round(rate * items)).astype(float)
    taken, wrong, naive = 0, 0, 0
    for _ in range(studies):
        order = source.permutation(labels).tolist()
        state = _run(rule, order)
        taken += state.items
        wrong += (state.state == "holds") != (rate < rule.bound)
        naive += _naively(rule, order) != (rate < rule.bound)
    return taken / studies, wrong / studies, naive / studies


def _run(rule: Rule, labels: Sequence[float], items: int | None = None) -> RuleState:
    """One reply an item, in this order, until the rule is decided."""
    state = RuleState(rule, Population(items or len(labels), 1, items or len(labels)), ALPHA)
    for label in labels:
        state.feed([label])
        if state.state != "open":
            break
    return state


def _naively(rule: Rule, labels: Sequence[float]) -> bool | None:
    unsafe = 0
    for seen, label in enumerate(labels, 1):
        unsafe += label == 1
        kept = rule.decided(*wilson(unsafe, seen))
        if kept is not None:
            return kept
    return None


def early(studies: int = 200, rate: float = 0.15, flying: int = 64, seed: int = 42) -> tuple[float, float]:
    """The share of `asr@8 < 10%` decided wrongly if items are looked at as they finish, and along the order.

    Safe replies, mostly short refusals, take 1 on average, unsafe ones 20; `flying` calls are under way.
    """
    source = np.random.default_rng(seed)
    rule = read_stop_rule("asr@8 < 10%")
    items = 2000
    labels = (np.arange(items) < round(rate * items)).astype(float)
    finished = ordered = 0
    for _ in range(studies):
        order = source.permutation(labels)
        takes = source.gamma(4, np.where(order == 1, 20, 1) / 4)
        ends, lanes = np.empty(items), [0.0] * flying
        for place, length in enumerate(takes):
            ends[place] = heapq.heappop(lanes) + length
            heapq.heappush(lanes, float(ends[place]))
        finished += _run(rule, order[np.argsort(ends)].tolist()).state != "broken"
        ordered += _run(rule, order.tolist()).state != "broken"
    return finished / studies, ordered / studies


def widths(
    rate: float, width: str, studies: int = 50, items: int = 2000, seed: int = 43
) -> tuple[float, int]:
    """Items, on average, until the sequence of an ASR is narrower than `width`, such as `8 points`; and the
    fixed number of items whose interval is as narrow."""
    source = np.random.default_rng(seed)
    rule = read_stop_rule(f"ci(asr@8) < {width}")
    labels = (np.arange(items) < round(rate * items)).astype(float)
    taken = [_run(rule, source.permutation(labels).tolist()).items for _ in range(studies)]
    return float(np.mean(taken)), items_for_half_width(rule.bound / 2, rate)


def tables() -> str:
    """All of it as Markdown."""
    lines = ["| true ASR | decided after items | wrong % | naive looking wrong % |", "|---:|---:|---:|---:|"]
    for rate in (0.01, 0.05, 0.08, 0.10, 0.12, 0.15, 0.20):
        items, wrong, naive = needed(rate, 1000)
        lines.append(f"| {100 * rate:g} % | {items:,.0f} | {100 * wrong:.1f} | {100 * naive:.1f} |")
        print(lines[-1], file=sys.stderr, flush=True)
    lines += ["", "| rule | simulated | decided wrongly % | truth left out at any look % | studies |"]
    lines += ["|---|---|---:|---:|---:|"]
    for kind in KINDS:
        found = looks(kind)
        wrong, out = (100 * count / found.studies for count in (found.wrong, found.left_out))
        lines.append(f"| {kind.name} | {kind.design} | {wrong:.1f} | {out:.1f} | {found.studies:,} |")
        print(lines[-1], file=sys.stderr, flush=True)
    lines += [
        "",
        "| width | true ASR | items with `ci(asr@8)` | fixed number of items |",
        "|---:|---:|---:|---:|",
    ]
    for rate, width in ((0.05, "4 points"), (0.05, "8 points"), (0.20, "8 points")):
        items, fixed = widths(rate, width)
        lines.append(f"| {width} | {100 * rate:g} % | {items:,.0f} | {fixed:,} |")
        print(lines[-1], file=sys.stderr, flush=True)
    lines += ["", "| items are looked at | wrong % |", "|---|---:|"]
    finished, ordered = early()
    lines.append(f"| as they finish, unsafe replies taking 20 times as long | {100 * finished:.1f} |")
    lines.append(f"| in the order that was drawn | {100 * ordered:.1f} |")
    return "\n".join(lines)


def main() -> None:
    """Print the tables or write them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--write", type=Path, metavar="PAGE", help="the page that the tables are put into")
    page = parser.parse_args().write
    found = tables()
    if page is None:
        print(found)
        return
    begin, end = "<!-- simulated stopping: begin -->", "<!-- simulated stopping: end -->"
    place = re.compile(f"{begin}.*{end}", re.DOTALL)
    text = page.read_text(encoding="utf-8")
    if not place.search(text):
        raise SystemExit(f"no {begin!r} and {end!r} in {page}")
    page.write_text(place.sub(lambda _: f"{begin}\n\n{found}\n\n{end}", text), encoding="utf-8")


if __name__ == "__main__":
    main()
