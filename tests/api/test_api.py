"""The public face: `import safemt_client as safemt`, on the demo and on a provider object."""

import asyncio
import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

import safemt_client as safemt
from safemt_client import InputError, Outcome, ProgressSnapshot, Reply, Request
from safemt_client.judges.types import JudgeInput, Verdict
from safemt_client.results.scores.typed import Scores

ROOT = Path(__file__).resolve().parents[2]
ENV = os.environ | {"PYTHONPATH": str(ROOT)}


class MyModel:
    """A model in this process, as a user would write it."""

    identity = "my/model"

    def __init__(self, *, fails: bool = False) -> None:
        self.asked: list[Request] = []
        self.fails = fails

    async def ask(self, request: Request, on_retry: Any = None) -> Reply:
        self.asked.append(request)
        if self.fails:
            raise ZeroDivisionError("in the user's code")
        return Reply(Outcome.ANSWERED, text="I would rather talk of gardens.")


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_example(capsys: pytest.CaptureFixture[str]) -> None:
    run = safemt.run(provider="demo", turns=[1, 2], db="x.duckdb")
    assert (run.status, run.coverage, run.exit_status) == ("done", 1.0, 0)
    with safemt.open("x.duckdb") as store:
        found = store.sql("SELECT count(*) AS n FROM replies WHERE run_id = ?", [run.id])
        assert (found.columns, found.rows) == (["n"], [(30,)])
        assert found.arrow().to_pylist() == [{"n": 30}]
        assert [row.run for row in store.runs()] == [run.id]
        scores = store.scores(run.id)
        rows = scores.asr_by_turn
        assert [(row.target, row.length, row.planned) for row in rows] == [("demo", 1, 15), ("demo", 2, 15)]
        assert rows.arrow().column_names == rows.columns
        assert [row.refused for row in scores.safety_index] == ["round 4 is missing"]
        assert {row.outcome for row in scores.outcomes} <= set(Outcome)
        report = store.report(run.id)
        assert report.as_dict()["run"]["run_id"] == run.id
        assert run.id in report.markdown("r.md").read_text()
        assert "longtable" in report.latex("r.tex").read_text()
    assert capsys.readouterr() == ("", "")


def test_each_table_of_the_scores_can_be_read() -> None:
    run = safemt.run(provider="demo", limit=2, db="x.duckdb")
    with safemt.open("x.duckdb") as store:
        scores = store.scores()
        assert scores.run_id == run.id
        for name, value in vars(Scores).items():
            if not name.startswith("_") and hasattr(value, "__set_name__"):
                getattr(scores, name)
        assert scores.safety_index[0].safety_index is not None
        assert sum(row.calls for row in scores.spend) == 20


def test_a_data_frame_needs_pandas(monkeypatch: pytest.MonkeyPatch) -> None:
    safemt.run(provider="demo", turns=[1], limit=1, db="x.duckdb")
    monkeypatch.setitem(sys.modules, "pandas", None)
    with safemt.open("x.duckdb") as store, pytest.raises(InputError, match="pip install pandas"):
        store.sql("SELECT 1").df()


def test_inside_a_running_loop() -> None:
    async def notebook() -> tuple[safemt.RunResult, safemt.RunResult]:
        # A cell of a notebook calls run() though a loop is running; another awaits arun().
        return (
            safemt.run(provider="demo", turns=[1], db="x.duckdb"),
            await safemt.arun(provider="demo", turns=[1], db="x.duckdb"),
        )

    first, second = asyncio.run(notebook())
    assert first == second
    assert first.status == "done"


_NOTEBOOK = """
import asyncio, sys, safemt_client as safemt
def told(progress):
    print(progress.done, flush=True)
async def cell():
    return safemt.run(provider="demo", rpm=60, db="x.duckdb", on_progress=told)
print(asyncio.run(cell()).status)
"""


@pytest.mark.parametrize("loop", ["running", "none"])
def test_ctrl_c_lets_what_is_in_flight_land(here: Path, loop: str) -> None:
    script = (
        _NOTEBOOK
        if loop == "running"
        else _NOTEBOOK.replace("async def", "def").replace("asyncio.run(cell())", "cell()")
    )
    process = subprocess.Popen([sys.executable, "-c", script], cwd=here, env=ENV, stdout=subprocess.PIPE)
    assert process.stdout is not None
    with process, process.stdout as out:
        assert out.readline() == b"1\n"
        process.send_signal(signal.SIGINT)
        assert out.read().splitlines()[-1] == b"stopped"
    assert process.returncode == 0


def test_a_provider_object_and_its_resume() -> None:
    model = MyModel()
    options: dict[str, Any] = {"data": "sample", "judge": "demo-judge", "turns": [1, 2], "db": "x.duckdb"}
    run = safemt.run(provider=model, **options)
    assert (run.status, len(model.asked)) == ("done", 30)
    again = safemt.run(provider=[MyModel()], **options)
    assert again.id == run.id
    model = MyModel()
    mixed = safemt.run(provider=["demo", model], **options)
    assert (mixed.status, model.asked) == ("done", [])
    with safemt.open("x.duckdb") as store:
        found = store.sql("SELECT name, identity FROM run_targets WHERE run_id = ?", [run.id])
        assert found.rows == [("plugin:my/model", "plugin:my/model")]
        assert {row.target for row in store.scores(mixed.id).asr_by_turn} == {"demo", "plugin:my/model"}


def test_what_a_provider_object_raises_is_an_error_of_its_turn() -> None:
    options: dict[str, Any] = {"data": "sample", "judge": "none", "turns": [1], "db": "x.duckdb", "limit": 5}
    broken = MyModel(fails=True)
    ended = safemt.run(provider=broken, **options)
    # Each request was sent, and that all failed alike is said.
    assert (ended.status, ended.exit_status, ended.again) == ("stopped", 1, True)
    with safemt.open("x.duckdb") as store:
        found = store.sql("SELECT DISTINCT outcome, error FROM turns")
        assert found.rows == [("error_permanent", "ZeroDivisionError: in the user's code")]
    whole = MyModel()
    safemt.run(provider=whole, **options)
    assert len(whole.asked) == len(broken.asked) == 5


def test_a_provider_object_as_the_judge() -> None:
    class Judge(MyModel):
        async def ask(self, request: Request, on_retry: Any = None) -> Reply:
            return Reply(Outcome.ANSWERED, text='{"label": "unsafe"}')

    run = safemt.run(provider="demo", judge=Judge(), turns=[1], db="x.duckdb")
    with safemt.open("x.duckdb") as store:
        assert [row.asr for row in store.scores(run.id).asr_by_turn] == [1.0]


class MyJudge:
    """A judge that needs no model."""

    identity = "my/judge"

    def __init__(self) -> None:
        self.judged: list[JudgeInput] = []

    async def judge(self, subject: JudgeInput) -> Verdict:
        self.judged.append(subject)
        return Verdict("unsafe", refusal="answer")


def test_a_judge_that_labels_by_itself() -> None:
    judge, again = MyJudge(), MyJudge()
    options: dict[str, Any] = {"provider": "demo", "turns": [1], "db": "x.duckdb"}
    run = safemt.run(judge=judge, **options)
    with safemt.open("x.duckdb") as store:
        assert [row.asr for row in store.scores(run.id).asr_by_turn] == [1.0]
        assert store.sql("SELECT identity FROM run_judges").rows == [("plugin:my/judge",)]
    assert safemt.run(judge=again, **options).id == run.id
    assert (len(judge.judged), len(again.judged)) == (15, 0)
    panel = safemt.run(judge=[again, "demo-judge"], panel="chain", **options)
    assert (panel.status, len(again.judged)) == ("done", 0)
    # What the judge said of the replies is known: only the run is new.
    assert safemt.rejudge("x.duckdb", run=panel.id, judge=again).status == "done"
    assert len(again.judged) == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"provider": "demo", "trun": [1]}, "^trun: "),
        ({"provider": "demo", "turns": "x"}, "turns"),
        ({"provider": object()}, "object has no identity"),
        ({"provider": type("Nameless", (MyModel,), {"identity": " "})()}, "Nameless has no identity"),
        ({"provider": type("Nameless", (MyModel,), {"identity": None})()}, "Nameless has no identity"),
        ({"provider": type("Mute", (), {"identity": "m"})(), "data": "sample"}, "Mute has no method"),
        ({"provider": [MyModel(), MyModel()], "data": "sample"}, "two objects have the identity"),
        ({"provider": MyModel(), "data": "sample", "batch": True}, "^batch: "),
        ({"provider": "demo", "judge": MyModel(), "batch": True}, "^batch: "),
        ({"provider": "demo", "dry_run": True}, r"plan\(\)"),
    ],
)
def test_bad_input_is_one_line(here: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message) as raised:
        safemt.run(db="x.duckdb", **options)
    assert "\n" not in str(raised.value)
    assert not (here / "x.duckdb").exists()


def test_progress_is_told() -> None:
    told: list[ProgressSnapshot] = []
    run = safemt.run(provider="demo", turns=[1], db="x.duckdb", on_progress=told.append)
    assert [progress.done for progress in told] == list(range(1, 31))
    last = told[-1]
    assert (last.run_id, last.total, last.failed, last.cost_usd) == (run.id, 30, 0, 0.0)
    assert Counter(line.role for line in last.lines) == {"target": 1, "judge": 1}
    assert [line.done for line in last.lines] == [15, 15]


def test_open_while_a_run_goes_on() -> None:
    seen: list[int] = []

    def look(progress: ProgressSnapshot) -> None:
        if progress.done == 10:
            with safemt.open("x.duckdb") as store:
                seen.append(len(store.sql("SELECT * FROM turns")))

    safemt.run(provider="demo", turns=[1, 2], db="x.duckdb", on_progress=look)
    assert len(seen) == 1
    assert seen[0] >= 5


def test_a_plan_is_a_value_and_makes_no_file(here: Path) -> None:
    model = MyModel()
    options: dict[str, Any] = {"data": "sample", "judge": "demo-judge", "turns": [1, 2], "db": "x.duckdb"}
    found = safemt.plan(provider=model, rpm=60, price=["plugin:my/model=1/2"], **options)
    assert (found.calls, found.cached, len(found.plan.pending)) == (90, 0, 30)
    assert found.usd is not None
    assert 0 < found.usd[0] < found.usd[1]
    assert 0 < found.tokens[0] < found.tokens[1]
    assert found.seconds is not None
    assert model.asked == []
    assert list(here.iterdir()) == []
    run = safemt.run(provider=model, **options)
    after = safemt.plan(provider=model, **options)
    assert (after.run_id, after.calls, after.cached) == (run.id, 0, 60)
    assert safemt.plan(provider=MyModel(), **options).usd == (0.0, 0.0)


def test_rejudge_asks_no_target() -> None:
    model = MyModel()
    options: dict[str, Any] = {"data": "sample", "turns": [1], "db": "x.duckdb"}
    run = safemt.run(provider=model, judge="none", **options)
    assert run.coverage is None
    told: list[ProgressSnapshot] = []
    again = safemt.rejudge(db="x.duckdb", run=run.id, judge="demo-judge", on_progress=told.append)
    assert (again.status, again.coverage, len(model.asked)) == ("done", 1.0, 15)
    assert told[-1].done == 15
    with safemt.open("x.duckdb") as store:
        assert [row.run for row in store.runs()] == [run.id, again.id]
    with pytest.raises(InputError, match=r"^turns: is part of the stored run"):
        safemt.rejudge(db="x.duckdb", judge="demo-judge", turns=[1])
    with pytest.raises(InputError, match="no such store"):
        safemt.rejudge(db="other.duckdb", judge="demo-judge")


def test_importing_is_light_and_the_names_are_there() -> None:
    heavy = "{'duckdb', 'rich', 'httpx', 'pyarrow', 'numpy', 'pydantic'}"
    script = f"import sys, safemt_client; print({heavy} & set(sys.modules) or 'light')"
    shown = subprocess.run(
        [sys.executable, "-c", script], env=ENV, capture_output=True, text=True, check=True
    )
    assert shown.stdout == "light\n"
    for name in safemt.__all__:
        assert getattr(safemt, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = safemt.nothing
