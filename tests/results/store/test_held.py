"""A store whose file is renamed, removed or overwritten while it is open: that is told, and rows are kept."""

import os
import shlex
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from safemt_client.results.store.errors import StoreMovedError
from safemt_client.results.store.reader import open_reader
from safemt_client.results.store.rows import EventRow
from safemt_client.results.store.store import Store

ROOT = Path(__file__).resolve().parents[3]
HOLD = """
import os, sys
from datetime import UTC, datetime
from pathlib import Path
from safemt_client.results.store.rows import EventRow
from safemt_client.results.store.store import Store
store = Store.open(Path(sys.argv[1]))
store.save_now(EventRow("theirs", "s", datetime.now(UTC), "started", "{}"))
print("ready", flush=True)
input()
"""


def event(name: str) -> EventRow:
    return EventRow("r", "s", datetime(2026, 1, 1, tzinfo=UTC), name, "{}")


def events(path: Path) -> list[str]:
    with open_reader(path) as reader:
        return [row[0] for row in reader.query("SELECT event FROM run_events ORDER BY 1").rows]


def renamed(path: Path) -> None:
    path.rename(path.with_name("new name.duckdb"))


def renamed_with_its_log(path: Path) -> None:
    renamed(path)
    Path(f"{path}.wal").rename(path.with_name("new name.duckdb.wal"))


def folder_renamed(path: Path) -> None:
    path.parent.rename(path.parent.with_name("elsewhere"))


def removed(path: Path) -> None:
    path.unlink()


def removed_with_its_log(path: Path) -> None:
    path.unlink()
    Path(f"{path}.wal").unlink()


def replaced(path: Path) -> None:
    other = path.with_name("other")
    other.write_bytes(b"another file")
    os.replace(other, path)


@pytest.mark.parametrize(
    "happens", [renamed, renamed_with_its_log, folder_renamed, removed, removed_with_its_log, replaced]
)
def test_all_rows_are_where_the_message_says(
    happens: Callable[[Path], None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "folder" / "d.duckdb"
    path.parent.mkdir()
    store = Store.open(path)
    store.save_now(event("before"))
    store.check()
    happens(path)
    with pytest.raises(StoreMovedError):
        store.save_now(event("meanwhile"))
    with pytest.raises(StoreMovedError) as caught:
        store.close()
    where = Path(shlex.split(str(caught.value))[-1])
    assert events(where) == ["before", "meanwhile"]
    # Nothing is left that would be taken for the log of the file, there or at the old name.
    with Store.open(where) as again:
        again.save_now(event("since"))
    assert events(where) == ["before", "meanwhile", "since"]
    assert not Path(f"{path}.wal").exists()
    assert capsys.readouterr().err == ""
    if happens is replaced:
        assert path.read_bytes() == b"another file"


@pytest.mark.parametrize("content", [b"", b"another file" * 10_000])
def test_what_overwrote_a_store_is_left_as_it_is(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "d.duckdb"
    store = Store.open(path)
    store.save_now(event("before"))
    path.write_bytes(content)
    with pytest.raises(StoreMovedError, match="overwritten"):
        store.check()
    with pytest.raises(StoreMovedError) as caught:
        store.close()
    assert path.read_bytes() == content
    (aside,) = tmp_path.glob("*.overwritten-*")
    assert str(aside) in str(caught.value)
    assert b"before" in aside.read_bytes()


def test_a_run_that_has_taken_the_name_loses_neither_its_log_nor_where_to_ask_it(tmp_path: Path) -> None:
    path = tmp_path / "d.duckdb"
    store = Store.open(path)
    store.save_now(event("mine"))
    path.rename(tmp_path / "mine.duckdb")
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"ready\n"
        with pytest.raises(StoreMovedError):
            store.close()
        # Asked while it runs, and then left behind by a kill.
        assert events(path) == ["started"]
        other.kill()
    assert events(path) == ["started"]
    assert events(tmp_path / "mine.duckdb") == ["mine"]
    assert not list(tmp_path.glob("*.kept-*"))


def test_a_store_with_a_second_name_and_a_new_time_is_where_it_was(tmp_path: Path) -> None:
    path = tmp_path / "d.duckdb"
    with Store.open(path) as store:
        store.save_now(event("one"))
        os.link(path, tmp_path / "second.duckdb")
        os.utime(path)
        store.save_now(event("two"))
    assert events(path) == ["one", "two"]
