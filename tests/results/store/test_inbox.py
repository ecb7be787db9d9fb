"""Labels that wait for the store: on the disk at once, in the store once, whoever holds it and whatever is killed."""

import json
import os
import signal
import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from support.killed import killed

from safemt_client.providers.errors import InputError
from safemt_client.results.store.handing import hand_over
from safemt_client.results.store.inbox import inbox_file, put, waiting
from safemt_client.results.store.reader import open_reader
from safemt_client.results.store.rows import CommentRow, HumanLabelRow
from safemt_client.results.store.store import Store

ROOT = Path(__file__).resolve().parents[3]
START = datetime(2026, 1, 1, tzinfo=UTC)


def label(number: int, said: str = "safe", **more: object) -> HumanLabelRow:
    when = START + timedelta(microseconds=number)
    return HumanLabelRow(f"h{number}", "d", "s", "ada", said, when, "r", **more)  # type: ignore[arg-type]


COMMENT = CommentRow("c1", "run", "t", "d", "ada", "line one\nline 'two' \x1b é", START)


@pytest.fixture
def db(tmp_path: Path) -> Path:
    path = tmp_path / "d.duckdb"
    Store.open(path).close()
    return path


def stored(db: Path, **how: bool) -> list[str]:
    with open_reader(db, **how) as reader:
        return [
            row[0] for row in reader.query("SELECT request_hash FROM human_labels ORDER BY recorded_at").rows
        ]


def test_what_waits_is_taken_in_by_whoever_opens_the_store(db: Path) -> None:
    put(db, label(1, note="a\nb", refusal_kind="answer"), label(2, "unsure"))
    put(db, label(3, adjudicated=True), COMMENT)
    assert [type(row).__name__ for row in waiting(db)] == ["HumanLabelRow"] * 3 + ["CommentRow"]
    assert stored(db, take_in=False) == []
    assert stored(db) == ["h1", "h2", "h3"]
    assert not inbox_file(db).exists()
    with open_reader(db) as reader:
        assert reader.query("SELECT note, refusal_kind FROM human_labels WHERE request_hash = 'h1'").rows == [
            ("a\nb", "answer")
        ]
        assert reader.query("SELECT text, author FROM current_comments").rows == [(COMMENT.text, "ada")]
    put(db, label(4))
    Store.open(db).close()
    assert stored(db, take_in=False) == ["h1", "h2", "h3", "h4"]


def test_what_is_taken_in_twice_is_in_the_store_once(db: Path) -> None:
    put(db, label(1), label(2), COMMENT)
    before = inbox_file(db).read_bytes()
    assert hand_over(db) is None
    # As after a kill between the commit and the removal of the file.
    inbox_file(db).write_bytes(before)
    put(db, label(3))
    assert hand_over(db) is None
    assert stored(db) == ["h1", "h2", "h3"]
    with open_reader(db) as reader:
        assert reader.query("SELECT count(*) FROM comments").rows == [(1,)]


def test_a_line_that_a_kill_cut_off_costs_no_other(db: Path, capsys: pytest.CaptureFixture[str]) -> None:
    put(db, label(1))
    with inbox_file(db).open("ab") as file:
        file.write(b'{"kind": "label", "request_ha')
    put(db, label(2))
    assert stored(db) == ["h1", "h2"]
    # What cannot be read is kept, and said.
    (aside,) = db.parent.glob("d.duckdb.labels.unread-*")
    assert b'"request_ha\n' in aside.read_bytes()
    assert "some lines cannot be read" in capsys.readouterr().err


def test_the_process_that_holds_the_store_takes_them_in(db: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from safemt_client.results.store.store import Store\n"
        "with Store.open(Path(sys.argv[1])): print('open', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(db)],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "open\n"
        # More than are handed over at once, with what takes most room.
        put(db, *(label(n, note="é" * 4000) for n in range(45)))
        assert hand_over(db) is None
        assert not inbox_file(db).exists()
        assert len(stored(db)) == 45
        put(db, label(100))
        holder.send_signal(signal.SIGSTOP)
        holder.send_signal(signal.SIGKILL)
    # Killed before it was asked: they wait.
    assert [row.request_hash for row in waiting(db) if isinstance(row, HumanLabelRow)] == ["h100"]
    assert len(stored(db)) == 46


def test_a_store_held_by_a_program_that_takes_nothing_has_them_wait(
    db: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = (
        "import sys, duckdb; c = duckdb.connect(sys.argv[1], read_only=True); print('open', flush=True)\n"
        "sys.stdin.read()"
    )
    put(db, label(1))
    with subprocess.Popen(
        [sys.executable, "-c", code, str(db)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "open\n"
        assert "held by" in str(hand_over(db))
        assert stored(db) == []
        said = capsys.readouterr().err
        assert "people's labels wait in" in said
        assert len(said.splitlines()) == 1
        holder.communicate("")
    assert stored(db) == ["h1"]


def test_many_who_write_and_hand_over_at_once_lose_nothing(db: Path) -> None:
    def write(part: int) -> None:
        for n in range(25):
            put(db, label(part * 100 + n))

    def bring() -> None:
        while any(thread.is_alive() for thread in writers):
            hand_over(db)

    writers = [threading.Thread(target=write, args=(part,)) for part in range(4)]
    bringers = [threading.Thread(target=bring) for _ in range(2)]
    for thread in (*writers, *bringers):
        thread.start()
    for thread in (*writers, *bringers):
        thread.join()
    assert sorted(stored(db)) == sorted(f"h{part * 100 + n}" for part in range(4) for n in range(25))


def test_a_label_that_cannot_be_written_is_said_and_leaves_nothing(
    db: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(db, label(1))
    before = inbox_file(db).read_bytes()

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(InputError, match="No space left on device"):
        put(db, label(2))
    assert inbox_file(db).read_bytes() == before


@pytest.mark.parametrize(
    "place", ["safemt_client.results.store.inbox.settle", "safemt_client.results.store.inbox.take"]
)
def test_a_kill_while_they_are_taken_in_loses_and_doubles_none(place: str, here: Path) -> None:
    db = here / "d.duckdb"
    Store.open(db).close()
    put(db, *(label(n) for n in range(30)))
    statuses = killed(here, place, "runs", "--db", str(db))
    assert statuses[-1] == 0
    assert len(statuses) > 1
    assert stored(db) == [f"h{n}" for n in range(30)]
    assert not inbox_file(db).exists()


@pytest.mark.parametrize(
    "line", [b"{}", b"[]", b"null", json.dumps({"kind": "label", "annotator": 3}).encode(), b"\xff\xfe"]
)
def test_lines_of_others_are_kept_aside(line: bytes, db: Path) -> None:
    inbox_file(db).write_bytes(line + b"\n")
    assert stored(db) == []
    (aside,) = db.parent.glob("d.duckdb.labels.unread-*")
    assert aside.read_bytes() == line + b"\n"
