"""Stores of earlier versions of the program: the same command resumes, and every command reads them.

`tests/data/schema-N.duckdb.gz` was made by the program of that schema: two items of the sample at one and two
turns, by the demo (`RUN` below). `moderated-N.duckdb.gz` was made by `MODERATED_RUN` below, under a guard and a panel
of two judges; then eight replies were labelled with

    python -m safemt_client label --db demo.duckdb --n 8 --annotator a --export sample.csv
    # column label: unsafe for what begins with Sure, else safe
    python -m safemt_client label --db demo.duckdb --annotator a --import sample.csv

Their `dataset_path` is a neutral one, and they were checkpointed, so that each is one file.
"""

import gzip
import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

import safemt_client
from safemt_client.__main__ import main
from safemt_client.results.store.migrations import MIGRATIONS
from safemt_client.viewer.conversation import load
from safemt_client.viewer.filters import Filters
from safemt_client.viewer.queries import Queries
from safemt_client.viewer.snapshot import Snapshot

DATA = Path(__file__).resolve().parents[1] / "data"
VERSIONS = (1, 3, 6, 7, 10)
MODERATED_VERSIONS = (7,)
# What an upgrade makes of those between the oldest and the newest differs in nothing that a command looks at.
BETWEEN = (3, 6, 7)
PLAIN = [
    pytest.param(f"schema-{n}", marks=pytest.mark.slow) if n in BETWEEN else f"schema-{n}" for n in VERSIONS
]
MODERATED = [f"moderated-{n}" for n in MODERATED_VERSIONS]
RUN = ["--provider", "demo", "--limit", "2", "--turns", "1,2", "--db", "demo.duckdb"]
MODERATED_RUN = [
    *("--provider", "demo", "--limit", "4", "--turns", "1,2,6", "--db", "demo.duckdb", "--min-coverage", "0"),
    *(
        "--moderator",
        "none",
        "--moderator",
        "demo-guard",
        "--judge",
        "demo-judge",
        "--judge",
        "demo-judge-hasty",
    ),
]


COMMANDS = [
    ["report"],
    ["report", "--html", "report.html"],
    ["report", "--json"],
    ["runs"],
    ["sql", "SELECT * FROM asr_by_turn"],
    ["doctor"],
    ["judge", "--judge", "demo-judge", "--rubric", "by-scenario"],
    ["export", "--format", "reference", "--out", "out"],
]

Row = dict[str, object]
Upgraded = Callable[[str], Path]


def unpack(name: str, folder: Path) -> Path:
    path = folder / "demo.duckdb"
    path.write_bytes(gzip.decompress((DATA / f"{name}.duckdb.gz").read_bytes()))
    return path


@pytest.fixture(scope="session")
def upgraded(tmp_path_factory: pytest.TempPathFactory) -> Upgraded:
    """Each store after it was opened once; tests only read it."""

    @cache
    def made(name: str) -> Path:
        path = unpack(name, tmp_path_factory.mktemp(name))
        safemt_client.open(path).close()
        return path

    return made


def copied(path: Path, folder: Path) -> Path:
    return Path(shutil.copy(path, folder / "demo.duckdb"))


def asked(query: str, path: Path = Path("demo.duckdb")) -> list[Row]:
    with safemt_client.open(path) as store:
        found = store.sql(query)
        return [dict(zip(found.columns, row, strict=True)) for row in found]


@pytest.mark.parametrize("name", PLAIN)
def test_the_same_command_asks_no_target_again(
    name: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    unpack(name, here)
    assert main(RUN) == 0
    out = capsys.readouterr().out
    assert "demo: 0 calls to make, 4 in the store" in out
    found = asked("SELECT count(*) AS n, count(DISTINCT request_hash) AS d FROM turns")
    assert found == [{"n": 4, "d": 4}]
    scores = asked("SELECT length, unsafe, safe FROM asr_by_turn ORDER BY ALL")
    by_length = {(row["length"], row["unsafe"], row["safe"]) for row in scores}
    # Each run of the store says the same, the old one and what the same command makes now.
    assert len(by_length) == 2
    applied = asked("SELECT max(version) AS v, count(*) AS n FROM schema_migrations")
    assert applied == [{"v": len(MIGRATIONS), "n": len(MIGRATIONS)}]
    # And from now on nothing at all is left to do.
    assert main(RUN) == 0
    assert "0 verdicts to ask for, 4 in the store" in capsys.readouterr().out


@pytest.mark.parametrize("name", PLAIN)
def test_more_of_the_same_asks_only_what_is_new(
    name: str, upgraded: Upgraded, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copied(upgraded(name), here)
    assert main([*RUN, "--limit", "3"]) == 0
    assert "demo: 2 calls to make, 4 in the store" in capsys.readouterr().out


@pytest.mark.parametrize("name", MODERATED)
def test_guards_judges_and_people_are_not_asked_again(
    name: str, upgraded: Upgraded, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copied(upgraded(name), here)
    kept = " UNION ALL ".join(
        f"SELECT '{table}' AS name, count(*) AS n FROM {table}"
        for table in ("turns", "assessments", "moderations", "verdicts", "human_labels", "runs")
    )
    before = asked(kept)
    scores = asked("SELECT * FROM asr_by_turn ORDER BY ALL")
    detected = asked("SELECT * FROM detections ORDER BY ALL")
    assert {row["name"]: row["n"] for row in before} == {
        "turns": 28,
        "assessments": 12,
        "moderations": 12,
        "verdicts": 48,
        "human_labels": 8,
        "runs": 1,
    }
    assert main(MODERATED_RUN) == 0
    out = capsys.readouterr().out
    assert out.count(" 0 calls to make, 12 in the store") == 2
    assert "0 assessments at most" in out
    assert "0 verdicts to ask for, 24 in the store" in out
    assert asked(kept) == before
    assert asked("SELECT * FROM asr_by_turn ORDER BY ALL") == scores
    assert asked("SELECT * FROM detections ORDER BY ALL") == detected
    # Another sample leaves out what this annotator has labelled.
    assert (
        main(["label", "--db", "demo.duckdb", "--n", "24", "--annotator", "a", "--export", "more.csv"]) == 0
    )
    assert "16 replies" in capsys.readouterr().out


@pytest.mark.parametrize("name", PLAIN + MODERATED)
def test_resumed_judged_again_and_reported_it_asks_nothing(
    name: str, upgraded: Upgraded, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is there is found by the hashes of its time. Only what a judge of today has not said is asked, once."""
    copied(upgraded(name), here)
    words, judges = RUN, ["--judge", "demo-judge"]
    if name in MODERATED:
        words, judges = MODERATED_RUN, [*judges, "--judge", "demo-judge-hasty"]
    else:
        assert main(words) == 0
    counts = "SELECT (SELECT count(*) FROM turns) AS t, (SELECT count(*) FROM verdicts) AS v, "
    counts += "(SELECT count(*) FROM assessments) AS a"
    before = asked(counts)
    capsys.readouterr()
    for command in (words, ["judge", *judges, "--db", "demo.duckdb"]):
        # The panel is split over some replies.
        assert main(command) == (command[0] == "judge" and name in MODERATED)
        said = capsys.readouterr().out
        assert "0 verdicts to ask for, " in said
        assert " calls to make" not in said.replace(" 0 calls to make", "")
    assert main(["report", "--db", "demo.duckdb"]) == 0
    assert asked(counts) == before


@pytest.mark.parametrize("name", PLAIN + MODERATED)
def test_what_was_said_of_a_reply_knows_its_text(name: str, upgraded: Upgraded) -> None:
    for table, condition in (
        ("turns", "t.outcome NOT LIKE 'error_%'"),
        ("verdicts", "true"),
        ("human_labels", "true"),
        ("assessments", "stage = 'output'"),
    ):
        counted = asked(
            f"SELECT count(*) AS n, count(reply_hash) AS hashed FROM {table} t WHERE {condition}",
            upgraded(name),
        )
        assert counted[0]["n"] == counted[0]["hashed"], table
    wrong = asked(
        "SELECT count(*) AS n FROM verdicts v JOIN turns t USING (request_hash) "
        "WHERE v.reply_hash IS DISTINCT FROM sha256(t.text)",
        upgraded(name),
    )
    assert wrong == [{"n": 0}]


@pytest.mark.parametrize("name", PLAIN + MODERATED)
def test_what_was_really_sent_is_not_known_of_earlier_turns(name: str, upgraded: Upgraded) -> None:
    path = upgraded(name)
    turns = asked("SELECT count(*) AS n, count(parameters) AS sent, count(host) AS hosts FROM turns", path)
    assert turns[0]["n"]
    assert (turns[0]["sent"], turns[0]["hosts"]) == (0, 0)
    for table in ("sent_parameters", "endpoint_facts"):
        assert asked(f"SELECT count(*) AS n FROM {table}", path) == [{"n": 0}]
    others = "SELECT parameters FROM verdicts UNION ALL SELECT parameters FROM assessments"
    assert {row["parameters"] for row in asked(others, path)} == {None}


@pytest.mark.parametrize("name", MODERATED)
def test_who_decides_and_what_is_compared_is_known(name: str, upgraded: Upgraded) -> None:
    path = upgraded(name)
    judges = asked("SELECT name, role, position FROM run_judges ORDER BY position", path)
    assert [(row["name"], row["role"]) for row in judges] == [
        ("majority of demo-judge, demo-judge-hasty", "decides"),
        ("demo-judge", "member"),
        ("demo-judge-hasty", "member"),
    ]
    assert asked("SELECT judge, panel FROM deciding_judges", path) == [
        {"judge": judges[0]["name"], "panel": "majority"}
    ]
    assert asked("SELECT target, baseline FROM baselines", path) == [
        {"target": "demo + demo-guard", "baseline": "demo"}
    ]


@pytest.mark.parametrize("name", MODERATED)
def test_more_items_ask_the_guard_only_for_what_is_new(
    name: str, upgraded: Upgraded, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copied(upgraded(name), here)
    assert main([*MODERATED_RUN, "--limit", "5"]) == 0
    assert capsys.readouterr().out.count(" 3 calls to make, 12 in the store") == 2
    assert asked("SELECT count(DISTINCT assessment_hash) AS n, count(*) AS m FROM assessments") == [
        {"n": 15, "m": 15}
    ]


@pytest.mark.parametrize("words", COMMANDS, ids=lambda words: " ".join(words[:2]))
def test_each_command_upgrades_and_reads_it(
    words: list[str], here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*words, "--db", str(unpack(PLAIN[0], here))]) == 0, capsys.readouterr()
    assert capsys.readouterr().out


@pytest.mark.parametrize("name", PLAIN[1:] + MODERATED)
def test_commands_read_it(
    name: str, upgraded: Upgraded, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = copied(upgraded(name), here)
    for words in COMMANDS:
        assert main([*words, "--db", str(path)]) == 0, (words, capsys.readouterr())
        assert capsys.readouterr().out, words


@pytest.mark.parametrize(
    "words",
    [
        ["compare"],
        ["leaderboard"],
        ["report", "--analysis", "moderator"],
        ["export", "--format", "parquet", "--out", "out"],
        ["export", "--format", "inspect", "--out", "out"],
    ],
    ids=lambda words: " ".join(words[:3]),
)
@pytest.mark.parametrize("name", MODERATED)
def test_commands_read_what_was_moderated(
    name: str, words: list[str], upgraded: Upgraded, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*words, "--db", str(copied(upgraded(name), here))]) == 0, capsys.readouterr()
    assert capsys.readouterr().out


@pytest.mark.parametrize("name", MODERATED)
def test_the_viewer_shows_what_was_moderated(name: str, here: Path) -> None:
    snapshot = Snapshot(unpack(name, here))
    try:
        snapshot.refresh(wait=True)
        queries = Queries(snapshot)
        [run] = queries.runs()
        assert (run["conversations"], run["pending"]) == (24, 0)
        rows = queries.page(Filters(run=run["run_id"]), 1, 100).rows
        shown = [load(queries, row["run_id"], row["target_key"], row["dialogue_key"]) for row in rows]
    finally:
        snapshot.close()
    turns = [found.last for found in shown if found is not None and found.last is not None]
    assert len(turns) == 24
    assert all(len(turn.verdicts) == 3 for turn in turns)
    assert sum(len(turn.assessments) for turn in turns) == 12
    assert {label["annotator"] for turn in turns for label in turn.people} == {"a"}


def test_no_store_is_large() -> None:
    assert {path.name for path in DATA.glob("*.duckdb.gz")} == {
        *(f"schema-{n}.duckdb.gz" for n in VERSIONS),
        *(f"{name}.duckdb.gz" for name in MODERATED),
    }
    assert all(path.stat().st_size < 300_000 for path in DATA.glob("*.duckdb.gz"))
