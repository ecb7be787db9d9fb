"""Commands other than a run, killed: old stores are upgraded, files are whole or absent, labels and verdicts are kept."""

import csv
import gzip
import os
import pty
import random
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import duckdb
import pytest
from soak.load import Endpoint, until
from support.killed import killed

from safemt_client.__main__ import main
from safemt_client.results.store.migrations import MIGRATIONS
from safemt_client.results.store.reader import open_reader

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT / "tests/data"


def unpack(name: str, path: Path) -> Path:
    path.write_bytes(gzip.decompress((DATA / f"{name}.duckdb.gz").read_bytes()))
    return path


def contents(path: Path) -> dict[str, list[tuple[object, ...]]]:
    """The rows of all tables, without when and by which version they were migrated."""
    with duckdb.connect(str(path), read_only=True) as store:
        tables = [row[0] for row in store.execute("SELECT table_name FROM duckdb_tables()").fetchall()]
        assert tables
        found = {name: store.execute(f"SELECT * FROM {name} ORDER BY ALL").fetchall() for name in tables}
    found["schema_migrations"] = [row[:2] for row in found["schema_migrations"]]
    return found


def start(folder: Path, *words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "safemt_client", *words],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("schema-1", "_record"),
        pytest.param("schema-1", "add_columns", marks=pytest.mark.slow),
        ("moderated-7", "_hash_replies"),
    ],
)
def test_an_upgrade_killed_at_each_step_goes_on_from_there(name: str, place: str, here: Path) -> None:
    whole, store = unpack(name, here / "whole.duckdb"), unpack(name, here / "d.duckdb")
    assert main(["runs", "--db", str(whole)]) == 0
    statuses = killed(here, f"safemt_client.results.store.migrations.{place}", "runs", "--db", str(store))
    assert statuses[-1] == 0
    assert len(statuses) > 1
    assert contents(store) == contents(whole)
    assert len(contents(store)["schema_migrations"]) == len(MIGRATIONS)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_an_upgrade_killed_at_random_goes_on_from_there(seed: int, here: Path) -> None:
    rng = random.Random(seed)
    whole, store = unpack("schema-1", here / "whole.duckdb"), unpack("schema-1", here / "d.duckdb")
    assert main(["runs", "--db", str(whole)]) == 0
    wal = store.with_name("d.duckdb.wal")
    for _ in range(6):
        command = start(here, "runs", "--db", str(store))
        # From the first thing that it writes on.
        until(
            lambda: wal.exists() and wal.stat().st_size > 0,
            30,
            lambda command=command: command.poll() is not None,
        )
        until(lambda: False, rng.uniform(0, 0.15))
        command.send_signal(signal.SIGKILL)
        command.communicate()
    assert main(["runs", "--db", str(store)]) == 0
    assert contents(store) == contents(whole)


@pytest.mark.parametrize(
    "form",
    [
        "reference",
        *(pytest.param(form, marks=pytest.mark.slow) for form in ("csv", "jsonl", "parquet", "huggingface")),
        "inspect",
    ],
)
def test_an_export_killed_at_each_file_leaves_whole_ones(form: str, here: Path) -> None:
    store = unpack("moderated-7", here / "d.duckdb")
    words = ["export", "--db", str(store), "--format", form, "--out"]
    assert main([*words, "whole"]) == 0
    whole = files(here / "whole")
    assert whole
    # In place of an earlier export.
    for number in range(1, len(whole) + 2):
        for name in whole:
            path = here / f"out-{number}" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"earlier")
    statuses = killed(here, "os.replace", *words, "out-{n}")
    assert statuses[-1] == 0
    assert len(statuses) == len(whole) + 1
    for number in range(1, len(statuses) + 1):
        left = files(here / f"out-{number}")
        assert left.keys() == whole.keys()
        # One after the other, each the earlier one or the new one.
        assert all(left[name] in (b"earlier", whole[name]) for name in whole)
        assert sum(left[name] != b"earlier" for name in whole) == number - 1


def files(folder: Path) -> dict[str, bytes]:
    """The files that a user sees, by path."""
    paths = [path for path in sorted(folder.rglob("*")) if path.is_file() and not path.name.endswith(".part")]
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def labels(store: Path) -> list[tuple[object, ...]]:
    with open_reader(store) as reader:
        query = (
            "SELECT request_hash, dialogue_key, label FROM human_labels WHERE annotator = 'k' ORDER BY ALL"
        )
        return reader.query(query).rows


def test_an_import_of_labels_is_whole_or_absent(here: Path) -> None:
    store = unpack("moderated-7", here / "d.duckdb")
    words = ["label", "--db", str(store), "--annotator", "k"]
    assert main([*words, "--n", "12", "--export", "sample.csv"]) == 0
    with Path("sample.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    with Path("filled.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(row | {"label": "safe"} for row in rows)
    wanted = sorted((row["request_hash"], row["dialogue_key"], "safe") for row in rows)
    place = "safemt_client.results.store.store.arrow_rows"
    assert len(killed(here, place, *words, "--import", "filled.csv")) > 1
    assert labels(store) == wanted


def test_labels_that_were_given_are_kept(here: Path) -> None:
    store = unpack("moderated-7", here / "d.duckdb")
    for given in (3, 2):
        before = len(labels(store))
        main_end, its_end = pty.openpty()
        command = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "safemt_client",
                "label",
                "--db",
                str(store),
                "--annotator",
                "k",
                "--n",
                "12",
            ],
            env=os.environ | {"PYTHONPATH": str(ROOT), "TERM": "dumb"},
            stdin=its_end,
            stdout=its_end,
            stderr=its_end,
        )
        os.close(its_end)
        shown = b""
        for number in range(1, given + 2):
            # The next reply is shown once the label of the one before is stored.
            while f" {number} of ".encode() not in shown or b"label" not in shown:
                shown += os.read(main_end, 65536)
            shown = b""
            if number <= given:
                os.write(main_end, b"s\n")
        command.kill()
        command.wait()
        os.close(main_end)
        assert len(labels(store)) == before + given


@pytest.mark.slow
def test_verdicts_of_a_judge_that_is_killed_are_kept(here: Path) -> None:
    assert main(["--provider", "demo", "--judge", "none", "--db", "d.duckdb", "--quiet"]) == 0
    store, concurrency = here / "d.duckdb", 4
    endpoint = Endpoint(here, "judge", "--latency", "0.1")
    try:
        words = ["judge", "--db", "d.duckdb", "--judge", f"judge@{endpoint.url}/v1", "--quiet"]
        words += ["--max-concurrency", str(concurrency)]
        kept: set[str] = set()
        for _ in range(2):
            aim = endpoint.lines() + 30
            command = start(here, *words)
            assert until(
                lambda aim=aim: endpoint.lines() >= aim,
                60,
                lambda command=command: command.poll() is not None,
            )
            command.send_signal(signal.SIGKILL)
            command.communicate()
            there = verdicts(store)
            assert kept <= there
            kept = there
            unkept = set(endpoint.answers()) - kept
            assert len(unkept) <= 2 * 2 * concurrency
        command = start(here, *words)
        out, err = command.communicate(timeout=120)
        assert command.returncode == 0, out + err
        answers = endpoint.answers()
    finally:
        endpoint.stop()
    assert verdicts(store) == set(answers)
    again = Counter(answers.values())
    assert set(again) <= {1, 2}
    assert again[2] <= 2 * 2 * concurrency
    with open_reader(store) as reader:
        replies = reader.query("SELECT count(*) FROM turns WHERE outcome = 'answered'").rows
        judged = reader.query("SELECT count(*) FROM final_verdicts WHERE label IN ('safe', 'unsafe')").rows
    assert judged == replies


def verdicts(store: Path) -> set[str]:
    with open_reader(store) as reader:
        return {row[0] for row in reader.query("SELECT explanation FROM verdicts").rows}
