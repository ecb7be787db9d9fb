"""A difference of the size that `power` gives is found about 3 times in 4, by the tests of the report."""

import numpy as np
import pytest

from safemt_client.results.stats.exchange import exchange_p
from safemt_client.results.stats.power import effective_replies, smallest_difference
from safemt_client.results.stats.proportions import mcnemar_mid_p

STUDIES = 1000


def changes(
    source: np.random.Generator, shape: tuple[int, ...], apart: float, difference: float
) -> np.ndarray:
    """Second label minus first: 1, -1 or 0, so that they differ as `apart` and `difference` say."""
    drawn = source.random(shape)
    worse, better = apart / 2 + difference, apart / 2
    return np.where(drawn < worse, 1, np.where(drawn < worse + better, -1, 0))


@pytest.mark.slow
@pytest.mark.parametrize(("pairs", "apart"), [(120, 0.05), (120, 0.2), (500, 0.1), (2000, 0.2)])
def test_the_smallest_difference_is_seen_as_often_as_it_says(pairs: int, apart: float) -> None:
    difference = smallest_difference(pairs, apart)
    assert difference is not None
    drawn = changes(np.random.default_rng(1), (STUDIES, pairs), apart, difference)
    seen = [
        mcnemar_mid_p(int(better), int(worse)) < 0.05
        for better, worse in zip((drawn < 0).sum(axis=1), (drawn > 0).sum(axis=1), strict=True)
    ]
    # Nominally .8; the standard error of the simulation is .013.
    assert 0.74 <= np.mean(seen) <= 0.84


@pytest.mark.slow
@pytest.mark.parametrize("rho", [0.0, 0.3, 0.7])
def test_so_it_is_over_several_lengths_of_items_that_are_alike(rho: float) -> None:
    items, lengths, apart, studies = 150, 5, 0.1, 300
    difference = smallest_difference(effective_replies(items, lengths, rho), apart)
    assert difference is not None
    source, seen = np.random.default_rng(2), 0
    for _ in range(studies):
        own = changes(source, (items, lengths), apart, difference)
        common = changes(source, (items, 1), apart, difference)
        # Two lengths of an item share their change with the chance rho.
        shared = source.random((items, lengths)) < np.sqrt(rho)
        seen += exchange_p(np.where(shared, common, own).sum(axis=1)) < 0.05
    # The standard error of the simulation is .023.
    assert 0.72 <= seen / studies <= 0.87
