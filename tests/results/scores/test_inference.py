"""What the report infers from a store: differences between targets, warnings, over-refusal, live turns."""

from typing import Any

from safemt_client.results.scores import collect as scores
from safemt_client.results.scores.agreement import agreement
from safemt_client.results.scores.corrections import corrections
from safemt_client.results.scores.differences import differences
from safemt_client.results.scores.trends import trends
from safemt_client.results.store.queries import Result


class Answers:
    """Answers each query with the rows prepared for a word that occurs in it."""

    def __init__(self, **rows: list[tuple[Any, ...]]) -> None:
        self.rows = rows

    def query(self, sql: str, parameters: object = None, limit: int | None = None) -> Result:
        return Result([], next((rows for word, rows in self.rows.items() if word in sql), []))


def test_warnings() -> None:
    counts = [("always", 40, 0, 0), ("fine", 20, 20, 0), ("mute", 30, 30, 2), ("few", 5, 0, 0)]
    found = scores.warnings(Answers(conversations=counts, run_judges=[("gpt", "gpt")]), "r")
    assert found == [
        "always labelled all 40 replies unsafe",
        "mute left 2 of 62 replies unscored",
        "gpt judges its own replies (target gpt)",
    ]


def test_a_run_without_labels_infers_nothing() -> None:
    empty = Answers()
    for figures in (trends, differences, corrections, agreement):
        assert figures(empty, "r") == []
