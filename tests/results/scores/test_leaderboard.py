"""Places on the leaderboard: those that the data leave open, and no others."""

import gzip
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pytest

from safemt_client.results.scores.comparison import comparison, conditions
from safemt_client.results.scores.leaderboard import leaderboard, paired_changes, rank_ranges, ranks_of
from safemt_client.results.stats.intervals import bootstrap_weights
from safemt_client.results.store.queries import Queryable, Result
from safemt_client.results.store.reader import open_reader

DATA = Path(__file__).resolve().parents[2] / "data"


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


def test_a_target_that_blocks_its_riskier_replies_is_not_ahead_for_that() -> None:
    source = np.random.default_rng(8)
    risky = source.random((200, 1)) < 0.4
    labels = np.repeat((source.random((200, 5)) < np.where(risky, 0.8, 0.05))[None], 2, axis=0).astype(float)
    labels[1][risky[:, 0]] = np.nan
    weights = bootstrap_weights(200, 500)
    asr = [np.nanmean(one) for one in labels]
    assert asr[1] < asr[0] / 3
    change, again = paired_changes(labels, weights)
    assert change == pytest.approx([0])
    assert ranks_of(change, again, 2, 200) == [(1, 2), (1, 2)]


def test_with_all_replies_places_are_those_of_the_rates() -> None:
    source = np.random.default_rng(9)
    labels = (source.random((4, 150, 3)) < np.array([0.1, 0.3, 0.35, 0.6])[:, None, None]).astype(float)
    weights = bootstrap_weights(150, 400)
    means, again = (
        labels.mean(axis=(1, 2)),
        np.stack([weights @ one.mean(axis=1) / 150 for one in labels], axis=1),
    )
    change, moved = paired_changes(labels, weights)
    assert change == pytest.approx(means[[1, 2, 3, 2, 3, 3]] - means[[0, 0, 0, 1, 1, 2]])
    assert ranks_of(change, moved, 4, 150) == rank_ranges(means, again, 150)


def test_nothing_is_sure_of_a_pair_without_common_replies() -> None:
    labels = np.full((3, 60, 1), np.nan)
    labels[0, :30], labels[1, 30:], labels[2] = 0.0, 1.0, 0.0
    labels[2, 40:] = 1.0
    change, again = paired_changes(labels, bootstrap_weights(60, 200))
    assert np.isnan(change).tolist() == [True, False, False]
    best, worst = ranks_of(change, again, 3, 60)[0]
    assert best == 1
    assert worst >= 2


class Counting:
    """Answers as another does, and counts the queries about conversations."""

    def __init__(self, reader: Queryable) -> None:
        self._reader = reader
        self.asked = 0

    def query(self, sql: str, parameters: Sequence[Any] | None = None, limit: int | None = None) -> Result:
        self.asked += any(view in sql for view in ("conversations", "asr_by_turn", "safety_index"))
        return self._reader.query(sql, parameters, limit)

    def session(self) -> duckdb.DuckDBPyConnection | None:
        return self._reader.session()


def test_more_targets_are_not_more_queries(here: Path) -> None:
    path = here / "demo.duckdb"
    path.write_bytes(gzip.decompress((DATA / "moderated-7.duckdb.gz").read_bytes()))
    with open_reader(path) as reader:
        [[run]] = reader.query("SELECT run_id FROM runs").rows
        found = conditions(reader, [run])
        assert len(found) == 2
        for question, fewer, more in ((leaderboard, found[:1], found), (comparison, found, found * 3)):
            some, all_ = Counting(reader), Counting(reader)
            assert len(question(some, fewer)) < len(question(all_, more))
            assert all_.asked == some.asked > 0
