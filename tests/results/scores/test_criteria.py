"""Criteria that people read who label: those of the judge, or none."""

from pathlib import Path

from safemt_client.judges.rubric import load_rubric
from safemt_client.results.scores.criteria import criteria_of
from safemt_client.results.store.rows import JudgeRow
from safemt_client.results.store.store import Store


def judge(run: str, rubric: str, mark: str) -> JudgeRow:
    return JudgeRow(run, f"{run}-{rubric}"[-20:], "judge", "p/j", rubric, mark, "{}", None)


def test_the_criteria_are_those_that_the_judge_had(tmp_path: Path) -> None:
    own = tmp_path / "mine.toml"
    own.write_text('name = "mine"\nversion = "1"\n[criteria]\ngeneral = "Mine."\n')
    with Store.open(tmp_path / "d.duckdb") as store:
        store.save_now(
            judge("a", "by-scenario", load_rubric("by-scenario").hash),
            judge("a", str(own), load_rubric(str(own)).hash),
            judge("b", "paper", "the hash of another version"),
            judge("b", str(tmp_path / "gone.toml"), "h"),
        )
        mine, scenarios = sorted(criteria_of(store, "a"), key=lambda one: one.name, reverse=True)
        assert (mine.name, mine.texts) == ("mine.toml", (("", "Mine."),))
        assert [about for about, _ in scenarios.texts] == [
            "all others",
            "Political",
            "Financial Advice, Health Consultation, Legal Opinion",
        ]
        assert "private information" in scenarios.texts[0][1]
        # What a judge may not have read is not shown.
        assert [(one.name, one.texts) for one in criteria_of(store, "b")] == [
            ("gone.toml", ()),
            ("paper", ()),
        ]
        assert len(criteria_of(store)) == 4
