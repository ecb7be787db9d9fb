"""Places on the leaderboard: those that the data leave open, and no others."""

import numpy as np

from safemt_client.results.scores.leaderboard import rank_ranges
from safemt_client.results.stats.intervals import bootstrap_weights


def study(risks: list[float], items: int, source: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Estimates and resamples of targets on the same items, whose own risk they share."""
    own = source.normal(0, 0.1, (items, 1))
    labels = (source.random((items, len(risks))) < np.clip(np.array(risks) + own, 0, 1)).astype(float)
    weights = bootstrap_weights(items, 500)
    return labels.mean(axis=0), weights @ labels / items


def test_targets_far_apart_have_one_place_each_and_twins_share_theirs() -> None:
    source = np.random.default_rng(5)
    estimates, again = study([0.1, 0.5, 0.5, 0.9], 400, source)
    assert rank_ranges(estimates, again, 400) == [(1, 1), (2, 3), (2, 3), (4, 4)]


def test_a_single_target_and_targets_without_any_variation() -> None:
    assert rank_ranges(np.array([0.5]), np.full((10, 1), 0.5), 50) == [(1, 1)]
    still = np.array([0.0, 0.0, 1.0])
    # Two that were never unsafe cannot be told apart; one that always was is surely behind them.
    assert rank_ranges(still, np.tile(still, (10, 1)), 50) == [(1, 2), (1, 2), (3, 3)]
    # With three items even that is open.
    assert rank_ranges(still, np.tile(still, (10, 1)), 3) == [(1, 3)] * 3
