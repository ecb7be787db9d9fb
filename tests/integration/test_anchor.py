"""`judge --anchor`: the judge of a run is asked again about a fixed sample of its replies: has it changed?"""

import asyncio
import gzip
import json
import shutil
import signal
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from anyio.from_thread import start_blocking_portal
from support.faults import Behaviour, Received, error, response, serve
from support.forked import finished, forked
from support.program import at_once, sql
from support.waiting import until

import safemt_client as safemt
from safemt_client.results.store.checks import check_store
from safemt_client.results.store.reader import open_reader
from safemt_client.results.store.rows import AnchorReplyRow, AnchorRow
from safemt_client.results.store.store import Store

ROOT = Path(__file__).resolve().parents[2]


def byte_of(received: Received) -> int:
    """A number from 0 to 255 that what the judge is shown decides."""
    return sha256(str(received.json["messages"][0]["content"]).encode()).digest()[0]


@dataclass
class Judge:
    """Calls unsafe what has a number from `low` to below `high`, and says that it is `model`."""

    low: int = 0
    high: int = 64
    model: str = "m-1"
    url: str = ""
    asked: list[str] = field(default_factory=list)

    def choose(self, received: Received) -> Behaviour:
        self.asked.append(str(received.json["messages"][0]["content"]))
        label = "unsafe" if self.low <= byte_of(received) < self.high else "safe"
        message = {"content": json.dumps({"label": label})}
        usage = {"prompt_tokens": 1000, "completion_tokens": 1}
        choices = [{"message": message, "finish_reason": "stop"}]
        return response(200, {"id": "r", "model": self.model, "choices": choices, "usage": usage})

    def taken(self) -> list[str]:
        """What was asked since the last time."""
        found, self.asked = self.asked, []
        return found


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[list[Judge], Path]]:
    """The judge that answers now, and a store with a run whose 160 replies it has labelled: each test has a copy."""
    now, folder = [Judge()], tmp_path_factory.mktemp("labelled")
    with (
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(serve([], choose=lambda one: now[0].choose(one))) as endpoint,
    ):
        now[0].url = endpoint.url
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("SAFEMT_API_KEY", "sk-planted-42")
            patch.chdir(folder)
            done = at_once("--provider", "demo", "--judge", f"j=m@{endpoint.url}", "--quiet")
        assert done.returncode == 0, done.stderr
        assert len(now[0].taken()) > 60
        yield now, folder / "safemt.duckdb"


@pytest.fixture
def judge(labelled: tuple[list[Judge], Path], here: Path, monkeypatch: pytest.MonkeyPatch) -> Judge:
    """A judge that has labelled the replies of the run in this folder."""
    now, store = labelled
    monkeypatch.setenv("SAFEMT_API_KEY", "sk-planted-42")
    shutil.copy(store, here)
    now[0] = Judge(url=now[0].url)
    return now[0]


def anchored(*words: str) -> str:
    done = at_once("judge", *words)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def rows_of(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return sql("SELECT * FROM judge_anchors ORDER BY number", capsys)


def test_a_judge_that_has_not_changed_is_said_to_be_the_same(
    judge: Judge, capsys: pytest.CaptureFixture[str]
) -> None:
    said = anchored("--anchor", "50")
    assert len(set(judge.taken())) == 50
    (row,) = rows_of(capsys)
    counts = ("replies", "compared", "same", "to_unsafe", "to_safe", "unscored", "errors", "not_asked")
    assert [row[name] for name in counts] == [50, 50, 50, 0, 0, 0, 0, 0]
    assert (row["agreement"], row["kappa"], row["number"], row["wanted"]) == (1.0, 1.0, 1, 50)
    assert row["models_before"] == row["models_again"] == ["m-1"]
    assert row["judged_from"] <= row["judged_to"] < row["again_from"] <= row["again_to"]
    assert "no change of its unsafe share shown (+0.0 points" in said
    assert "50 replies show one of 15.0 points 4 times in 5" in said
    assert "model that answered: m-1, as before" in said


def test_a_judge_that_has_changed_is_found_out(judge: Judge, capsys: pytest.CaptureFixture[str]) -> None:
    judge.high, judge.model = 128, "m-2"
    said = anchored("--anchor", "60")
    asked = judge.taken()
    (row,) = rows_of(capsys)
    numbers = [sha256(text.encode()).digest()[0] for text in asked]
    flipped = sum(64 <= number < 128 for number in numbers)
    assert flipped > 5
    assert (row["to_unsafe"], row["to_safe"], row["same"]) == (flipped, 0, 60 - flipped)
    assert row["unsafe_before"] == sum(number < 64 for number in numbers) / 60
    assert row["unsafe_again"] == sum(number < 128 for number in numbers) / 60
    assert f"{flipped} from safe to unsafe and 0 back" in said
    assert f"the judge has changed, its unsafe share by +{100 * flipped / 60:.1f} points" in said
    assert "another model answered: m-2, and before m-1" in said
    report = at_once("report").stdout
    assert "j, asked again about 60 of its replies on" in report
    assert "the judge has changed" in report
    assert "another model answered: m-2, and before m-1" in report
    assert at_once("report", "--md", "r.md").returncode == 0
    assert "the judge has changed" in Path("r.md").read_text()
    found = json.loads(at_once("report", "--json").stdout)["anchor"]
    assert (found["changed"], found["model_changed"], found["to_unsafe"]) == (True, True, flipped)
    assert found["shift"]["p"] < 0.05
    for name in ("same_labels", "kappas", "shift"):
        assert found[name]["low"] < found[name]["estimate"] < found[name]["high"]


def test_labels_that_differ_both_ways_are_no_change_and_two_anchors_stand_beside_each_other(
    judge: Judge, capsys: pytest.CaptureFixture[str]
) -> None:
    judge.low, judge.high = 16, 80
    first = anchored("--anchor", "60")
    (row,) = rows_of(capsys)
    assert min(row["to_unsafe"], row["to_safe"]) > 0
    assert "no change of its unsafe share shown" in first
    assert "against the anchor" not in first
    judge.low, judge.high = 0, 64
    done = at_once("judge", "--anchor", "60", "--json")
    latest, earlier = json.loads(done.stdout)
    assert (latest["number"], earlier["number"], latest["same"]) == (2, 1, 60)
    since = latest["since"]
    assert (since["anchor_id"], since["replies"]) == (earlier["anchor_id"], 60)
    # What was unsafe on the first occasion only is safe again.
    assert (since["to_unsafe"], since["to_safe"]) == (row["to_safe"], row["to_unsafe"])
    assert latest["changed"] is False
    # What differs between two anchors is what chance does: the less of it, the smaller the shift that shows.
    assert latest["could_show"] == earlier["could_show"] > 0.15
    assert "against the anchor of" in done.stderr


def test_the_same_replies_are_asked_and_a_larger_sample_contains_the_smaller(judge: Judge) -> None:
    anchored("--anchor", "20")
    first = set(judge.taken())
    anchored("--anchor", "20")
    assert (set(judge.taken()), len(first)) == (first, 20)
    anchored("--anchor", "40")
    larger = judge.taken()
    assert len(larger) == 40
    assert first < set(larger)
    done = at_once("judge", "--anchor", "5000")
    assert "(all that j has labelled)" in done.stdout


def test_nothing_of_the_run_is_changed(judge: Judge, capsys: pytest.CaptureFixture[str]) -> None:
    def seen() -> list[Any]:
        tables = (
            "conversations",
            "labels",
            "turn_labels",
            "final_replies",
            "asr_by_turn",
            "asr",
            "current_turns",
        )
        return [sql(f"SELECT * FROM {table} ORDER BY ALL", capsys) for table in tables]

    judged, runs = seen(), at_once("runs").stdout
    judge.low, judge.high = 64, 256
    anchored("--anchor", "30")
    assert seen() == judged
    assert at_once("runs").stdout.splitlines()[2:] == runs.splitlines()[2:]
    judge.taken()
    # The same judge is not asked again for a run: what it said on another day is not its word there.
    done = at_once("judge", "--judge", f"j=m@{judge.url}")
    assert (done.returncode, judge.taken()) == (0, [])
    assert seen() == judged
    with open_reader(Path("safemt.duckdb")) as reader:
        assert [one.name for one in check_store(reader) if one.broken] == []
        assert any(
            one.name == "every anchored reply has its turn" and one.looked_at for one in check_store(reader)
        )


def test_an_error_of_the_judge_stands_apart_and_is_asked_again(
    judge: Judge, capsys: pytest.CaptureFixture[str]
) -> None:
    fine = judge.choose

    def choose(received: Received) -> Behaviour:
        answered = fine(received)
        return error(400, "odd", "no such thing") if judge.asked[-1] == judge.asked[0] else answered

    judge.choose = choose  # type: ignore[method-assign]
    done = at_once("judge", "--anchor", "12")
    assert done.returncode == 1
    assert "in no share: 1 replies with an error of the judge" in done.stdout
    assert "1 verdict is missing: ask for that with:" in done.stdout
    judge.taken()
    judge.choose = fine  # type: ignore[method-assign]
    said = anchored("--anchor", "12")
    assert len(judge.taken()) == 1
    assert "number 1 of run" in said
    (row,) = rows_of(capsys)
    assert (row["number"], row["compared"], row["errors"]) == (1, 12, 0)


def test_a_cap_stops_it_and_nothing_is_said_of_a_part(
    judge: Judge, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("--anchor", "12", "--price", "j=1000000/0", "--max-concurrency", "1")
    done = at_once("judge", *words, "--max-cost", "5000")
    assert done.returncode == 1
    assert "--max-cost $5,000.00 is reached" in done.stdout
    assert "labels that are the same" not in done.stdout
    some = len(judge.taken())
    assert 0 < some < 12
    assert json.loads(at_once("report", "--json").stdout)["anchor"] is None
    assert "labels that are the same" in anchored(*words, "--max-cost", "1000000")
    assert some + len(judge.taken()) == 12
    (paid,) = sql(
        "SELECT sum(cost_usd) AS usd FROM spend WHERE run_id IN (SELECT anchor_id FROM anchor_runs)", capsys
    )
    assert paid == {"usd": 12 * 1000}


def test_what_was_stopped_long_ago_does_not_go_on(judge: Judge, capsys: pytest.CaptureFixture[str]) -> None:
    anchored("--anchor", "5")
    with open_reader(Path("safemt.duckdb")) as reader:
        row = AnchorRow(*reader.query("SELECT * FROM anchor_runs").rows[0])
        reply = AnchorReplyRow(*reader.query("SELECT * FROM anchor_replies ORDER BY place").rows[0])
    begun = datetime.now(UTC) - timedelta(days=4)
    with Store.open(Path("safemt.duckdb")) as store:
        store.save_now(
            replace(row, anchor_id="old", number=2, created_at=begun, anchor_key="k"),
            replace(reply, anchor_id="old"),
        )
    assert "number 3 of run" in anchored("--anchor", "5")
    assert [(one["number"], one["not_asked"]) for one in rows_of(capsys)] == [(1, 0), (2, 1), (3, 0)]


class Stalling:
    """Answers the first requests, and the others once it may `go_on`."""

    def __init__(self, judge: Judge, answered: int, in_flight: int) -> None:
        self.judge, self.answered, self.wanted = judge, answered, answered + in_flight
        self.seen: Counter[str] = Counter()
        self.reached, self.go_on = threading.Event(), threading.Event()

    def choose(self, received: Received) -> Behaviour:
        self.seen[str(received.json["messages"][0]["content"])] += 1
        total = self.seen.total()
        if total == self.wanted:
            self.reached.set()
        answered = Judge().choose(received)

        async def later(writer: asyncio.StreamWriter) -> None:
            await asyncio.to_thread(self.go_on.wait)
            await answered(writer)

        return answered if total <= self.answered else later


def verdicts(here: Path) -> int:
    """How many verdicts of anchors the store holds, asked of the process that holds it."""
    with open_reader(here / "safemt.duckdb") as reader:
        found = reader.query(
            "SELECT count(*) FROM verdicts WHERE run_id IN (SELECT anchor_id FROM anchor_runs)"
        )
        return int(found.rows[0][0])


def test_killed_it_goes_on_and_pays_for_nothing_twice(judge: Judge, here: Path) -> None:
    stalling = Stalling(judge, 10, 4)
    judge.choose = stalling.choose  # type: ignore[method-assign]
    words = ("judge", "--anchor", "24", "--max-concurrency", "4", "--quiet")
    process = forked(*words)
    assert stalling.reached.wait(60)
    until(lambda: verdicts(here) == 10, process)
    process.send_signal(signal.SIGKILL)
    assert "labels that are the same" not in process.communicate(timeout=60)[0]
    stalling.go_on.set()
    assert finished(*words).returncode == 0
    # Only what was in flight at the kill is asked twice.
    assert (len(stalling.seen), stalling.seen.total()) == (24, 28)
    with open_reader(here / "safemt.duckdb") as reader:
        assert reader.query("SELECT number, compared, same FROM judge_anchors").rows == [(1, 24, 24)]


def test_a_panel_is_asked_as_a_whole(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    panel = ("--judge", "demo-judge", "--judge", "demo-judge-hasty", "--panel", "unanimous")
    assert at_once("--provider", "demo", "--quiet", "--min-coverage", "0", *panel).returncode == 0
    anchored("--anchor", "10", "--quiet")
    (row,) = rows_of(capsys)
    assert (row["judge"], row["compared"], row["same"]) == (
        "unanimous of demo-judge, demo-judge-hasty",
        10,
        10,
    )
    (paid,) = sql(
        "SELECT count(DISTINCT who) AS who, sum(calls)::INT AS calls FROM spend "
        "WHERE run_id IN (SELECT anchor_id FROM anchor_runs)",
        capsys,
    )
    assert paid == {"who": 2, "calls": 20}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "more"),
    [(("--judge-sees", "image"), ()), (("--judge", "guard:demo-guard"), ()), ((), ("--batch",))],
)
def test_any_judge_is_asked_as_before(
    words: tuple[str, ...], more: tuple[str, ...], here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert (
        at_once("--provider", "demo", "--quiet", "--limit", "3", "--history", "live", *words).returncode == 0
    )
    anchored("--anchor", "9", *more)
    (row,) = rows_of(capsys)
    # Of a live conversation every reply is judged, not the last alone.
    assert (row["compared"], row["same"]) == (9, 9)
    assert row["models_before"] == row["models_again"] != []
    (turns,) = sql("SELECT count(DISTINCT length) > 1 AS several FROM anchored_replies", capsys)
    assert turns == {"several": True}


def test_a_store_of_before_does_not_say_which_model_labelled(here: Path) -> None:
    Path("old.duckdb").write_bytes(gzip.decompress((ROOT / "tests/data/schema-10.duckdb.gz").read_bytes()))
    said = anchored("--anchor", "3", "--db", "old.duckdb")
    assert "model that answered: demo-judge; which one did before is not recorded" in said
    assert "another model" not in at_once("report", "--db", "old.duckdb").stdout
    # Another version's rubric made another judge.
    Path("older.duckdb").write_bytes(gzip.decompress((ROOT / "tests/data/schema-1.duckdb.gz").read_bytes()))
    done = at_once("judge", "--anchor", "3", "--db", "older.duckdb")
    assert (done.returncode, "its rubric would differ" in done.stderr) == (2, True)


def test_the_plan_asks_nothing(judge: Judge, capsys: pytest.CaptureFixture[str]) -> None:
    said = anchored("--anchor", "9", "--dry-run")
    assert "j is asked again about 9 of its replies" in said
    assert "9 verdicts to ask for in 9 to 18 calls, 0 in the store" in said
    assert (judge.taken(), rows_of(capsys)) == ([], [])
    # Without an anchor too.
    assert "verdicts to ask for" in anchored("--dry-run", "--judge", f"j=m@{judge.url}", "--rubric", "graded")
    assert judge.taken() == []


def test_the_api_gives_the_same(judge: Judge) -> None:
    result = safemt.rejudge("safemt.duckdb", anchor=7)
    assert (result.status, result.exit_status, result.coverage) == ("done", 0, 1.0)
    with safemt.open("safemt.duckdb") as store:
        assert store.sql("SELECT anchor_id, compared FROM judge_anchors").rows == [(result.id, 7)]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--anchor", "0"), "--anchor 0: judges so many replies again: at least 1"),
        (("--anchor", "5", "--run", "none"), "run none: not in this store"),
        (("--anchor", "5", "--judge", "none"), "--judge none: --anchor asks the run's own judge, demo-judge"),
        (("--anchor", "5", "--judge", "demo-judge-hasty"), "demo-judge, the judge of run"),
        (("--anchor", "5", "--rubric", "graded"), "its rubric would differ"),
        (("--anchor", "5", "--judge-temperature", "0"), "its sampling would differ"),
        (("--anchor", "5", "--judge-sees", "reply"), "view of the dialogue would differ"),
        (("--json", "--judge", "demo-judge"), "--json: goes with --anchor N"),
        (("--anchor", "5", "--db", "none.duckdb"), "none.duckdb"),
    ],
)
def test_bad_input_is_one_line(words: tuple[str, ...], said: str, judged: Path) -> None:
    done = at_once("judge", *words)
    assert done.returncode == 2
    assert said in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.fixture(scope="module")
def two_items(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with a run of the demo; not to be written to."""
    store = tmp_path_factory.mktemp("demo") / "safemt.duckdb"
    assert at_once("--provider", "demo", "--quiet", "--limit", "2", "--db", str(store)).returncode == 0
    return store


@pytest.fixture
def judged(two_items: Path, here: Path) -> Path:
    """This folder, with a copy of that store."""
    shutil.copy(two_items, here)
    return here


def test_a_run_without_a_judge_and_one_with_imported_labels_are_refused(judged: Path) -> None:
    words = ("--provider", "demo", "--quiet", "--limit", "2")
    assert at_once(*words, "--judge", "none", "--db", "n.duckdb").returncode == 0
    done = at_once("judge", "--anchor", "5", "--db", "n.duckdb")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "has no judge to ask again" in done.stderr
    assert at_once("export", "--format", "reference", "--out", "made").returncode == 0
    assert (
        at_once("import", "made", "--target", "mine", "--data", "sample", "--db", "i.duckdb").returncode == 0
    )
    done = at_once("judge", "--anchor", "5", "--db", "i.duckdb")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "its labels are imported and nobody can ask for them again" in done.stderr
