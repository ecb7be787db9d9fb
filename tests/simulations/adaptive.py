"""Corrected rates by labels that are drawn by chance, and how many labels these save.

    python tests/simulations/adaptive.py                          # print the table of labels saved
    python tests/simulations/adaptive.py --write docs/judging.md  # put it into the page

Runs, judges and people are those of `judges`. A judge's doubt about a label is the chance that the label is wrong,
misread by a logit of one standard deviation (`informative`); the same values the other way round, so that the judge
is surest where it is wrong most often (`misleading`); or not known. Half of the labels are drawn first, and the
others by what these have shown. Coverage is in the table of `coverage`.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

if __name__ == "__main__":  # as a script: import from `tests`, not from this folder
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit
from simulations.judges import (
    ALARMS,
    EVERY,
    ITEMS,
    KINDS,
    LENGTHS,
    MISSED,
    chances_of,
    covers,
    figures_of,
    labelled_of,
    rates_of,
    truth_of,
)
from simulations.study import Study

from safemt_client.results.scores.drawing import Drawable, drawn, errors_seen
from safemt_client.results.scores.human import LabelledReply
from safemt_client.results.scores.inclusion import DRAWN, Draws, Given, Key, weights_by_chance

__all__ = ["STUDIES", "Made", "adaptive_labels", "made", "saved"]

Array = NDArray[np.float64]

_ASR, _SIZES = (0.01, 0.05, 0.3), (100, 300)
_GRID = (50, 75, 120, 180, 250, 330)
_DOUBTS = ("informative", "misleading")
_EACH = 600
_BEGIN, _END = "<!-- labels saved: begin -->", "<!-- labels saved: end -->"


@dataclass(frozen=True)
class Made:
    """A run: what people and the judge call unsafe, and the judge's doubts, by item and length."""

    human: Array
    judge: Array
    doubts: Array | None

    def drawables(self, number: int) -> list[Drawable]:
        """Its replies; `number` makes their hashes others in each study."""
        found = []
        for item, place in np.ndindex(self.judge.shape):
            key = (f"{number} {item} {place}", str(item), str(place))
            label = "unsafe" if self.judge[item, place] else "safe"
            doubt = None if self.doubts is None else float(self.doubts[item, place])
            found.append(Drawable("target", key, key[0], label, doubt))
        return found

    def said(self, key: Key) -> str:
        """What people say of a reply."""
        return "unsafe" if self.human[int(key[1]), int(key[2])] else "safe"


def made(asr: float, kind: str, doubts: str, source: np.random.Generator) -> Made:
    """A run whose judge errs by item or by length."""
    unsafe = chances_of(asr, ITEMS, source)
    human = source.random(unsafe.shape) < unsafe
    missed, alarms = rates_of(kind, MISSED[kind], source), rates_of(kind, ALARMS[kind], source)
    judge = human ^ (source.random(human.shape) < np.where(human, missed, alarms))
    if doubts == "unknown":
        return Made(human * 1.0, judge * 1.0, None)
    right, wrong = (1 - unsafe) * (1 - alarms), unsafe * missed
    of_safe = wrong / np.maximum(wrong + right, 1e-12)
    alarm, hit = (1 - unsafe) * alarms, unsafe * (1 - missed)
    of_unsafe = alarm / np.maximum(alarm + hit, 1e-12)
    known = np.clip(np.where(judge, of_unsafe, of_safe), 1e-4, 1 - 1e-4)
    read = expit(logit(known) + source.normal(0, 1, known.shape))
    if doubts == "misleading":
        order = np.argsort(read, axis=None)
        turned = np.empty(read.size)
        turned[order] = np.sort(read, axis=None)[::-1]
        read = turned.reshape(read.shape)
    return Made(human * 1.0, judge * 1.0, read)


def adaptive_labels(run: Made, size: int, number: int, source: np.random.Generator) -> list[LabelledReply]:
    """People's labels as `label --adaptive` draws them, in two draws."""
    replies = run.drawables(number)
    salt = f"{number} {source.integers(2**62)}"
    first = drawn(replies, errors_seen(replies, {}, "people"), size // 2, {}, salt)
    known = {key: run.said(key) for key in map(_key, first.chosen)}
    before = {_key(row): row.chance for row in first.replies}
    second = drawn(replies, errors_seen(replies, known, "people"), size, before, salt)
    return [_labelled(run, key, 1 / row.chance) for row in second.chosen for key in [_key(row)]]


def _key(row: Any) -> Key:
    return row.request_hash, row.dialogue_key, row.reply_hash


def _labelled(run: Made, key: Key, weight: float) -> LabelledReply:
    item, place = int(key[1]), int(key[2])
    called = "unsafe" if run.judge[item, place] else "safe"
    return LabelledReply("target", LENGTHS[place], str(item), run.said(key), called, weight, by_chance=True)


def _after_strata(run: Made, size: int, number: int, source: np.random.Generator) -> list[LabelledReply]:
    """A third of the labels drawn by strata before the others were by chance, and of these the last not labelled."""
    replies = run.drawables(number)
    strata = {reply.key: f"run {number}|{reply.key[2]}|{reply.label}" for reply in replies}
    order = sorted(replies, key=lambda one: _order(one.key, strata[one.key]))
    sizes = Counter(strata.values())
    taken: Counter[str] = Counter()
    by_strata = set()
    for reply in order:
        stratum = strata[reply.key]
        if taken[stratum] < size / 3 / len(sizes):
            taken[stratum] += 1
            by_strata.add(reply.key)
    known = {key: run.said(key) for key in by_strata}
    draw = drawn(replies, errors_seen(replies, known, "people"), size, {}, f"{source.integers(2**62)}")
    asked = [_key(row) for row in draw.chosen if _key(row) not in by_strata]
    labels = [*sorted(by_strata), *asked[: round(0.8 * len(asked))]]
    given = [
        Given(key, *(("t", strata[key]) if key in by_strata else (DRAWN, None)), (strata[key],))
        for key in labels
    ]
    draws = Draws(
        {("draw", "target"): {_key(row) for row in draw.chosen}},
        [("draw", "target", _key(row), row.chance) for row in draw.replies],
    )
    weights = weights_by_chance(given, sizes, draws)
    return [_labelled(run, key, weight) for key, weight in zip(labels, weights, strict=True)]


def _order(key: Key, stratum: str) -> str:
    return hashlib.sha256(f"{key[0]} {key[1]} {stratum.partition('|')[0]}".encode()).hexdigest()


Draw = Callable[[Made, int, int, np.random.Generator], list[LabelledReply]]


def _covered(asr: float, size: int, doubts: str, draw: Draw = adaptive_labels) -> Callable[[int], int]:
    def simulate(studies: int) -> int:
        source = np.random.default_rng(int(1000 * asr) + size)
        covered = 0
        for number in range(studies):
            kind = KINDS[number % 2]
            run = made(asr, kind, doubts, source)
            found = figures_of(draw(run, size, number, source), run.judge)["corrected"]
            # Where nothing is estimated nothing is wrong.
            covered += found is None or covers(found, truth_of(asr, kind, EVERY)[1])
        return covered

    return simulate


STUDIES = (
    *(
        Study(
            "Corrected ASR over all lengths",
            f"ASR {100 * asr:g} %, {size} labels drawn by `label --adaptive`, doubts {doubts}",
            _covered(asr, size, doubts),
            studies=_EACH,
            least=0.93,
            most=0.995,
        )
        for asr in _ASR
        for size in _SIZES
        for doubts in _DOUBTS
    ),
    *(
        Study(
            "Corrected ASR over all lengths",
            f"ASR {100 * asr:g} %, a third of 300 labels drawn by strata, then `label --adaptive`, labelled in part",
            _covered(asr, 300, "informative", _after_strata),
            studies=_EACH,
            least=0.93,
            most=0.995,
        )
        for asr in _ASR
    ),
)


def _width(draw: Draw, asr: float, size: int, doubts: str, studies: int) -> float:
    """The mean width of the interval of a corrected rate."""
    source = np.random.default_rng(size)
    widths = []
    for number in range(studies):
        run = made(asr, KINDS[number % 2], doubts, source)
        found = figures_of(draw(run, size, number, source), run.judge)["corrected"]
        # With nothing estimated, nothing is known.
        widths.append(1.0 if found is None else found["high"] - found["low"])
    return float(np.mean(widths))


def _by_strata(run: Made, size: int, number: int, source: np.random.Generator) -> list[LabelledReply]:
    return labelled_of(run.human, run.judge, size, source)


def saved(asr: float, doubts: str, studies: int) -> list[tuple[int, float, float]]:
    """For each number of labels by strata: it, the mean width, and how many by chance give the same width."""
    by_chance = [_width(adaptive_labels, asr, size, doubts, studies) for size in _GRID]
    # The logarithm of a number of labels is about quadratic in that of the width.
    curve = np.polyfit(np.log(by_chance), np.log(_GRID), 2)
    found = []
    for size in _SIZES:
        width = _width(_by_strata, asr, size, doubts, studies)
        found.append((size, width, float(np.exp(np.polyval(curve, np.log(width))))))
    return found


def table(studies: int) -> str:
    """The table of labels saved."""
    lines = [
        "| ASR | doubts | labels by strata | width of the interval, points | labels by chance for the same | saved |",
        "|---:|---|---:|---:|---:|---:|",
    ]
    for asr in _ASR:
        for doubts in ("informative", "unknown", "misleading"):
            for size, width, same in saved(asr, doubts, studies):
                lines.append(
                    f"| {100 * asr:g} % | {doubts} | {size:.0f} | {100 * width:.1f} | {same:.0f} | "
                    f"{100 * (1 - same / size):.0f} % |"
                )
                print(lines[-1], file=sys.stderr, flush=True)
    return "\n".join(lines)


def main() -> None:
    """Print the table of labels saved, or write it into a page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--write", type=Path, metavar="PAGE", help="the page that the table is put into")
    parser.add_argument("--studies", type=int, default=60, metavar="N", help="runs simulated for each figure")
    arguments = parser.parse_args()
    found, page = table(arguments.studies), arguments.write
    if page is None:
        print(found)
        return
    text = page.read_text(encoding="utf-8")
    before, after = text.split(_BEGIN)[0], text.split(_END)[1]
    page.write_text(f"{before}{_BEGIN}\n\n{found}\n\n{_END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
