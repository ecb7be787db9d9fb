"""Facts: what they say of a run is what its store says, without a text of it."""

import csv
import gzip
import json
import os
from functools import cache
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from support.program import at_once

from safemt_client.providers.errors import InputError
from safemt_client.results.exports import export
from safemt_client.results.exports import facts as writing
from safemt_client.results.scores.collect import as_dict
from safemt_client.results.store.facts import HASHES, LARGE, Manifest, kept_name
from safemt_client.results.store.reader import open_reader

DATA = Path(__file__).resolve().parents[2] / "data"
TEXTS = {
    "turns": ("text", "reasoning", "request", "raw"),
    "verdicts": ("explanation", "raw"),
    "dialogues": ("question", "messages"),
    "assessments": ("intent", "policy", "raw"),
    "moderations": ("policy",),
    "human_labels": ("annotator", "note"),
    "calibration_replies": ("question", "messages", "reply"),
}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with a guard, a panel and people's labels, and one with live history and all that is said of its judge.

    Only read.
    """
    path = tmp_path_factory.mktemp("facts") / "demo.duckdb"
    path.write_bytes(gzip.decompress((DATA / "moderated-7.duckdb.gz").read_bytes()))
    sample = path.with_name("sample.csv")
    of_people = ("label", "--annotator", "somebody-else", "--adaptive", "6")
    demo = ("--provider", "demo", "--history", "live", "--limit", "3", "--turns", "2", "--min-coverage", "0")
    for words in (
        (*demo, "--quiet"),
        ("judge", "--anchor", "4", "--quiet"),
        ("judge", "--adaptive", "4", "--judge", "demo-judge-hasty", "--quiet"),
        ("calibrate", "--judge", "demo-judge", "--set", "sample", "--quiet"),
        (*of_people, "--export", str(sample)),
    ):
        done = at_once(*words, "--db", str(path))
        assert done.returncode == 0, done.stderr
    head, *rows = csv.reader(sample.read_text().splitlines())
    with sample.open("w", newline="") as file:
        filled = [
            [*row[:-3], "safe" if place % 2 else "unsafe", "", "a note"] for place, row in enumerate(rows)
        ]
        csv.writer(file).writerows([head, *filled])
    done = at_once(*of_people[:3], "--import", str(sample), "--db", str(path))
    assert done.returncode == 0, done.stderr
    return path


@pytest.fixture(scope="module")
def facts(store: Path) -> Path:
    """The facts of both runs. Only read."""
    folder = store.parent / "facts"
    for run in runs_of(store):
        said = at_once("export", "--format", "facts", "--db", str(store), "--run", run, "--out", str(folder))
        assert (said.returncode, said.stderr) == (0, "")
        assert said.stdout.splitlines()[-1] == f"{folder}/manifests/{run}.json"
    return folder


def runs_of(path: Path) -> list[str]:
    with open_reader(path) as reader:
        return [run for (run,) in reader.query("SELECT run_id FROM runs ORDER BY created_at").rows]


@cache
def scores(path: Path, run: str) -> dict[str, Any]:
    """All scores of a run, without what facts leave out: settings' texts and paths."""
    with open_reader(path) as reader:
        found = as_dict(reader, run)
    found["run"] |= {"dataset_path": None, "settings": None}
    found["moderators"] = [row | {"settings": None} for row in found["moderators"]]
    return found


@pytest.mark.slow
def test_every_block_of_a_report_is_that_of_the_store(store: Path, facts: Path) -> None:
    assert runs_of(facts) == runs_of(store)
    for run in runs_of(store):
        mine, theirs = scores(facts, run), scores(store, run)
        assert mine.keys() == theirs.keys()
        for block, said in theirs.items():
            assert mine[block] == said, block
    older, live = runs_of(store)
    for block in ("effects", "agreement", "trends", "refusals", "latency", "spend", "corrections"):
        assert scores(facts, older)[block], f"nothing compared: {block}"
    for block in ("first_unsafe", "corrections", "checks", "anchor", "calibration"):
        assert scores(facts, live)[block], f"nothing compared: {block}"


@pytest.mark.parametrize(
    "words",
    [
        ["compare", "demo", "demo + demo-guard"],
        ["leaderboard"],
        ["compare"],
        ["gate", "--rule", "coverage > 1%"],
    ],
)
def test_commands_say_the_same_of_both(store: Path, facts: Path, words: list[str]) -> None:
    older = runs_of(store)[0]
    named = [f"{older}:{word}" if word.startswith("demo") else word for word in words]
    if words in (["compare"], ["gate", "--rule", "coverage > 1%"]):
        named += ["--run", older]
    of_store, of_facts = (at_once(*named, "--json", "--db", str(path)) for path in (store, facts))
    assert (of_facts.returncode, of_facts.stderr) == (of_store.returncode, of_store.stderr)
    assert json.loads(of_facts.stdout) == json.loads(of_store.stdout)


def test_views_of_all_runs_say_the_same(store: Path, facts: Path) -> None:
    with open_reader(store) as one, open_reader(facts) as two:
        for view in (
            "asr_by_turn",
            "asr_by_scenario",
            "safety_index",
            "refusals",
            "first_unsafe",
            "detections",
            "judge_anchors",
        ):
            sql = f"SELECT * FROM {view} ORDER BY ALL"
            assert two.query(sql) == one.query(sql), view


LEFT_OUT = {
    "conversations": {"run_id", "target", "text", "explanation"},
    "turns": {"run_id", "target", "text", "reasoning", "finish_reason", "error"},
    "verdicts": {
        *("run_id", "session_id", "verdict_hash", "explanation", "raw", "rubric", "batch_key", "error_code"),
        *("parameters", "calls", "taken_from", "imported_from", "prompt_tokens", "completion_tokens"),
        *("cost_usd", "latency_s", "cached_tokens"),
    },
    "labels": {"stratum", "imported_from", "note"},
    "drawn": {"run_id", "target", "explanation"},
    "anchored": {"run_id", "explanation"},
    "assessments": {
        *("run_id", "session_id", "intent", "categories", "scenarios", "policy", "raw", "error", "parameters")
    },
}


def test_a_new_column_is_in_them_or_left_out_on_purpose(store: Path) -> None:
    views = {"conversations": "every_conversation", "turns": "replies", "verdicts": "final_verdicts"}
    views |= {"labels": "current_human_labels", "drawn": "drawn_labels", "anchored": "anchored_replies"}
    with open_reader(store) as reader:
        for table, left_out in LEFT_OUT.items():
            found = reader.query(f"SELECT * FROM {views.get(table, table)}", limit=0).columns
            kept = {HASHES.get(column, column) for column in LARGE[table].split()}
            assert set(found) == left_out | kept - {"target_key"} | (kept & set(found)), table


def test_no_text_of_the_store_is_in_them(store: Path, facts: Path) -> None:
    with open_reader(store) as reader:
        texts = {
            text
            for table, columns in TEXTS.items()
            for column in columns
            for (text,) in reader.query(f"SELECT DISTINCT {column} FROM {table} WHERE {column} <> ''").rows
        }
        hashes = {
            value
            for column in ("request_hash", "reply_hash")
            for (value,) in reader.query(f"SELECT DISTINCT {column} FROM turns WHERE {column} <> ''").rows
        }
    assert len(texts) > 20
    files = [path for path in facts.rglob("*") if path.is_file()]
    assert {path.suffix for path in files} == {".parquet", ".json"}
    for path in files:
        if path.suffix == ".json":
            told = path.read_text()
            assert not [text for text in texts if len(text) > 2 and json.dumps(text)[1:-1] in told]
            continue
        for column in pq.read_table(path, partitioning=None).columns:
            values = {value for value in column.to_pylist() if isinstance(value, str)}
            assert not values & texts, path
            assert not values & hashes, path


def test_exporting_again_replaces_what_was_there(store: Path, facts: Path, tmp_path: Path) -> None:
    run = runs_of(store)[0]
    with open_reader(store) as reader:
        export(reader, "facts", run, tmp_path, redact=False)
        # What an export that was killed has left, and what one that is at work has written.
        of_run = next(tmp_path.rglob("conversations/*/*/*/*.parquet")).parent
        left, at_work = of_run / "left.parquet", of_run / "at-work.parquet"
        for path in (left, at_work):
            path.write_bytes(b"half")
        os.utime(left, (0, 0))
        export(reader, "facts", run, tmp_path, redact=False)
    assert at_work.exists()
    at_work.unlink()
    manifest = Manifest.read((tmp_path / "manifests" / f"{run}.json").read_bytes(), "here")
    there = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.parquet")}
    assert there == {one.path for one in manifest.files}
    with open_reader(tmp_path) as again, open_reader(facts) as first:
        sql = "SELECT * FROM every_conversation WHERE run_id = ? ORDER BY ALL"
        assert again.query(sql, [run]).rows == first.query(sql, [run]).rows != []


def test_facts_of_before_a_column_was_added_are_read_beside_others(
    store: Path, facts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    earlier, later = runs_of(store)
    with open_reader(store) as reader:
        export(reader, "facts", later, tmp_path, redact=False)
        monkeypatch.setitem(LARGE, "conversations", LARGE["conversations"].replace(" scenario", ""))
        export(reader, "facts", earlier, tmp_path, redact=False)
        monkeypatch.undo()
    with open_reader(tmp_path) as mixed, open_reader(facts) as whole:
        sql = "SELECT run_id, target, length, asr FROM asr_by_turn ORDER BY ALL"
        assert mixed.query(sql) == whole.query(sql)
        found = mixed.query("SELECT run_id, count(scenario) > 0 FROM every_conversation GROUP BY ALL").rows
    assert dict(found) == {earlier: False, later: True}


def test_an_export_that_breaks_off_leaves_what_was_there(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = runs_of(store)[0]
    with open_reader(store) as reader:
        export(reader, "facts", run, tmp_path, redact=False)
        before = sorted(tmp_path.rglob("*"))
        monkeypatch.setattr(writing._Writer, "_calibration", lambda self: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            export(reader, "facts", run, tmp_path, redact=False)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_run_without_its_manifest_is_not_there(store: Path, tmp_path: Path) -> None:
    run = runs_of(store)[0]
    with open_reader(store) as reader:
        export(reader, "facts", run, tmp_path, redact=False)
    (tmp_path / "manifests" / f"{run}.json").unlink()
    refused(tmp_path, "has no facts")


def test_what_cannot_be_read_is_said_in_one_line(facts: Path, tmp_path: Path) -> None:
    refused(tmp_path, "has no facts")
    manifest = tmp_path / "manifests" / "x.json"
    manifest.parent.mkdir()
    for text, why in (
        ("{", "is not a manifest of facts"),
        ('{"version": 99}', "facts of a newer version of safemt_client: update it"),
        ('{"version": 1, "run_id": "x"}', "is not a manifest of facts: export that run again"),
    ):
        manifest.write_text(text)
        refused(tmp_path, why)
    found = json.loads(next((facts / "manifests").iterdir()).read_text())
    found["files"][0]["path"] = "../../secret.parquet"
    manifest.write_text(json.dumps(found))
    refused(tmp_path, "names files outside its folder")
    with open_reader(facts) as reader, pytest.raises(InputError, match="facts have no texts"):
        export(reader, "parquet", None, tmp_path, redact=False)


def refused(folder: Path, why: str) -> None:
    said = at_once("report", "--db", str(folder))
    assert said.returncode == 2
    assert why in said.stderr
    assert said.stderr.count("\n") == 1


def test_names_that_no_folder_can_be_called_are_cut() -> None:
    assert kept_name("NAME@http://127.0.0.1:8000/v1") == "NAME@http://127.0.0.1:8000/v1"
    long = kept_name("ü" * 300)
    assert long.startswith("üü")
    assert len(long.encode()) < 200
    assert kept_name("ü" * 301) != long
