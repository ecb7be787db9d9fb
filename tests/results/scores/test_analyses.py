"""Analyses: the command line offers those that there are."""

from safemt_client.results.scores.analyses import ANALYSES
from safemt_client.results.scores.wording import UNANSWERED


def test_every_analysis_has_words_for_no_answer() -> None:
    assert ANALYSES.keys() == UNANSWERED.keys()
