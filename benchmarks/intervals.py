"""How long the intervals of a large comparison take: 10,000 dialogues under 17 targets, 2,000 resamples.

    python benchmarks/intervals.py [--items 2000] [--targets 17] [--resamples 2000]

ASR of every length and target, the Safety Index of each target, a trend of each, and all pairs of targets by
length, by scenario and over all, with Holm's correction. Prints the seconds (aim: 10), imports included.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--items", type=int, default=2000)
    parser.add_argument("--targets", type=int, default=17)
    parser.add_argument("--resamples", type=int, default=2000)
    arguments = parser.parse_args()
    begin = time.perf_counter()
    import numpy as np

    from safemt_client.results.stats.intervals import bootstrap_weights, cluster_asr, interval_of
    from safemt_client.results.stats.pairs import compared_pairs
    from safemt_client.results.stats.safety_index import ROUNDS, safety_index_interval
    from safemt_client.results.stats.trend import trend

    imported = time.perf_counter()
    source = np.random.default_rng(0)
    labels = (source.random((arguments.targets, arguments.items, 5)) < 0.3).astype(float)
    weights = bootstrap_weights(arguments.items, arguments.resamples)
    for one in labels:
        asr, again = cluster_asr(one, weights)
        for column in range(5):
            interval_of(asr[column], again[:, column])
        safety_index_interval(one, resamples=arguments.resamples)
    single = time.perf_counter()
    for one in labels:
        trend(one, ROUNDS)
    trends = time.perf_counter()
    names = [f"item {number}" for number in range(arguments.items)]
    sides = [
        {
            (name, k): float(label)
            for name, row in zip(names, one, strict=True)
            for k, label in zip(ROUNDS, row, strict=True)
        }
        for one in labels
    ]
    scenario_of = {name: f"scenario {number % 14}" for number, name in enumerate(names)}
    pairs = compared_pairs(sides, list(itertools.combinations(range(len(sides)), 2)), scenario_of)
    end = time.perf_counter()
    print(
        f"{arguments.items * 5:,} dialogues, {arguments.targets} targets, {arguments.resamples:,} resamples: "
        f"{end - begin:.1f} s (aim: 10)\n  imports {imported - begin:.1f} s, ASR and Safety Index "
        f"{single - imported:.1f} s, {len(labels)} trends {trends - single:.1f} s, "
        f"{len(pairs)} pairs of targets, {sum(map(len, pairs))} rows, {end - trends:.1f} s"
    )


if __name__ == "__main__":
    main()
