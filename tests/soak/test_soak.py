"""The soak in small: faults, kills, restarts and damage, and then every promise is checked."""

from pathlib import Path

import pytest
from soak.faults import SPECIAL
from soak.soak import parse, soak


@pytest.mark.soak
@pytest.mark.slow
@pytest.mark.parametrize("seed", [1])
def test_nothing_is_lost_and_nothing_is_asked_twice(seed: int, tmp_path: Path) -> None:
    words = [
        "--turns",
        "3000",
        "--concurrency",
        "48",
        "--sessions",
        "16",
        "--minutes",
        "4",
        "--latency",
        "0.2",
    ]
    report = soak(parse([*words, "--seed", str(seed), "--folder", str(tmp_path)]))
    assert report.good, [line for good, line in report.lines if not good]
    assert set(SPECIAL) <= report.kinds
