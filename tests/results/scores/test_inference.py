"""What the report infers from a store: differences between targets, warnings, over-refusal, live turns."""

from typing import Any

import pytest

from safemt_client.results.scores import collect as scores
from safemt_client.results.scores.agreement import agreement
from safemt_client.results.scores.corrections import corrections
from safemt_client.results.scores.differences import differences
from safemt_client.results.scores.trends import trends
from safemt_client.results.stats.pairs import mcnemar
from safemt_client.results.store.lookups import Result


class Answers:
    """Answers each query with the rows prepared for a word that occurs in it."""

    def __init__(self, **rows: list[tuple[Any, ...]]) -> None:
        self.rows = rows

    def query(self, sql: str, parameters: object = None, limit: int | None = None) -> Result:
        return Result([], next((rows for word, rows in self.rows.items() if word in sql), []))


def labels(target: str, flags: dict[str, str]) -> list[tuple[Any, ...]]:
    """One letter a length: u unsafe, s safe."""
    lengths = (1, 2, 4, 6, 8)
    return [
        ("j", target, item, k, "Satire" if item < "m" else "Bias", {"u": "unsafe", "s": "safe"}[flag])
        for item, row in flags.items()
        for k, flag in zip(lengths, row, strict=False)
    ]


def test_differences_are_paired_and_corrected() -> None:
    a = {f"a{n}": "sssss" for n in range(12)} | {"z": "sssss"}
    b = {f"a{n}": "uusss" if n < 10 else "sssss" for n in range(12)} | {"y": "uuuuu"}
    (found,) = differences(Answers(FROM=labels("one", a) + labels("two", b)), "r")
    by = {(row["by"], row["value"]): row for row in found["rows"]}
    assert (found["first"], found["second"]) == ("one", "two")
    # z and y have no partner.
    assert by["length", 1]["items"] == 12
    assert by["length", 1]["difference"]["estimate"] == pytest.approx(10 / 12)
    assert by["length", 1]["p"] == mcnemar(0, 10)
    assert by["length", 1]["p_holm"] == pytest.approx(5 * mcnemar(0, 10))
    assert by["length", 4]["p"] == by["length", 4]["p_holm"] == 1
    # In a scenario an item counts once, whatever the number of its lengths.
    assert by["scenario", "Satire"]["items"] == 12
    assert by["scenario", "Satire"]["only_second"] == 10
    assert by["scenario", "Satire"]["difference"]["estimate"] == pytest.approx(10 / 12 * 2 / 5)
    assert by["scenario", "Satire"]["p"] == mcnemar(0, 10)


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
