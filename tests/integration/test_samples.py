"""`--samples K`: K independent replies to each request, asked, stored, resumed and judged as one run."""

import csv
import html
import json
import re
import threading
import zipfile
from collections import Counter
from math import comb
from pathlib import Path

import httpx
import pytest
from support.program import at_once
from support.sampled import Sampled, sampled, write_items

import safemt_client
from safemt_client.viewer.serve import open_viewer


@pytest.fixture(autouse=True)
def _in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SAFEMT_API_KEY", "k")


def run(endpoint: Sampled, *words: str, items: str = "abc") -> str:
    """The id of a run against the endpoint."""
    write_items(Path("data.jsonl"), list(items), [1, 3])
    asked = ["--provider", f"m=m@{endpoint.url}", "--judge", f"judge=judge@{endpoint.url}"]
    done = at_once(*asked, "--data", "data.jsonl", "--db", "a.duckdb", "--quiet", *words)
    assert done.returncode == 0, done.stdout + done.stderr
    with safemt_client.open("a.duckdb") as store:
        return str(store.sql("SELECT run_id FROM asr LIMIT 1").rows[0][0])


def rows(query: str) -> list[tuple[object, ...]]:
    with safemt_client.open("a.duckdb") as store:
        return store.sql(query).rows


def test_each_reply_counts_and_items_are_the_clusters() -> None:
    with sampled(a="uuss", b="ssss", c="usss") as endpoint:
        run(endpoint, "--samples", "4")
        assert len(endpoint.bodies) == 3 * 2 * 4
    # `asr_by_turn` stays one row for each target and length.
    assert rows("SELECT length, unsafe, scored, planned, coverage FROM asr_by_turn ORDER BY ALL") == [
        (1, 3, 12, 12, 1.0),
        (3, 3, 12, 12, 1.0),
    ]
    assert rows("SELECT count(*), count(DISTINCT sample), min(sample) FROM conversations") == [(24, 4, 1)]
    hits = dict(rows("SELECT k, hit FROM hit_at_k WHERE length = 1"))
    assert hits == pytest.approx(
        {k: (1 - comb(2, k) / comb(4, k) + 1 - comb(3, k) / comb(4, k)) / 3 for k in (1, 2, 4)}
    )
    with safemt_client.open("a.duckdb") as store:
        scores = store.scores()
        one = scores.asr_by_turn[0]
        # Twelve replies to three items: far less than twelve of different items would show.
        assert one.low is not None
        assert one.high is not None
        assert one.high - one.low > 0.55
        assert [row.k for row in scores.hit_at_k if row.length == 1] == [1, 2, 4]


def test_a_larger_number_asks_only_what_it_adds() -> None:
    with sampled(a="us", b="s", c="u") as endpoint:
        first = run(endpoint, "--samples", "2")
        assert len(endpoint.bodies) == 12
        run(endpoint, "--samples", "2")
        assert len(endpoint.bodies) == 12
        second = run(endpoint, "--samples", "3")
        assert len(endpoint.bodies) == 18
        assert first != second
        run(endpoint)
        assert len(endpoint.bodies) == 18


def test_what_fresh_has_asked_is_pooled() -> None:
    with sampled(a="us", b="s", c="u") as endpoint:
        run(endpoint)
        run(endpoint, "--fresh")
        assert len(endpoint.bodies) == 12
        run(endpoint, "--samples", "2")
        assert len(endpoint.bodies) == 12
        # And the other way round: fresh ones come after all samples that were asked.
        run(endpoint, "--samples", "3")
        run(endpoint, "--fresh", "--samples", "2")
        assert len(endpoint.bodies) == 18 + 12
    assert rows("SELECT DISTINCT sample FROM run_targets ORDER BY ALL") == [(0,), (1,), (3,)]


def test_every_sample_has_a_seed_of_its_own() -> None:
    with sampled(a="us") as endpoint:
        run(endpoint, "--samples", "3", "--seed", "7", items="a")
        assert sorted(int(str(body["seed"])) for body in endpoint.bodies) == [7, 7, 8, 8, 9, 9]
    found = rows(
        """SELECT sample, json_extract(t.parameters, '$.seed')::INT FROM replies r JOIN turns t USING (request_hash)
           WHERE length = 1 ORDER BY ALL"""
    )
    assert found == [(1, 7), (2, 8), (3, 9)]
    with safemt_client.open("a.duckdb") as store:
        assert not [line for line in store.scores().as_dict()["warnings"] if "seed" in line]


def test_in_live_history_a_sample_follows_its_own_replies() -> None:
    with sampled(a="us") as endpoint:
        run(endpoint, "--samples", "3", "--history", "live", items="a")
        assert len(endpoint.bodies) == 3 * (1 + 3)
    for sample in (1, 2, 3):
        texts = [
            text
            for (text,) in rows(
                f"SELECT text FROM replies WHERE sample = {sample} AND length = 3 ORDER BY turn"
            )
        ]
        ((request,),) = rows(
            f"""SELECT any_value(t.request) FROM replies r JOIN turns t USING (request_hash)
                WHERE r.sample = {sample} AND r.length = 3 AND r.turn = 3"""
        )
        said = [message["content"] for message in json.loads(str(request)) if message["role"] == "assistant"]
        assert said == texts[:2]
    assert rows("SELECT count(*), count(DISTINCT sample) FROM first_unsafe WHERE length = 3") == [(3, 3)]


def test_the_plan_counts_every_sample(capsys: pytest.CaptureFixture[str]) -> None:
    plan = safemt_client.plan(provider="demo", turns=[1, 2], samples=3, db="p.duckdb")
    assert [line.estimate.calls for line in plan.lines if line.role == "target"] == [3 * 30]
    done = at_once("--provider", "demo", "--samples", "3", "--dry-run", "--db", "p.duckdb")
    assert "3 samples of each" in done.stdout


def test_the_index_is_the_mean_of_the_samples() -> None:
    with safemt_client.open(_demo()) as store:
        (mean,) = store.sql("SELECT safety_index FROM safety_index").rows
        each = store.sql("SELECT safety_index FROM safety_index_by_sample ORDER BY sample").rows
        (row,) = store.scores().safety_index
    assert [one for (one,) in each] == [mean[0]] * 2
    assert row.safety_index == mean[0]


def _demo() -> str:
    safemt_client.run(provider="demo", samples=2, db="d.duckdb", quiet=True)
    return "d.duckdb"


def test_exports_and_viewer_have_every_sample() -> None:
    with sampled(a="us", b="s", c="u") as endpoint:
        first = run(endpoint, items="ab")
        second = run(endpoint, "--samples", "2", items="ab")
    for name, run_id in (("one", first), ("two", second)):
        for form in ("csv", "inspect", "reference"):
            done = at_once(
                *("export", "--run", run_id, "--db", "a.duckdb", "--format", form, "--out", f"{name}-{form}")
            )
            assert done.returncode == 0, done.stderr
    with Path("two-csv/conversations.csv").open(newline="") as file:
        two = list(csv.DictReader(file))
    assert Counter(row["sample"] for row in two) == {"1": 4, "2": 4}
    assert {row["reply"][-2] for row in two if row["item_id"] == "a"} == {"u", "s"}
    # A run with one sample is exported as ever.
    with Path("one-csv/conversations.csv").open(newline="") as file:
        assert "sample" not in next(csv.reader(file))
    (log,) = Path("two-inspect").glob("*.eval")
    with zipfile.ZipFile(log) as archive:
        header = json.loads(archive.read("header.json"))
        names = [name for name in archive.namelist() if name.startswith("samples/a-1_")]
    assert header["eval"]["config"] == {"epochs": 2}
    assert header["eval"]["dataset"]["samples"] == 4
    assert names == ["samples/a-1_epoch_1.json", "samples/a-1_epoch_2.json"]
    assert sorted(path.name for path in Path("two-reference").iterdir()) == ["sample-1", "sample-2"]
    viewer = open_viewer(Path("a.duckdb"), port=0)
    thread = threading.Thread(target=viewer.run)
    thread.start()
    try:
        with httpx.Client(base_url=viewer.base, follow_redirects=True, trust_env=False, timeout=60) as client:
            client.get(f"/?token={viewer.token}")
            listed = client.get(f"/run?run={second}").text
            address = re.findall(r'href="(/conversation\?[^"]*sample=2[^"]*)"', listed)[0]
            page = client.get(html.unescape(address)).text
    finally:
        viewer.stop()
        thread.join()
    (samples,) = re.findall(r'<nav class="samples".*?</nav>', page, re.DOTALL)
    assert re.findall(r'sample=(\d)[^"]*"( aria-current)?', samples) == [("1", ""), ("2", " aria-current")]


def test_the_judge_is_asked_again_about_every_reply() -> None:
    items = "abcdefghijklmnop"
    with sampled(**dict.fromkeys(items, "us")) as endpoint:
        run_id = run(endpoint, "--samples", "2", items=items)
        before = rows("SELECT asr FROM asr_by_turn ORDER BY length")
        endpoint.wavers = "abcd"
        for _ in range(2):
            done = at_once("judge", "--judge-samples", "3", "--db", "a.duckdb", "--quiet")
            assert done.returncode == 0, done.stdout + done.stderr
        # 64 replies, three times; the second command finds all of them in the store.
        assert len(endpoint.judged) == 3 * 64
        assert {endpoint.judged.count(mark) for mark in endpoint.judged} == {3}
        wrong = at_once("judge", "--judge-samples", "1", "--db", "a.duckdb")
    assert wrong.returncode == 2
    assert "at least 2: the run's labels are the first" in wrong.stderr
    # The first labels decide; a quarter of the replies has one label and twice the other: u (m - u) / (m (m - 1)).
    assert rows("SELECT asr FROM asr_by_turn ORDER BY length") == before
    with safemt_client.open("a.duckdb") as store:
        (first, _) = store.scores(run_id).as_dict()["variances"]
    assert first["judge"] == pytest.approx(0.25 * 2 / 6)
    report = at_once("report", "--run", run_id, "--db", "a.duckdb").stdout
    assert "Judge" in report or "judge" in report
