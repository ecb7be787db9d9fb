"""Disks that are full, stores that are read-only or damaged: one line, nothing deleted, the same command resumes."""

import ctypes
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support.forked import Forked, finished, forked
from support.program import ROOT, at_once
from support.waiting import until

STORE = Path("d.duckdb")
LOG = Path("d.duckdb.wal")
TURNS = 75
RUN = ("--provider", "demo", "--quiet", "--db", str(STORE))

pytestmark = pytest.mark.usefixtures("here")


def safemt(*words: str, before: str = "") -> subprocess.CompletedProcess[str]:
    """A command; where something is done to its process before, in one of its own."""
    return finished(*words, before=before, COLUMNS="200") if before else at_once(*words)


def one_line(done: subprocess.CompletedProcess[str], *said: str, status: int = 2) -> None:
    assert done.returncode == status, done.stderr
    assert len(done.stderr.splitlines()) == 1, done.stderr
    for words in said:
        assert words in done.stderr


def resumes(*words: str) -> None:
    """The command ends well, and the store keeps its promises."""
    done = safemt(*(words or RUN))
    assert done.returncode == 0, done.stdout + done.stderr
    is_whole(words[-1] if words else str(STORE))


def is_whole(path: str = str(STORE)) -> None:
    """After the command has ended well: the store keeps its promises."""
    assert turns(path) == TURNS
    assert safemt("doctor", "--db", path).returncode == 0


def turns(path: str | Path = STORE) -> int:
    asked = safemt(
        *("sql", "SELECT count(DISTINCT request_hash) AS n FROM turns WHERE outcome = 'answered'"),
        *("--db", str(path), "--format", "json"),
    )
    assert asked.returncode == 0, asked.stderr
    return int(json.loads(asked.stdout)[0]["n"])


@contextmanager
def running() -> Iterator[Forked]:
    """A slow run that has some turns in its log."""
    process = forked(*RUN, "--rpm", "600", COLUMNS="200")
    try:
        until(Path("d.duckdb.server").exists, process)
        until(lambda: turns() >= 3, process, pause_s=0.05)
        yield process
    finally:
        process.kill()
        process.communicate()


@pytest.fixture(scope="module")
def left(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a kill leaves: a store with a log that holds turns."""
    folder = tmp_path_factory.mktemp("left")
    before = Path.cwd()
    os.chdir(folder)
    try:
        with running() as process:
            process.send_signal(signal.SIGKILL)
        assert LOG.stat().st_size > 10_000
    finally:
        os.chdir(before)
    return folder


@pytest.fixture
def killed(left: Path) -> int:
    """That store in this folder; how many turns it holds."""
    for path in (STORE, LOG):
        shutil.copy(left / path, path)
    return turns()


def files_of(size: int) -> str:
    return f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, ({size}, {size}))"


def without_privilege(*words: str) -> subprocess.CompletedProcess[str]:
    """Root may write anywhere: a new program gives that up (CAP_DAC_OVERRIDE), a fork would not."""
    return subprocess.run(
        [sys.executable, "-m", "safemt_client", *words],
        env=os.environ | {"PYTHONPATH": str(ROOT), "COLUMNS": "200"},
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
        preexec_fn=lambda: ctypes.CDLL(None).prctl(24, 1, 0, 0, 0),
    )


@contextmanager
def mounted(folder: Path, kilobytes: int) -> Iterator[Path]:
    """A small disk; skips where mounting is not allowed."""
    folder.mkdir()
    words = ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(words, check=False, capture_output=True).returncode:
        pytest.skip("may not mount")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.parametrize("size", [0, 100, 8192, 100_000])
def test_a_disk_that_is_full_from_the_start(size: int) -> None:
    one_line(
        safemt(*RUN, before=files_of(size)),
        "the disk is full: free some space and run the same command again",
    )
    resumes()


def test_a_disk_that_fills_while_it_runs(killed: int) -> None:
    # Opened once, so that its log is in the file; then the new log may grow by some turns.
    assert safemt(*RUN, "--limit", "1").returncode == 0
    size = STORE.stat().st_size
    with mounted(Path("disk"), size // 1024 + 120) as disk:
        shutil.copy(STORE, disk / STORE)
        words = (*RUN[:-1], str(disk / STORE))
        full = safemt(*words)
        one_line(full, "No space left", "what was committed", status=1)
        assert turns(disk / STORE) >= killed
        subprocess.run(["mount", "-o", "remount,size=64m", str(disk)], check=True)
        resumes(*words)


def test_a_disk_that_is_full_at_the_last_checkpoint() -> None:
    done = safemt(*RUN, before=files_of(1_000_000))
    one_line(done, "what was committed is in its WAL", status=1)
    assert turns() == TURNS
    resumes()


@pytest.mark.parametrize("name", ["d.duckdb", "d.duckdb.wal", "."])
def test_what_may_not_be_written(name: str, killed: int) -> None:
    path = Path(name)
    mode = path.stat().st_mode & 0o777
    path.chmod(mode & 0o555)
    try:
        done = without_privilege(*RUN)
    finally:
        path.chmod(mode)
    one_line(done, "not writable: change its permissions")
    assert turns() == killed
    resumes()


def test_a_disk_that_is_read_only(killed: int) -> None:
    with mounted(Path("disk"), 64 * 1024) as disk:
        for path in (STORE, LOG):
            shutil.copy(path, disk)
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        words = (*RUN[:-1], str(disk / STORE))
        one_line(safemt(*words), "not writable")
        subprocess.run(["mount", "-o", "remount,rw", str(disk)], check=True)
        assert turns(disk / STORE) == killed
        resumes(*words)


def test_something_in_the_place_of_the_file_that_says_where_to_ask() -> None:
    Path("d.duckdb.server").mkdir()
    one_line(safemt(*RUN), "d.duckdb.server")
    Path("d.duckdb.server").rmdir()
    resumes()


@pytest.mark.parametrize("share", [0.3, 0.7, 1.0])
def test_a_log_that_is_cut_short_gives_what_is_whole(share: float, killed: int) -> None:
    content = LOG.read_bytes()[: int(LOG.stat().st_size * share) - 1]
    LOG.write_bytes(content)
    done = safemt(*RUN)
    assert done.returncode == 0, done.stderr
    # What DuckDB would drop without a word is kept and named.
    (aside,) = Path().glob("*.unreadable-*")
    assert content.endswith(aside.read_bytes())
    assert len(done.stderr.splitlines()) == 1
    assert aside.name in done.stderr
    is_whole()


def test_a_whole_log_is_taken_without_a_word(killed: int) -> None:
    done = safemt(*RUN)
    assert (done.returncode, done.stderr) == (0, "")
    assert not list(Path().glob("*.unreadable-*"))
    assert turns() == TURNS


@pytest.mark.parametrize("byte", [b"\x00", b"\xff"])
def test_a_log_of_nonsense_is_kept_whole(byte: bytes, killed: int) -> None:
    LOG.write_bytes(byte * 9000)
    done = safemt(*RUN)
    assert done.returncode == 0, done.stderr
    (aside,) = Path().glob("*.unreadable-*")
    assert aside.read_bytes() == byte * 9000
    assert aside.name in done.stderr
    is_whole()


def test_a_log_that_cannot_be_replayed_is_set_aside_by_name(killed: int) -> None:
    content = bytearray(LOG.read_bytes())
    content[len(content) // 3 :] = b"\xff" * (len(content) - len(content) // 3)
    LOG.write_bytes(content)
    done = safemt(*RUN)
    assert done.returncode == 0, done.stderr
    (aside,) = Path().glob("*.unreadable-*")
    assert aside.read_bytes() == content
    assert aside.name in done.stdout + done.stderr
    is_whole()


def test_a_log_set_aside_is_named_although_the_command_then_fails(killed: int) -> None:
    LOG.write_bytes(b"\xff" * 9000)
    done = safemt(*RUN, "--scenario", "none of these")
    assert done.returncode == 2
    (aside,) = Path().glob("*.unreadable-*")
    assert aside.name in done.stdout + done.stderr
    resumes()


def test_the_log_of_another_store(left: Path) -> None:
    resumes()
    shutil.copy(left / LOG, LOG)
    content = LOG.read_bytes()
    done = safemt(*RUN)
    asides = list(Path().glob("*.unreadable-*"))
    assert done.returncode == 0, done.stderr
    if asides:
        assert asides[0].read_bytes() == content
        assert asides[0].name in done.stdout + done.stderr
    is_whole()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "an empty file: remove it"),
        (b"hello", "not a DuckDB file"),
        (b"\0" * 20_000, "not a DuckDB file"),
        (b"SQLite format 3\0" + b"\0" * 9000, "not a DuckDB file"),
    ],
)
def test_a_file_that_is_no_store(content: bytes, said: str) -> None:
    STORE.write_bytes(content)
    one_line(safemt(*RUN), said)
    assert STORE.read_bytes() == content
    STORE.unlink()
    resumes()


@pytest.mark.parametrize(("begin", "end"), [(0, 8), (4096, 12288), (6000, None)])
def test_a_damaged_header_is_told_and_left_alone(begin: int, end: int | None, killed: int) -> None:
    whole = STORE.read_bytes()
    STORE.write_bytes(whole[:begin] + (b"" if end is None else b"\x55" * (end - begin) + whole[end:]))
    before, log = STORE.read_bytes(), LOG.read_bytes()
    # A file left behind by a killed run says where that run could be asked.
    Path("d.duckdb.server").write_text('{"port": 9, "token": "t", "pid": 1}')
    for words in (RUN, ("sql", "SELECT 1", "--db", "d.duckdb"), ("report", "--db", "d.duckdb")):
        one_line(safemt(*words), "damaged", "--salvage")
    one_line(safemt("doctor", "--db", "d.duckdb", "--salvage", "new.duckdb"), "restore a copy")
    assert (STORE.read_bytes(), LOG.read_bytes()) == (before, log)
    STORE.write_bytes(whole)
    assert turns() == killed
    resumes()


def test_a_copy_made_in_the_middle_of_a_run() -> None:
    with running():
        before = turns()
        for name in (STORE, LOG):
            shutil.copy(name, f"copy{name.suffix if name == STORE else '.duckdb.wal'}")
    copied = safemt("doctor", "--db", "copy.duckdb")
    if copied.returncode == 0:
        assert turns("copy.duckdb") >= before
    else:
        one_line(copied)
    resumes(*RUN[:-1], "copy.duckdb")
    resumes()


def test_two_runs_on_one_store() -> None:
    with running() as first:
        one_line(safemt(*RUN), "held by another run")
        assert first.poll() is None
        first.send_signal(signal.SIGINT)
        first.wait(30)
        assert first.returncode == 1
    resumes()


def test_two_ctrl_c_stop_at_once_with_one_line() -> None:
    with running() as process:
        process.send_signal(signal.SIGINT)
        # Two signals at once would be one: the first has been taken when the program says so.
        assert process.stdout is not None
        assert any("stopping" in line for line in process.stdout)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)
        assert process.returncode == 1
        assert "Traceback" not in err
        assert len(err.splitlines()) <= 1, err
    resumes()
