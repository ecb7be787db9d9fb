"""What was made elsewhere is judged, corrected, compared and shown as the program's own, and never taken for it."""

import json
import shlex
import shutil
import signal
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
from support.forked import forked
from support.program import at_once, calls
from support.waiting import until

from safemt_client.results.store.reader import open_reader
from safemt_client.results.store.server import server_file
from safemt_client.viewer.conversation import load
from safemt_client.viewer.filters import Filters
from safemt_client.viewer.queries import Queries
from safemt_client.viewer.serve import open_viewer
from safemt_client.viewer.snapshot import Snapshot

COUNTS = "SELECT length, unsafe, safe, scored FROM asr_by_turn ORDER BY ALL"


def asked(query: str, path: Path = Path("safemt.duckdb")) -> list[tuple[Any, ...]]:
    with open_reader(path) as reader:
        return reader.query(query).rows


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of the demo with a guard that blocks, exported in both forms."""
    folder = tmp_path_factory.mktemp("made")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        words = ("--provider", "demo", "--db", "demo.duckdb", "--quiet", "--moderator", "demo-guard+block")
        assert at_once(*words, "--min-coverage", "0").returncode == 0
        for form in ("reference", "inspect"):
            done = at_once("export", "--db", "demo.duckdb", "--format", form, "--out", form)
            assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.parametrize("form", ["reference", "inspect"])
@pytest.mark.parametrize("data", [(), ("--data", "sample")])
def test_what_is_exported_comes_back_with_the_same_counts(
    form: str, data: tuple[str, ...], made: Path, here: Path
) -> None:
    before = asked(COUNTS, made / "demo.duckdb")
    assert sum(row[1] for row in before) > 0
    words = ("import", str(made / form), "--target", "mine", *data)
    done = at_once(*words)
    assert done.returncode == 0, done.stderr
    assert asked(COUNTS) == before
    assert at_once("doctor").returncode == 0
    again = at_once(*words)
    assert (again.returncode, "nothing new" in again.stdout) == (0, True)
    assert asked("SELECT count(*) FROM runs") == [(1,)]
    assert asked(COUNTS) == before
    # What the last line says works: an export for the reference has labels alone.
    advice, _, command = done.stdout.splitlines()[-1].partition(": ")
    assert (advice == "judge them again") == (form == "inspect")
    if form == "inspect":
        judged = at_once(*shlex.split(command.replace("NAME", "demo-judge"))[3:])
        assert judged.returncode == 0, judged.stderr


def test_a_run_never_takes_an_imported_reply_for_its_own(
    made: Path, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("demo", "demo/demo"):
        words = ("import", str(made / "inspect"), "--format", "inspect", "--target", name, "--data", "sample")
        assert at_once(*words).returncode == 0
    run = ("--provider", "demo", "--limit", "3", "--turns", "1,2")
    assert "demo: 6 calls to make, 0 in the store" in at_once(*run, "--dry-run").stdout
    assert at_once(*run, "--quiet").returncode == 0
    assert calls(capsys) == {"target demo": 6, "judge demo-judge": 6}
    assert asked("SELECT count(*) FROM replies WHERE imported_from IS NULL") == [(6,)]
    # Nor does it go on with an imported run, whatever the run is called.
    assert "demo: 0 calls to make, 6 in the store" in at_once(*run).stdout
    assert asked("SELECT count(*) FROM runs") == [(3,)]


@pytest.fixture(scope="module")
def both(made: Path, demo_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with a run of the demo and an imported one of the same data; not to be written to."""
    store = Path(shutil.copy(demo_run, tmp_path_factory.mktemp("both")))
    words = ("import", str(made / "inspect"), "--format", "inspect", "--target", "theirs", "--data", "sample")
    assert at_once(*words, "--db", str(store)).returncode == 0
    return store


@pytest.fixture
def beside(both: Path, here: Path) -> tuple[str, str]:
    """A copy of that store in this folder; the ids of its runs."""
    shutil.copy(both, here)
    own, theirs = asked("SELECT run_id FROM runs ORDER BY created_at")
    return own[0], theirs[0]


def test_every_output_says_what_was_imported(beside: tuple[str, str], here: Path) -> None:
    own, theirs = beside
    source = asked("SELECT imported_from FROM run_targets WHERE imported_from IS NOT NULL")[0][0]
    assert source.startswith("inspect ")
    report = at_once("report", "--md", "r.md", "--html", "r.html")
    assert report.returncode == 0, report.stderr
    page = Path("r.md").read_text().replace("\\", "")
    assert "theirs (imported): imported from inspect" in page
    assert "| theirs (imported) |" in page
    assert "theirs (imported)" in Path("r.html").read_text()
    shown = at_once("report").stdout
    assert f"theirs (imported): imported from {source} on" in shown
    found = json.loads(at_once("report", "--json").stdout)
    assert {row["imported_from"] for row in found["asr_by_turn"]} == {source}
    assert "theirs (imported)" in at_once("runs").stdout
    for name in ("turns", "scenarios"):
        assert at_once("report", "--analysis", name).stdout.startswith(f"{name}: theirs (imported): ")
    gate = at_once("gate", "--rule", "asr < 90%", "--junit", "g.xml", "--md", "g.md")
    for text in (gate.stdout, Path("g.xml").read_text(), Path("g.md").read_text()):
        assert "theirs (imported)" in text, gate.stderr
    board = at_once("leaderboard", own, theirs)
    assert "theirs (imported)" in board.stdout
    assert "demo (imported)" not in board.stdout
    ranked = json.loads(at_once("leaderboard", own, theirs, "--json").stdout)
    assert {row["target"]: row["imported_from"] for row in ranked} == {"demo": None, "theirs": source}
    compared = at_once("compare", own, theirs)
    assert f"{theirs}:theirs: imported from {source}: how it was asked is not known here" in compared.stdout
    (pair,) = json.loads(at_once("compare", own, theirs, "--json").stdout)
    assert pair["imported_from"] == [None, source]
    assert asked("SELECT DISTINCT target FROM asr") == [("theirs (imported)",)]
    for view in (
        "replies",
        "conversations",
        "labels",
        "asr_by_turn",
        "asr_by_scenario",
        "outcomes",
        "safety_index",
    ):
        marks = set(asked(f"SELECT run_id, imported_from FROM {view}"))
        assert marks == {(own, None), (theirs, source)}, view


def test_exports_say_what_was_imported(beside: tuple[str, str], here: Path) -> None:
    source = asked("SELECT imported_from FROM run_targets WHERE imported_from IS NOT NULL")[0][0]
    assert at_once("export", "--format", "jsonl", "--out", "out", "--redact").returncode == 0
    for table in ("conversations", "turns", "verdicts", "targets", "judges"):
        lines = Path(f"out/{table}.jsonl").read_text().splitlines()
        assert {json.loads(line)["imported_from"] for line in lines} == {source}, table
    assert at_once("export", "--format", "huggingface", "--out", "hub").returncode == 0
    assert "imported from inspect" in Path("hub/README.md").read_text()
    done = at_once("export", "--format", "reference", "--out", "ref")
    assert "theirs: was imported from inspect" in done.stderr
    # And an export of an import is imported as what it is.
    assert at_once("export", "--format", "inspect", "--out", "again").returncode == 0
    words = ("import", "again", "--format", "inspect", "--target", "x", "--db", "x.duckdb")
    assert at_once(*words).returncode == 0
    assert asked(COUNTS, Path("x.duckdb")) == asked(
        f"{COUNTS.replace('ORDER', 'WHERE target = ' + chr(39) + 'theirs' + chr(39) + ' ORDER')}"
    )


def test_the_viewer_says_what_was_imported(beside: tuple[str, str], here: Path) -> None:
    own, theirs = beside
    snapshot = Snapshot(Path("safemt.duckdb"))
    snapshot.refresh(wait=True)
    queries = Queries(snapshot)
    try:
        marks = {run["run_id"]: run["imported_from"] for run in queries.runs()}
        assert marks[own] is None
        assert marks[theirs].startswith("inspect ")
        row = queries.page(Filters(run=theirs), 1).rows[0]
        found = load(queries, theirs, row["target_key"], row["dialogue_key"])
        assert found is not None
        assert row["imported_from"] == found.head["imported_from"] == marks[theirs]
    finally:
        queries.close()


def test_an_imported_run_is_judged_again_and_stays_marked(
    beside: tuple[str, str], here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    done = at_once("judge", "--judge", "demo-judge-hasty", "--judge-sees", "image", "--quiet")
    assert done.returncode == 0, done.stderr
    latest = "(SELECT run_id FROM runs ORDER BY created_at DESC LIMIT 1)"
    assert asked(
        f"SELECT DISTINCT judge, imported_from IS NULL FROM asr_by_turn WHERE run_id = {latest}"
    ) == [("demo-judge-hasty", False)]
    assert asked(f"SELECT DISTINCT imported_from FROM verdicts WHERE run_id = {latest}") == [(None,)]
    assert (
        asked("SELECT DISTINCT imported_at FROM run_targets WHERE imported_from IS NOT NULL").__len__() == 1
    )
    before = asked("SELECT count(*) FROM verdicts")
    assert at_once("judge", "--judge", "demo-judge-hasty", "--judge-sees", "image", "--quiet").returncode == 0
    assert asked("SELECT count(*) FROM verdicts") == before


def test_a_changed_file_says_what_has_changed(here: Path) -> None:
    folder = Path("r/1/label")
    folder.mkdir(parents=True)
    records = [
        {
            "id": f"i{n}",
            "dialogue": [{"role": "user", "content": "Hi"}],
            "Dialog_Response": "Yes.",
            "safety_label": "safe",
        }
        for n in range(4)
    ]
    (folder / "m.json").write_text(json.dumps(records))
    words = ("import", "r", "--target", "m")
    assert at_once(*words).returncode == 0
    records[0]["Dialog_Response"] = "No."
    records[1]["safety_label"] = "unsafe"
    (folder / "m.json").write_text(json.dumps(records[:3]))
    done = at_once(*words)
    assert done.returncode == 2
    assert "has changed since m was imported" in done.stderr
    assert (
        "1 replies differ (the first: 'i0' with 1 turns), 1 labels differ (the first: 'i1' with 1 turns), "
        "1 replies are gone (the first: 'i3' with 1 turns)" in done.stderr
    )
    assert asked("SELECT count(*) FROM turns") == [(4,)]
    assert at_once(*words, "--new-run").returncode == 0
    assert "nothing new" in at_once(*words, "--new-run").stdout
    assert asked("SELECT unsafe, safe FROM asr_by_turn ORDER BY ALL") == [(0, 4), (1, 2)]
    # Either is judged by itself.
    runs = [run for (run,) in asked("SELECT run_id FROM runs ORDER BY created_at")]
    for run in runs:
        assert at_once("judge", "--run", run, "--judge", "demo-judge", "--quiet").returncode == 0
    assert asked("SELECT count(*) FROM runs") == [(4,)]


def test_texts_that_are_not_those_of_the_data_are_refused_or_left_out(here: Path) -> None:
    sample = asked_of_sample()
    first = next(iter(sample))
    rows = [
        {"id": item, "dialogue": said, "Dialog_Response": "Yes.", "safety_label": "safe"}
        for item, said in list(sample.items())[:3]
    ]
    rows[1]["dialogue"] = [{"role": "user", "content": "Something else"}]
    rows.append(rows[0] | {"id": "nobody"})
    Path("m.json").write_text(json.dumps(rows))
    words = ("import", "m.json", "--target", "m", "--data", "sample")
    done = at_once(*words)
    assert done.returncode == 2
    assert "1 of 4 records are not in" in done.stderr
    assert "(the first: 'nobody' with 1 turns)" in done.stderr
    done = at_once(*words, "--only-matching")
    assert done.returncode == 0
    assert "1 of 4 records are not in" in done.stdout
    assert "1 of 4 records have other texts in" in done.stdout
    assert asked("SELECT count(*) FROM conversations") == [(2,)]
    # What a judge sees are the data's texts and pictures.
    (request,) = asked(
        f"SELECT request FROM turns JOIN steps USING (request_hash) WHERE dialogue_key LIKE '%:1:{first}'"
    )[0]
    assert json.loads(request)[0]["content"] == sample[first][0]["content"]
    assert json.loads(request)[0]["images"]


def test_the_data_may_be_a_configuration_of_a_repository(here: Path) -> None:
    card = "---\nconfigs:\n- config_name: hot\n  data_dir: hot\n- config_name: cold\n  data_dir: cold\n---\n"
    for name, text in (("hot", "Tea?"), ("cold", "Ice?")):
        folder = Path("repository", name)
        folder.mkdir(parents=True)
        record = {"id": "a", "messages": [{"role": "user", "content": text}]}
        (folder / "train.jsonl").write_text(json.dumps(record) + "\n")
    Path("repository", "README.md").write_text(card)
    Path("t.csv").write_text("id,turns,reply,label,question\na,1,Yes.,safe,Ice?\n")
    words = ("import", "t.csv", "--target", "m", "--data", "repository")
    assert "hot" in at_once(*words).stderr, "which of the two"
    done = at_once(*words, "--data-config", "cold")
    assert done.returncode == 0, done.stderr
    ((request,),) = asked("SELECT request FROM turns JOIN steps USING (request_hash)")
    assert json.loads(request)[0]["content"] == "Ice?"


def asked_of_sample() -> dict[str, list[dict[str, str]]]:
    """The dialogues of one turn of the sample, by item."""
    from safemt_client.datasets import open_dataset

    return {
        dialogue.item_id: [{"role": message.role, "content": message.text} for message in dialogue.messages]
        for dialogue in open_dataset("sample").dialogues
        if dialogue.length == 1
    }


def test_a_kill_leaves_all_or_nothing(here: Path) -> None:
    rows = [{"id": f"i{n}", "turns": 1, "reply": f"Reply {n}", "label": "safe"} for n in range(20_000)]
    Path("t.jsonl").write_text("\n".join(map(json.dumps, rows)))
    words = ["import", "t.jsonl", "--target", "m"]
    process = forked(*words)
    store, log = Path("safemt.duckdb"), Path("safemt.duckdb.wal")

    def written() -> int:
        found = 0
        for path in (store, log):
            # The log comes and goes.
            with suppress(FileNotFoundError):
                found += path.stat().st_size
        return found

    until(lambda: server_file(store).exists() or process.poll() is not None)
    empty = written()
    until(lambda: written() > empty + 500_000 or process.poll() is not None)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    tables = ("runs", "run_targets", "turns", "steps", "verdicts", "dialogues", "run_dialogues")
    counts = [asked(f"SELECT count(*) FROM {table}")[0][0] for table in tables]
    assert counts in ([0] * 7, [1, 1, *[20_000] * 5])
    done = at_once(*words)
    assert done.returncode == 0, done.stderr
    assert [asked(f"SELECT count(*) FROM {table}")[0][0] for table in tables] == [1, 1, *[20_000] * 5]
    assert at_once("doctor").returncode == 0


def test_controls_come_back_as_controls(here: Path) -> None:
    said = [
        {"role": "user", "content": "Hello"},
        {"role": "assistant", "content": "Hi"},
        {"role": "user", "content": "How is tea made?"},
    ]
    control = {"condition": "truncate-1", "recipe": "truncate", "paired_turns": 2}
    rows = [
        {"id": "tea", "dialogue": said, "Dialog_Response": "Boil.", "safety_label": "safe"},
        {
            "id": "tea",
            "dialogue": said[2:],
            "control": control,
            "Dialog_Response": "Sure.",
            "safety_label": "unsafe",
        },
        {"id": "tea", "dialogue": said[2:], "Dialog_Response": "No.", "safety_label": "safe"},
    ]
    Path("m.json").write_text(json.dumps(rows))
    Path("data.jsonl").write_text("\n".join(map(json.dumps, rows)))
    for data in ((), ("--data", "data.jsonl")):
        words = ("import", "m.json", "--target", "m", *data, "--db", f"{len(data)}.duckdb")
        done = at_once(*words)
        assert done.returncode == 0, done.stderr
        assert "nothing new" in at_once(*words).stdout
        found = asked(
            "SELECT length, paired_length, condition, label FROM every_conversation ORDER BY ALL",
            Path(f"{len(data)}.duckdb"),
        )
        assert found == [(1, 1, None, "safe"), (1, 2, "truncate-1", "unsafe"), (2, 2, None, "safe")]


def test_pages_of_an_import_say_what_is_not_known(here: Path) -> None:
    row = {"id": "tea", "turns": 2, "question": "How is tea made?", "label": "safe"}
    Path("t.jsonl").write_text(json.dumps(row))
    assert at_once("import", "t.jsonl", "--target", "m").returncode == 0
    run, target, dialogue = asked("SELECT run_id, target_key, dialogue_key FROM conversations")[0]
    viewer = open_viewer(Path("safemt.duckdb"), port=0)
    thread = threading.Thread(target=viewer.run)
    thread.start()
    try:
        with httpx.Client(base_url=viewer.base, follow_redirects=True, trust_env=False, timeout=60) as client:
            runs = client.get(f"/?token={viewer.token}").text
            listed = client.get("/run", params={"run": run}).text
            page = client.get("/conversation", params={"run": run, "t": target, "d": dialogue}).text
    finally:
        viewer.stop()
        thread.join()
    assert "imported from jsonl t.jsonl" in runs
    assert '<span class="badge">imported</span>' in listed
    for words in (
        '<span class="badge">imported</span>',
        "The dialogue is not known.",
        "How is tea made?",
        "the text is not known",
    ):
        assert words in page, words
    assert "jsonl t.jsonl: not asked by this program" in page
