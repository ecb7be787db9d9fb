"""Every interval covers what it says; the table of docs/metrics.md has a line for each."""

from pathlib import Path

import pytest
from simulations.coverage import every_study, table, written
from simulations.judges import uneven
from simulations.study import Study

PAGE = Path(__file__).resolve().parents[2] / "docs" / "metrics.md"


@pytest.mark.slow
@pytest.mark.parametrize("study", every_study(), ids=lambda study: f"{study.interval}, {study.design}")
def test_an_interval_covers_what_it_says(study: Study) -> None:
    covered = study.simulate(study.studies)
    assert study.holds(covered), f"{covered} of {study.studies}, not {study.least} to {study.most}"


@pytest.mark.slow
def test_a_corrected_rate_without_the_weights_of_the_labels_would_fail() -> None:
    assert uneven(100, weighted=False) < 80 < uneven(100)


def test_the_page_has_a_line_for_each_study() -> None:
    lines = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("| ")]
    said = [tuple(cell.strip() for cell in line.split("|")[1:3]) for line in lines]
    assert [(s.interval, s.design) for s in every_study()] == [
        pair for pair in said if pair in {(s.interval, s.design) for s in every_study()}
    ], "python tests/simulations/coverage.py --write docs/metrics.md"


def test_the_table_is_written_in_its_place_with_its_own_error() -> None:
    study = Study("ASR (Wilson)", "30 items", lambda n: n, studies=400)
    made = table({study: 380})
    assert made.splitlines()[-1] == "| ASR (Wilson) | 30 items | 95 | 95.0 | 1.1 | 400 |"
    page = "a\n<!-- simulated coverage: begin -->\nold\n<!-- simulated coverage: end -->\nb\n"
    again = written(page, made)
    assert "old" not in again
    assert again.startswith("a\n")
    assert again.endswith("b\n")
    assert written(again, made) == again
    with pytest.raises(ValueError, match="no '<!--"):
        written("a page", made)


def test_a_study_that_always_covers_still_has_an_error() -> None:
    study = Study("x", "y", lambda n: n, studies=100, most=1.0)
    assert study.error(100) > 0
    assert study.holds(93)
    assert study.holds(100)
    assert not study.holds(92)
