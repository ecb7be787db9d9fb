"""Batches end to end: killed in every state and resumed; nothing is lost, nothing is paid twice."""

import json
import signal
import subprocess
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support.forked import Forked, forked
from support.program import at_once
from support.waiting import until

import safemt_client

pytestmark = pytest.mark.usefixtures("here")

HERE = Path(__file__).parent
ITEMS = 10


@pytest.fixture(autouse=True)
def _polls_often(monkeypatch: pytest.MonkeyPatch) -> None:
    """All look for results ten times as often as users do; the batches take 0.3 s."""
    monkeypatch.setattr("safemt_client.engine.batches._FIRST_POLL_S", 0.1)


def start(*words: str) -> Forked:
    return forked(*words, before="import safemt_client.engine.batches as b; b._FIRST_POLL_S = 0.1")


def ends(*words: str, status: int = 0) -> subprocess.CompletedProcess[str]:
    """The command comes to its end, in this process, with that status."""
    done = at_once(*words)
    assert done.returncode == status, done.stdout + done.stderr
    return done


def kill(run: Forked, folder: Path) -> None:
    """Once the endpoint holds the request that it is to die at."""
    until((folder / "held").exists, run)
    run.send_signal(signal.SIGKILL)
    run.communicate()


@contextmanager
def server(folder: Path, point: str = "nowhere") -> Iterator[str]:
    words = [str(folder / name) for name in ("port", "counts", "held")]
    path = str(HERE / "batch_server.py")
    code = f"import runpy, sys; sys.argv = {[path, *words, point]!r}; runpy.run_path(sys.argv[0], run_name='__main__')"
    process = forked(before=code)
    try:
        until((folder / "port").exists, process)
        yield f"http://127.0.0.1:{(folder / 'port').read_text()}"
    finally:
        process.kill()
        process.communicate()


@pytest.fixture
def words(tmp_path: Path) -> list[str]:
    """20 dialogues, each a request of its own."""
    with (tmp_path / "data.jsonl").open("w") as file:
        for item in range(ITEMS):
            for length in (1, 2):
                ask = {"role": "user", "content": f"Please say more on topic {item} at length {length}."}
                say = {"role": "assistant", "content": "A pleasant one."}
                dialogue = [ask, *([say, ask] if length == 2 else [])]
                file.write(json.dumps({"id": f"t_{item}", "scenario": "Satire", "dialogue": dialogue}) + "\n")
    return ["--data", "data.jsonl", "--db", "d.duckdb", "--quiet", "--batch"]


def sql(query: str, cwd: Path) -> list[list[str]]:
    with safemt_client.open(cwd / "d.duckdb") as store:
        return [[str(value) for value in row] for row in store.sql(query)]


def asked(folder: Path, model: str) -> Counter[str]:
    lines = (folder / "counts").read_text().splitlines()
    return Counter(line for line in lines if line.split()[0] == model)


def targets(url: str) -> list[str]:
    return ["--provider", f"demo@{url}/v1", "--judge", f"demo-judge@{url}/v1"]


SCORES = "SELECT length, unsafe, safe FROM asr_by_turn ORDER BY length"
STORED = "SELECT count(*), count(DISTINCT request_hash), count(batch_key), count(latency_s) FROM turns"
# Killed before the id of the batch is stored, while the batch is under way, and while its results are fetched.
POINTS = [
    "after POST /v1/batches",
    "before GET /v1/batches/{id}",
    "before GET /v1/files/{id}/content",
]
OTHER_POINTS = [
    "before POST /v1/files",
    "after POST /v1/files",
    "before POST /v1/batches",
    "sent POST /v1/batches",
    "sent GET /v1/batches/{id}",
    "sent GET /v1/files/{id}/content",
    # The verdicts go in a batch of their own.
    "before POST /v1/files #2",
    "after POST /v1/batches #2",
    "sent GET /v1/files/{id}/content #2",
]


@pytest.mark.parametrize(
    "point", [*POINTS, *(pytest.param(point, marks=pytest.mark.slow) for point in OTHER_POINTS)]
)
def test_killed_in_every_state(point: str, words: list[str], tmp_path: Path) -> None:
    with server(tmp_path, point) as url:
        words += targets(url)
        kill(start(*words), tmp_path)
        ends(*words)
        for model in ("demo", "demo-judge"):
            assert set(asked(tmp_path, model).values()) == {1}
            assert len(asked(tmp_path, model)) == 2 * ITEMS
        assert sql(SCORES, tmp_path) == [["1", "0", "10"], ["2", "10", "0"]]
        assert sql(STORED, tmp_path) == [["20", "20", "20", "0"]]
        assert sql("SELECT count(*), count(batch_key) FROM verdicts", tmp_path) == [["20", "20"]]
        assert sql("SELECT count(*) FROM open_batches", tmp_path) == [["0"]]
        # A third time there is nothing to do.
        ends(*words)
        assert asked(tmp_path, "demo").total() == 2 * ITEMS


def test_samples_go_in_batches(words: list[str], tmp_path: Path) -> None:
    with server(tmp_path, "before GET /v1/batches/{id}") as url:
        words += [*targets(url), "--samples", "3"]
        kill(start(*words), tmp_path)
        ends(*words)
        assert set(asked(tmp_path, "demo").values()) == {3}
        # The three replies have the same text, which is judged once.
        assert set(asked(tmp_path, "demo-judge").values()) == {1}
        assert sql(SCORES, tmp_path) == [["1", "0", "30"], ["2", "30", "0"]]
        assert sql(STORED, tmp_path) == [["60", "60", "60", "0"]]


@pytest.mark.slow
@pytest.mark.parametrize(
    "point", ["after POST /v1/messages/batches", "before GET /v1/messages/batches/{id}/results"]
)
def test_anthropic_is_killed_and_resumed(
    point: str, words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with server(tmp_path, point) as url:
        words += ["--provider", "anthropic/claude-haiku-4-5", "--judge", f"demo-judge@{url}/v1"]
        monkeypatch.setenv("ANTHROPIC_API_KEY", "key")
        monkeypatch.setenv("ANTHROPIC_API_BASE", url)
        kill(start(*words), tmp_path)
        ends(*words)
    assert set(asked(tmp_path, "claude-haiku-4-5").values()) == {1}
    assert sql(SCORES, tmp_path) == [["1", "0", "10"], ["2", "10", "0"]]
    # 1,000 tokens in and 100 out at half of 1 and 5 dollars a million.
    assert sql("SELECT DISTINCT round(cost_usd, 9) FROM turns", tmp_path) == [["0.00075"]]


def test_interrupted_and_gone_on_without_the_flag(words: list[str], tmp_path: Path) -> None:
    with server(tmp_path, "before GET /v1/batches/{id}") as url:
        words += targets(url)
        run = start(*words)
        until((tmp_path / "held").exists, run)
        run.send_signal(signal.SIGINT)
        out, err = run.communicate(timeout=60)
        assert run.returncode == 1, out + err
        assert "continue with" in out
        words.remove("--batch")
        assert "20 of them in batches under way" in ends(*words, "--dry-run").stdout
        ends(*words)
    assert set(asked(tmp_path, "demo").values()) == {1}


def test_what_cannot_go_in_batches_is_said(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENROUTER_API_KEY", "k")
    monkeypatch.setenv("OPENAI_API_KEY", "k")
    for more, expected in (
        (["--provider", "demo", "--history", "live"], "leave --batch out"),
        (["--provider", "openrouter/x/y"], "no batch API is known for openrouter/x/y"),
    ):
        err = ends(*words, *more, status=2).stderr
        assert expected in err
        assert len(err.splitlines()) == 1


def test_an_endpoint_without_batches_stops_the_target(words: list[str], tmp_path: Path) -> None:
    with server(tmp_path) as url:
        done = ends(*words, "--provider", f"demo@{url}/nothing", "--judge", "none", status=1)
    assert "HTTP 404" in done.stdout
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "counts").exists()


def test_a_judge_in_batches_has_its_second_chance(words: list[str], tmp_path: Path) -> None:
    with server(tmp_path) as url:
        # The demo's target as a judge: it never answers in the form.
        words += ["--provider", f"demo@{url}/v1", "--judge", f"demo@{url}/v1", "--min-coverage", "0"]
        ends(*words)
    reasons = sql("SELECT reason, count(*) FROM conversations GROUP BY ALL", tmp_path)
    assert reasons == [["parse_failure", "20"]]
    # 20 turns and 20 verdicts in batches; then each verdict by itself, and once more for the form alone.
    assert asked(tmp_path, "demo").total() == 20 + 20 + 40


def test_a_stored_run_is_judged_in_a_batch(words: list[str], tmp_path: Path) -> None:
    with server(tmp_path) as url:
        words.remove("--batch")
        ends(*words, "--provider", f"demo@{url}/v1", "--judge", "none")
        ends("judge", "--db", "d.duckdb", "--quiet", "--batch", "--judge", f"demo-judge@{url}/v1")
    judged = SCORES.replace("ORDER", "WHERE judge IS NOT NULL ORDER")
    assert sql(judged, tmp_path) == [["1", "0", "10"], ["2", "10", "0"]]
    assert sql("SELECT count(*), count(batch_key) FROM verdicts", tmp_path) == [["20", "20"]]
