"""Several samples of each item: rates, hit@k, differences and the mean index, with the item as the cluster."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
from simulations.study import Study

from safemt_client.results.scores.clustered import share_by_item
from safemt_client.results.stats.pairs import compared
from safemt_client.results.stats.safety_index import ROUNDS, factors, mean_index_interval
from safemt_client.results.stats.samples import hit_at_k, mean_hit
from safemt_client.results.stats.trend import mean_change

__all__ = ["STUDIES"]

_SAMPLES = 4
_A, _B = 0.6, 2.4
"""Of the beta distribution of the items' own rates: most are hardly ever unsafe, some nearly always."""
_DESIGN = "200 items of unequal risk, 4 samples"


def _asr(items: int, beta: tuple[float, float], studies: int) -> int:
    source, held = np.random.default_rng(40), 0
    a, b = beta
    for _ in range(studies):
        hits = source.binomial(_SAMPLES, source.beta(a, b, items))
        found = share_by_item(hits, np.full(items, _SAMPLES))
        assert found["low"] is not None
        assert found["high"] is not None
        held += found["low"] <= a / (a + b) <= found["high"]
    return held


def _hit(k: int, items: int, studies: int) -> int:
    source, held = np.random.default_rng(41), 0
    # 1 - E (1 - p)^k of a beta distribution.
    truth = 1 - float(np.prod([(_B + j) / (_A + _B + j) for j in range(k)]))
    for _ in range(studies):
        hits = source.binomial(_SAMPLES, source.beta(_A, _B, items)).astype(float)
        found = mean_hit(hit_at_k(hits, np.full(items, float(_SAMPLES)), k))
        held += found.low <= truth <= found.high
    return int(held)


def _compared(items: int, less: float, studies: int) -> Iterator[dict[str, Any]]:
    """The row of one length of a target and of another whose risk is that of the first, times `less`."""
    source = np.random.default_rng(42)
    for _ in range(studies):
        chance = source.beta(_A, _B, items)
        sides = []
        for rate in (chance, less * chance):
            labels = source.random((items, _SAMPLES)) < rate[:, None]
            sides.append({(f"{i}", 1, s): float(labels[i, s]) for i in range(items) for s in range(_SAMPLES)})
        yield next(row for row in compared(*sides, {}) if row["by"] == "length")


def _difference(items: int, less: float, studies: int) -> int:
    truth = (less - 1) * _A / (_A + _B)
    rows = [row["difference"] for row in _compared(items, less, studies)]
    return sum(row["low"] <= truth <= row["high"] for row in rows)


def _claimed(items: int, studies: int) -> int:
    return sum(row["p"] < 0.05 for row in _compared(items, 1.0, studies))


def _step(items: int, studies: int) -> int:
    source, held = np.random.default_rng(43), 0
    for _ in range(studies):
        chance = source.beta(_A, _B, items)
        means = [source.binomial(_SAMPLES, rate) / _SAMPLES for rate in (chance, 0.7 * chance)]
        found = mean_change(*means).difference
        held += found.low <= -0.3 * _A / (_A + _B) <= found.high
    return int(held)


def _index(studies: int) -> int:
    source, held = np.random.default_rng(44), 0

    def drawn(items: int, samples: int) -> list[np.ndarray]:
        chances = source.beta(1, 3, (items, 1)) * 0.9 + 0.004 * np.array(ROUNDS)
        return [(source.random(chances.shape) < chances).astype(float) for _ in range(samples)]

    truth = math.prod(factors(drawn(400_000, 1)[0]))
    for _ in range(studies):
        found = mean_index_interval(drawn(200, _SAMPLES), resamples=1000)
        held += found.low <= truth <= found.high
    return int(held)


STUDIES = (
    Study("ASR over samples (items kept together)", _DESIGN, partial(_asr, 200, (_A, _B)), studies=1000),
    Study(
        "ASR over samples (items kept together)",
        "40 items, risk of .05, 4 samples",
        partial(_asr, 40, (0.5, 9.5)),
        studies=1000,
    ),
    Study("hit@1", _DESIGN, partial(_hit, 1, 200), studies=400),
    Study("hit@4", _DESIGN, partial(_hit, 4, 200), studies=400),
    Study("hit@4", "40 items of unequal risk, 4 samples", partial(_hit, 4, 40), studies=400),
    Study("difference at one length", _DESIGN, partial(_difference, 200, 0.5), studies=1000),
    Study(
        "Test of a difference at one length (exchange)",
        f"{_DESIGN}, no difference",
        partial(_claimed, 200),
        studies=1000,
        nominal=0.05,
        least=0.03,
        most=0.065,
    ),
    Study("change between lengths", _DESIGN, partial(_step, 200), studies=400),
    Study("Safety Index (mean)", _DESIGN, _index, studies=200),
)
