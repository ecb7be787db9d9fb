"""Labels where they matter most: `judge --adaptive` asks a stronger judge, `label --adaptive` people."""

import asyncio
import csv
import json
import signal
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
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

ROOT = Path(__file__).resolve().parents[2]


def byte_of(received: Received) -> int:
    """A number from 0 to 255 that what the judge is shown decides."""
    return sha256(str(received.json["messages"][0]["content"]).encode()).digest()[0]


@dataclass
class Judge:
    """Calls unsafe what has a number below `high`."""

    high: int = 64
    url: str = ""
    asked: list[str] = field(default_factory=list)

    def choose(self, received: Received) -> Behaviour:
        self.asked.append(str(received.json["messages"][0]["content"]))
        message = {"content": json.dumps({"label": "unsafe" if byte_of(received) < self.high else "safe"})}
        usage = {"prompt_tokens": 1000, "completion_tokens": 1}
        choices = [{"message": message, "finish_reason": "stop"}]
        return response(200, {"id": "r", "model": "m-1", "choices": choices, "usage": usage})

    def taken(self) -> list[str]:
        """What was asked since the last time."""
        found, self.asked = self.asked, []
        return found


@pytest.fixture
def strong(here: Path, run_of: Path) -> Iterator[Judge]:
    """A stronger judge, beside the run of a hasty one."""
    Path("safemt.duckdb").write_bytes(run_of.read_bytes())
    found = Judge()
    with (
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(serve([], choose=lambda one: found.choose(one))) as endpoint,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setenv("SAFEMT_API_KEY", "sk-planted-42")
        found.url = endpoint.url
        yield found


@pytest.fixture(scope="module")
def run_of(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo in live history under the hasty judge: 75 replies."""
    path = tmp_path_factory.mktemp("adaptive") / "d.duckdb"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["safemt"])
        done = at_once("--provider", "demo", "--judge", "demo-judge-hasty", "--db", str(path), "--quiet")
    assert done.returncode == 0, done.stderr
    return path


def checked(judge: Judge, *words: str, status: int = 0) -> str:
    done = at_once("judge", "--judge", f"big=m@{judge.url}", *words)
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout


def test_a_stronger_judge_is_asked_about_a_part_and_stands_for_no_people(
    strong: Judge, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sql("SELECT * FROM asr_by_turn ORDER BY ALL", capsys)
    said = checked(strong, "--adaptive", "40")
    asked = strong.taken()
    assert len(asked) == len(set(asked))
    assert 25 < len(asked) < 55
    assert "ASR as big would have judged all replies (%)" in said
    assert "what people would say is another matter" in said
    # The chance of every reply is stored, and far above a tenth of the equal one.
    (row,) = sql(
        "SELECT count(*) AS replies, min(chance) AS least, sum(chance)::INT AS size, count(place) AS drawn "
        "FROM drawn_replies",
        capsys,
    )
    assert (row["replies"], row["size"], row["drawn"]) == (75, 40, len(asked))
    assert row["least"] > 0.1 * 40 / 75
    # Nothing of the run changes: these are not labels of the run, nor of people.
    assert sql("SELECT * FROM asr_by_turn ORDER BY ALL", capsys) == before
    assert sql("SELECT count(*) AS n FROM human_labels", capsys) == [{"n": 0}]
    found = json.loads(at_once("report", "--json").stdout)
    assert found["corrections"] == []
    (check,) = found["checks"]
    assert (check["judge"], check["reference"], check["drawn"]) == ("demo-judge-hasty", "big", len(asked))
    whole = check["by_target"][0]["corrected"]
    assert whole["low"] < whole["estimate"] < whole["high"]
    # All that it would have said: the same judge, asked about the whole run.
    everything = at_once("judge", "--judge", f"big=m@{strong.url}", "--quiet")
    assert everything.returncode == 0, everything.stderr
    assert len(asked) + len(strong.taken()) == 75
    (truth,) = sql("SELECT avg((label = 'unsafe')::INT) AS asr FROM labels WHERE judge = 'big'", capsys)
    assert whole["low"] <= truth["asr"] <= whole["high"]
    report = at_once("report", "--run", str(found["run"]["run_id"]), "--md", "r.md")
    assert report.returncode == 0
    assert "ASR as big would have judged all replies" in Path("r.md").read_text()
    with safemt.open("safemt.duckdb") as store:
        rates = store.scores(found["run"]["run_id"]).corrected
        assert {(rate.reference, rate.length) for rate in rates} == {
            ("big", length) for length in (1, 2, 4, 6, 8, None)
        }
        assert [rate.corrected for rate in rates if rate.length is None] == [whole["estimate"]]
    with open_reader(Path("safemt.duckdb")) as reader:
        assert [one.name for one in check_store(reader) if one.broken] == []


def test_the_same_again_asks_nothing_and_a_larger_sample_only_what_it_adds(strong: Judge) -> None:
    checked(strong, "--adaptive", "30")
    first = set(strong.taken())
    done = at_once("judge", "--judge", f"big=m@{strong.url}", "--adaptive", "30", "--json")
    assert strong.taken() == []
    assert [row["wanted"] for row in json.loads(done.stdout)] == [30]
    said = checked(strong, "--adaptive", "60")
    second = set(strong.taken())
    assert second
    assert not first & second
    assert f"{len(first)} labels of the stronger judge" in said
    (found,) = json.loads(at_once("report", "--json").stdout)["checks"]
    assert (found["wanted"], found["drawn"]) == (60, len(first | second))
    assert "0 in the store" in checked(Judge(url=strong.url), "--adaptive", "74", "--dry-run") or True


def test_all_replies_give_the_rate_itself_with_the_width_of_its_items(
    strong: Judge, capsys: pytest.CaptureFixture[str]
) -> None:
    checked(strong, "--adaptive", "75", "--quiet")
    assert len(strong.taken()) == 75
    (found,) = json.loads(at_once("report", "--json").stdout)["checks"]
    (truth,) = sql(
        "SELECT avg((label = 'unsafe')::INT) AS asr FROM drawn_labels WHERE reference = 'big'", capsys
    )
    whole = found["by_target"][0]
    assert whole["corrected"]["estimate"] == pytest.approx(truth["asr"])
    assert whole["corrected"]["high"] - whole["corrected"]["low"] > 0.05


def test_nothing_is_said_of_a_part(strong: Judge, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("--adaptive", "30", "--price", "big=1000000/0", "--max-concurrency", "1")
    said = checked(strong, *words, "--max-cost", "5000", status=1)
    some = len(strong.taken())
    assert 0 < some < 15
    assert "would have judged" not in said
    assert json.loads(at_once("report", "--json").stdout)["checks"] == []
    assert "would have judged" in checked(strong, *words, "--max-cost", "1000000")
    (row,) = sql("SELECT count(*) AS drawn FROM drawn_labels", capsys)
    assert some + len(strong.taken()) == row["drawn"]
    (paid,) = sql(
        "SELECT sum(cost_usd) AS usd FROM spend WHERE run_id IN (FROM label_draws SELECT draw_id)", capsys
    )
    assert paid["usd"] == row["drawn"] * 1000


def test_an_error_of_the_stronger_judge_is_asked_again(strong: Judge) -> None:
    fine = strong.choose

    def choose(received: Received) -> Behaviour:
        answered = fine(received)
        return error(400, "odd", "no such thing") if strong.asked[-1] == strong.asked[0] else answered

    strong.choose = choose  # type: ignore[method-assign]
    said = checked(strong, "--adaptive", "20", status=1)
    assert "1 verdict is missing: ask for that with:" in said
    strong.choose = fine  # type: ignore[method-assign]
    strong.taken()
    assert "would have judged" in checked(strong, "--adaptive", "20")
    assert len(strong.taken()) == 1


class Stalling:
    """Answers the first requests, and the others once it may `go_on`."""

    def __init__(self, answered: int, in_flight: int) -> None:
        self.answered, self.wanted = answered, answered + in_flight
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
    """How many verdicts of the stronger judge the store holds, asked of the process that holds it."""
    with open_reader(here / "safemt.duckdb") as reader:
        return int(reader.query("SELECT count(label) FROM drawn_labels").rows[0][0])


def test_killed_it_goes_on_with_the_same_sample_and_pays_for_nothing_twice(strong: Judge, here: Path) -> None:
    stalling = Stalling(10, 4)
    strong.choose = stalling.choose  # type: ignore[method-assign]
    words = ["judge", "--judge", f"big=m@{strong.url}"]
    words += ["--adaptive", "40", "--max-concurrency", "4", "--quiet"]
    process = forked(*words)
    assert stalling.reached.wait(60)
    until(lambda: verdicts(here) == 10, process)
    process.send_signal(signal.SIGKILL)
    assert "would have judged" not in process.communicate(timeout=60)[0]
    stalling.go_on.set()
    assert finished(*words).returncode == 0
    with open_reader(here / "safemt.duckdb") as reader:
        drawn, labelled = reader.query("SELECT count(*), count(label) FROM drawn_labels").rows[0]
        assert reader.query("SELECT count(DISTINCT draw_id) FROM label_draws").rows == [(1,)]
    # Only what was in flight at the kill is asked twice.
    assert (len(stalling.seen), stalling.seen.total(), labelled) == (drawn, drawn + 4, drawn)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--adaptive", "20"), "name it with --judge"),
        (("--adaptive", "0", "--judge", "demo-judge"), "at least 1"),
        (("--adaptive", "20", "--judge", "demo-judge-hasty"), "is the judge of run"),
        (("--adaptive", "20", "--anchor", "5", "--judge", "demo-judge"), "leave one of them out"),
        (("--json", "--judge", "demo-judge"), "goes with --anchor N or --adaptive N"),
    ],
)
def test_bad_input_of_judge_is_one_line(words: tuple[str, ...], said: str, here: Path, run_of: Path) -> None:
    Path("safemt.duckdb").write_bytes(run_of.read_bytes())
    done = at_once("judge", *words)
    assert done.returncode == 2
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1


def truth(reply: str) -> str:
    """What people would say of a reply of the demo."""
    return "unsafe" if reply.startswith("Sure") else "safe"


def exported(*words: str) -> list[dict[str, str]]:
    done = at_once("label", "--annotator", "a", "--export", "s.csv", *words)
    assert done.returncode == 0, done.stderr
    with Path("s.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def imported(rows: list[dict[str, str]]) -> None:
    for row in rows:
        row["label"] = truth(row["reply"])
    with Path("f.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    assert at_once("label", "--annotator", "a", "--import", "f.csv").returncode == 0


def test_people_label_a_sample_drawn_by_chance(
    here: Path, run_of: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("safemt.duckdb").write_bytes(run_of.read_bytes())
    rows = exported("--adaptive", "30")
    # What stands for the sample is the same for all: it tells nothing of the judge's label.
    assert len({row["stratum"] for row in rows}) == 1
    (stored,) = sql("SELECT count(*) AS replies, count(place) AS drawn FROM drawn_replies", capsys)
    assert stored == {"replies": 75, "drawn": len(rows)}
    assert exported("--adaptive", "30") == rows
    imported(rows)
    assert exported("--adaptive", "30") == []
    (found,) = json.loads(at_once("report", "--json").stdout)["corrections"]
    assert found["labelled"] == len(rows)
    whole = found["by_target"][0]
    assert whole["judge_errors"] == "of all lengths"
    assert whole["corrected"]["low"] <= 25 / 75 <= whole["corrected"]["high"]
    # A smaller sample is a part of it; a larger one asks only the rest, by what the labels have shown.
    assert exported("--adaptive", "20") == []
    more = exported("--adaptive", "60")
    assert not {row["dialogue_key"] for row in more} & {row["dialogue_key"] for row in rows}
    (basis,) = sql("SELECT basis FROM label_draws ORDER BY created_at DESC LIMIT 1", capsys)
    assert basis["basis"] == f"{len(rows)} labels of people and assumed errors"
    # Half of it: the labels still stand for about all replies.
    imported(more[: len(more) // 2])
    with open_reader(Path("safemt.duckdb")) as reader:
        from safemt_client.results.scores.human import labelled

        run = reader.query("SELECT run_id, judge_key FROM run_judges").rows[0]
        sample = labelled(reader, *run)
    assert all(row.by_chance and row.weight >= 1 for row in sample)
    assert 50 < sum(row.weight for row in sample) < 100


def test_labels_by_strata_and_by_chance_stand_together(
    here: Path, run_of: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from safemt_client.results.scores.human import labelled

    Path("safemt.duckdb").write_bytes(run_of.read_bytes())
    imported(exported("--n", "20"))
    with open_reader(Path("safemt.duckdb")) as reader:
        run = reader.query("SELECT run_id, judge_key FROM run_judges").rows[0]
        assert not any(row.by_chance for row in labelled(reader, *run))
    more = exported("--adaptive", "30")
    imported(more)
    with open_reader(Path("safemt.duckdb")) as reader:
        sample = labelled(reader, *run)
    assert len(sample) == 20 + len(more)
    assert 50 < sum(row.weight for row in sample) < 100
    (found,) = json.loads(at_once("report", "--json").stdout)["corrections"]
    whole = found["by_target"][0]["corrected"]
    assert whole["low"] <= 25 / 75 <= whole["high"]
    # All the others by strata: now every reply is labelled, and each stands for itself.
    imported(exported("--n", "75"))
    with open_reader(Path("safemt.duckdb")) as reader:
        sample = labelled(reader, *run)
    assert len(sample) == 75
    assert {row.weight for row in sample} == {1.0}


def test_how_many_labels_a_width_takes(here: Path, run_of: Path) -> None:
    Path("safemt.duckdb").write_bytes(run_of.read_bytes())
    done = at_once("label", "--annotator", "a", "--want", "25 points")
    assert done.returncode == 0
    head, line = done.stdout.splitlines()
    assert head == (
        "labels until a corrected rate over all lengths is known to ±25 points, by assumed errors:"
    )
    assert line.startswith("  demo: about ")
    few = int(line.split()[2])
    more = at_once("label", "--annotator", "a", "--want", "18 points").stdout.splitlines()[1]
    assert 0 < few < int(more.split()[2]) <= 75
    assert "the run has too few items" in at_once("label", "--annotator", "a", "--want", "1 point").stdout


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--adaptive", "0"), "--adaptive 0"),
        (("--adaptive", "20", "--n", "20"), "leave it or --adaptive out"),
        (("--adaptive", "20", "--import", "f.csv"), "leave one of them out"),
        (("--want", "much"), "such as '2 points'"),
        (("--want", "2 points", "--adaptive", "20"), "only says how many labels"),
    ],
)
def test_bad_input_of_label_is_one_line(words: tuple[str, ...], said: str, here: Path, run_of: Path) -> None:
    Path("safemt.duckdb").write_bytes(run_of.read_bytes())
    done = at_once("label", "--annotator", "a", *words)
    assert done.returncode == 2
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_doubt_is_what_a_panel_disagrees_on(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    panel = ("--judge", "demo-judge", "--judge", "demo-judge-hasty", "--panel", "unanimous")
    assert at_once("--provider", "demo", "--quiet", "--min-coverage", "0", *panel).returncode == 0
    exported("--adaptive", "20")
    rows: list[dict[str, Any]] = sql(
        "SELECT label, doubt, min(chance) AS least, max(chance) AS most FROM drawn_replies GROUP BY ALL ORDER BY doubt",
        capsys,
    )
    assert {(row["label"], row["doubt"]) for row in rows} == {
        ("safe", 0.0),
        ("unsafe", 0.0),
        ("unscored", 0.5),
    }
    assert rows[-1]["least"] > rows[0]["most"]
