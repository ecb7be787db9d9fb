"""The number of labels that `label --want` names gives about the width that was wanted."""

import numpy as np
import pytest
from simulations.adaptive import adaptive_labels, made
from simulations.judges import KINDS, figures_of

from safemt_client.results.scores.corrections import ItemCount
from safemt_client.results.scores.drawing import errors_seen
from safemt_client.results.scores.needed import half_width


@pytest.mark.slow
@pytest.mark.parametrize(
    ("asr", "least", "most"),
    # Where unsafe replies are rare, the guesses are too careful.
    [(0.01, 0.9, 1.6), (0.05, 0.9, 1.3), (0.3, 0.85, 1.15)],
)
@pytest.mark.parametrize("size", [100, 300])
def test_the_width_of_so_many_labels_is_foretold(asr: float, least: float, most: float, size: int) -> None:
    source = np.random.default_rng(size)
    foretold, found = [], []
    for number in range(40):
        run = made(asr, KINDS[number % 2], "informative", source)
        replies = run.drawables(number)
        # What is known after 100 labels, drawn as the first of two draws would be.
        known = {reply.key: run.said(reply.key) for reply in replies[:: len(replies) // 100]}
        guesses = errors_seen(replies, known, "people").guesses(replies)
        items = [ItemCount(str(item), 5, int(row.sum()), 0) for item, row in enumerate(run.judge)]
        foretold.append(half_width(guesses, run.judge.ravel() == 1, items, size))
        interval = figures_of(adaptive_labels(run, size, number, source), run.judge)["corrected"]
        if interval is not None:
            found.append((interval["high"] - interval["low"]) / 2)
    assert least < np.mean(foretold) / np.mean(found) < most
