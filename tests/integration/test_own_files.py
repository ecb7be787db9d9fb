"""Files beside a store: nothing is written through a link, and no name acts on a screen."""

import os
import stat
import subprocess
from pathlib import Path

import pytest

from safemt_client.__main__ import main
from safemt_client.results.sanitize import quoted, shown_path
from safemt_client.results.store.wal import keep_unread
from safemt_client.telemetry.log import RunLog

pytestmark = pytest.mark.usefixtures("here")
RUN = ("--provider", "demo", "--judge", "none", "--limit", "1", "--turns", "1", "--quiet")
SCREEN = "\x1b[31m\u202e\n"


def refused(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    capsys.readouterr()
    assert main(list(words)) == 2
    err = capsys.readouterr().err
    assert len(err.splitlines()) == 1, err
    return err


@pytest.mark.parametrize(
    "command",
    [
        ("run", *RUN, "--log", "log"),
        ("moderate", "--upstream", "demo", "--moderator", "demo-guard+block", "--log", "log", "--port", "0"),
    ],
    ids=["run", "moderate"],
)
def test_a_log_is_not_written_through_a_link(
    command: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    Path("mine").write_text("mine")
    for target in ("mine", "missing"):
        Path("log").symlink_to(target)
        assert "log: is a link" in refused(capsys, *command)
        Path("log").unlink()
    assert Path("mine").read_text() == "mine"
    assert not Path("missing").exists()
    os.mkfifo("log")
    assert "log: is not a file" in refused(capsys, *command)


def test_a_log_of_another_user_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    Path("log").touch()
    try:
        os.chown("log", 65534, -1)
    except PermissionError:
        pytest.skip("may not give files away")
    assert "log: belongs to another user" in refused(capsys, *RUN, "--log", "log")
    assert Path("log").read_bytes() == b""


def test_a_log_is_its_owners_alone_and_its_parts_too() -> None:
    Path("log").touch(mode=0o644)
    Path("mine").write_text("mine")
    Path("log.1").symlink_to("mine")
    log = RunLog(Path("log"), run_id="r", session_id="s", most_bytes=500, kept=2)
    for _ in range(20):
        log.event("info", "something", text="x" * 60)
    log.close()
    assert log.lost == 0
    for part in ("log", "log.1", "log.2"):
        assert stat.S_IMODE(os.lstat(part).st_mode) == 0o600
        assert not Path(part).is_symlink()
    assert Path("mine").read_text() == "mine"


def test_what_is_left_of_a_write_ahead_log_is_kept_in_a_new_file(monkeypatch: pytest.MonkeyPatch) -> None:
    wal, warnings = Path("d.wal"), list[str]()
    wal.write_bytes(b"\x01" * 100)
    monkeypatch.setattr("safemt_client.results.store.wal.unread_log", lambda wal: b"unread")
    keep_unread(wal, warnings)
    (first,) = Path().glob("d.wal.unreadable-*")
    first.unlink()
    first.symlink_to("elsewhere")
    monkeypatch.setattr("safemt_client.results.store.wal._moment", lambda: first.name.partition("able-")[2])
    keep_unread(wal, warnings)
    assert not Path("elsewhere").exists()
    (second,) = [path for path in Path().glob("d.wal.unreadable-*") if path != first]
    assert second.read_bytes() == b"unread"
    assert stat.S_IMODE(second.stat().st_mode) == 0o600


def test_no_name_of_a_file_acts_on_a_screen(capsys: pytest.CaptureFixture[str]) -> None:
    db = f"d{SCREEN}.duckdb"
    words = ["--provider", "demo", "--judge", "none", "--limit", "1", "--turns", "1"]
    assert main([*words, "--db", db]) == 0
    assert main([*words, "--db", f"no{SCREEN}folder/d.duckdb"]) == 2
    assert main(["doctor", "--db", db]) == 0
    assert main(["report", "--db", db, "--md", f"r{SCREEN}.md"]) == 0
    assert main(["export", "--format", "csv", "--db", db, "--out", f"o{SCREEN}"]) == 0
    assert main(["label", "--db", db, "--export", f"l{SCREEN}.csv", "--n", "1", "--annotator", "me"]) in (
        0,
        2,
    )
    with pytest.raises(SystemExit):
        main(["runs", "--db", db, f"--{SCREEN}"])
    said = capsys.readouterr()
    for text in (said.out, said.err):
        assert "\x1b" not in text
        assert "\u202e" not in text
    assert "\\x1b[31m\\x202e\\x0a.duckdb" in said.out


def test_a_command_to_copy_names_the_same_file() -> None:
    for name in ("plain.duckdb", "with 'quotes' and \\ blanks", f"d{SCREEN}.duckdb", "o\udcff", "é\x85"):
        word = quoted(name)
        assert word.isprintable()
        done = subprocess.run(
            ["bash", "-c", f"printf %s {word}"], capture_output=True, check=True, env={"LC_ALL": "C.UTF-8"}
        )
        assert os.fsdecode(done.stdout) == name
    assert shown_path("a\n\udcff") == "a\\x0a\\xdcff"
