"""doctor: what it finds of a store and of an endpoint, and what it saves of a damaged file."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import duckdb
import pytest
from support.faults import Behaviour, answer, error, response
from support.program import ROOT, against

from safemt_client.__main__ import main
from safemt_client.providers.errors import InputError
from safemt_client.results.store.salvage import salvage
from safemt_client.results.store.store import Store

pytestmark = pytest.mark.usefixtures("here")
STORE = Path("safemt.duckdb")
# Where not every block is damaged in turn: one in so many.
PROBE = 6


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The store of a run of the demo, not to be changed."""
    path = tmp_path_factory.mktemp("doctor") / STORE
    words = ["--provider", "demo", "--moderator", "none", "--moderator", "demo-guard", "--quiet"]
    assert main([*words, "--db", str(path)]) == 0
    return path


@pytest.fixture
def store(demo: Path, here: Path) -> Path:
    """A copy of it in the current folder."""
    return Path(shutil.copy(demo, here / STORE))


@pytest.mark.usefixtures("store")
def test_a_sound_store(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor"]) == 0
    out = capsys.readouterr().out
    assert "every turn's hash matches what was sent" in out
    assert "\n  no " not in out


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            "DELETE FROM turns WHERE request_hash = (SELECT min(request_hash) FROM steps)",
            "every step has its turn",
        ),
        (
            "UPDATE turns SET request = replace(request, 'the', 'a')",
            "every turn's hash matches what was sent",
        ),
        ("UPDATE turns SET attempt = 2", "attempts are counted without a gap"),
        ("DELETE FROM assessments", "every moderation has its assessment"),
        ("INSERT INTO turns SELECT * FROM turns LIMIT 1", "no request was answered twice"),
    ],
)
def test_a_broken_promise_is_named(
    change: str, said: str, store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with duckdb.connect(store) as connection:
        connection.execute(change)
    assert main(["doctor"]) == 1
    assert f"no {said}" in capsys.readouterr().out


def test_an_endpoint(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--provider", "demo"]) == 0
    assert "ok accepts pictures" in capsys.readouterr().out
    # The first call answers, a picture is refused, so is a schema, and there are no probabilities.
    script = [answer("yes"), error(400, "no_images"), error(400, "no_schema"), answer("yes"), answer("yes")]
    status, endpoint = against(script, None, "doctor", "--provider", "m@URL")
    out = Path("out").read_text()
    assert status == 1, out
    assert len(endpoint.requests) == 5
    assert "ok answers" in out
    assert "no accepts pictures: --images off" in out
    assert "-- accepts a JSON schema: a judge works without it" in out
    assert "sk-planted-42" not in out


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        (answer("<think>hm</think>yes"), "it is in the text"),
        (answer("hm</think>yes"), "add --reasoning on"),
        (answer("", reasoning="yes"), "may swallow answers"),
        (answer("", "length", reasoning="hm"), "leave it room with --max-tokens"),
    ],
)
def test_reasoning_in_the_reply_is_a_hint(reply: Behaviour, said: str) -> None:
    status, _ = against([], reply, "doctor", "--provider", "m@URL")
    out = Path("out").read_text()
    assert status == 0
    assert out.count("keeps reasoning apart") == 1
    assert said in out


def test_what_is_negotiated_is_shown() -> None:
    script = [error(400, "unsupported_value", "'temperature' is not supported")]
    status, _ = against(script, answer("yes"), "doctor", "--provider", "m@URL")
    out = " ".join(Path("out").read_text().split())
    assert status == 0, out
    assert "-- takes temperature: temperature 0 is left out: the endpoint's default applies" in out


def test_a_wrong_key_needs_one_call_only() -> None:
    status, endpoint = against([error(401, "invalid_api_key")], None, "doctor", "--provider", "m@URL")
    out = Path("out").read_text()
    assert status == 1
    assert len(endpoint.requests) == 1
    assert "no answers" in out
    assert "Traceback" not in out


def test_stated_limits_are_shown() -> None:
    body = {"choices": [{"message": {"content": "yes"}, "finish_reason": "stop"}]}
    limited = response(200, body, x_ratelimit_limit_requests="500", x_ratelimit_remaining_requests="499")
    status, _ = against([], limited, "doctor", "--provider", "m@URL")
    out = Path("out").read_text()
    assert status == 0, out
    assert "ok reports its limits" in out
    assert "500" in out


def rows(path: Path) -> dict[str, int]:
    with duckdb.connect(path, read_only=True) as connection:
        return {
            table: connection.execute(f"SELECT count(*) FROM {table}").fetchall()[0][0]
            for table in ("turns", "verdicts", "steps", "dialogues")
        }


@pytest.mark.parametrize("every", [PROBE, pytest.param(1, marks=pytest.mark.slow)])
def test_what_can_be_read_of_a_damaged_store_is_saved(every: int, store: Path, tmp_path: Path) -> None:
    whole = rows(store)
    size = store.stat().st_size
    partly, refused = 0, []
    for number, begin in enumerate(range(3 * 4096, size, 262144 * every)):
        damaged, saved = tmp_path / "damaged.duckdb", tmp_path / f"saved-{number}.duckdb"
        shutil.copy(store, damaged)
        with damaged.open("r+b") as file:
            file.seek(begin + 1000)
            file.write(b"\x55" * 3000)
        before = damaged.read_bytes()
        try:
            found = salvage(damaged, saved)
        except InputError as error:
            refused.append(str(error))
            assert not saved.exists()
        else:
            kept = rows(saved)
            assert all(kept[table] <= whole[table] for table in whole)
            lost = [table for table in found if table.saved != table.rows]
            partly += bool(lost) and sum(kept.values()) > 0
        assert damaged.read_bytes() == before, "the damaged file was written"
    assert all(len(line.splitlines()) == 1 for line in refused)
    assert partly, "no damage was partial: the test shows nothing"


def test_salvage_goes_on_without_a_log_that_cannot_be_replayed(
    store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = rows(store)
    Path("safemt.duckdb.wal").write_bytes(b"not a log" * 1000)
    saved = tmp_path / "saved.duckdb"
    capsys.readouterr()
    assert main(["doctor", "--salvage", str(saved)]) == 0
    assert rows(saved) == whole
    assert Path("safemt.duckdb.wal").exists()
    assert main(["report", "--db", str(saved)]) == 0


def test_a_store_that_a_run_holds_is_not_salvaged(store: Path) -> None:
    for name in ("saved.duckdb.copy", "saved.duckdb.part"):
        Path(name).write_text("mine")
    before = sorted(Path().iterdir())
    with Store.open(store):
        done = subprocess.run(
            [sys.executable, "-m", "safemt_client", "doctor", "--salvage", "saved.duckdb"],
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 2
    assert done.stderr.startswith("safemt: safemt.duckdb: held by another run")
    assert len(done.stderr.splitlines()) == 1
    assert sorted(Path().iterdir()) == before
    assert Path("saved.duckdb.copy").read_text() == "mine"


def test_salvage_counts_what_it_saved_and_touches_no_other_file(
    store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("safemt.duckdb.wal").write_bytes(b"not a log" * 1000)
    Path("saved.duckdb.copy").write_text("mine")
    before = {*Path().iterdir()}
    capsys.readouterr()
    assert main(["doctor", "--salvage", "saved.duckdb"]) == 0
    assert "rows saved in saved.duckdb; safemt.duckdb is unchanged" in capsys.readouterr().out
    assert {*Path().iterdir()} == before | {Path("saved.duckdb")}
    assert Path("saved.duckdb.copy").read_text() == "mine"
    # DuckDB would replay a log of the new file's name.
    Path("more.duckdb.wal").write_text("mine")
    assert main(["doctor", "--salvage", "more.duckdb"]) == 2
    assert "more.duckdb.wal: already exists" in capsys.readouterr().err
    assert Path("more.duckdb.wal").read_text() == "mine"


def test_nothing_saved_is_no_success(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Store.open(tmp_path / "empty.duckdb").close()
    assert main(["doctor", "--db", "empty.duckdb", "--salvage", "saved.duckdb"]) == 1
    assert "no rows could be saved" in capsys.readouterr().out
    assert not Path("saved.duckdb").exists()


def test_bad_input(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "text.duckdb").write_text("hello")
    for words in (
        ["doctor", "--db", "none.duckdb"],
        ["doctor", "--db", "none.duckdb", "--salvage", "x.duckdb"],
        ["doctor", "--db", "text.duckdb", "--salvage", "x.duckdb"],
        ["doctor", "--db", "text.duckdb", "--salvage", "text.duckdb"],
    ):
        assert main(words) == 2, words
        assert len(capsys.readouterr().err.splitlines()) == 1
    assert not Path("x.duckdb").exists()
