"""Several stores as one: what they have alike is in it once, and each reply keeps its own verdict."""

import asyncio
import hashlib
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import pytest

from safemt_client.__main__ import main
from safemt_client.providers.errors import InputError, StoreHeldError
from safemt_client.results.store import inbox, rows
from safemt_client.results.store.deliveries import Delivery, pack
from safemt_client.results.store.merging import merge
from safemt_client.results.store.reader import open_reader
from safemt_client.results.store.store import Store

WHEN = datetime(2026, 1, 1, tzinfo=UTC)


def sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def fill(path: Path, text: str, label: str, *, day: int, name: str = "m", session: str = "s") -> Path:
    """A store with one run, which asks one question of one target and has the reply judged."""
    at = WHEN.replace(day=day)
    key = sha("request")
    turn = rows.TurnRow(
        *(key, 1, "run", session, "target", "answered", text, None, "stop", None, 200, "m", "1"),
        *(10, 5, None, None, 0.25, at, 1.0, "{}", "{}"),
        batch_key=None,
        refusal_rule="answer",
        reply_hash=sha(text),
    )
    verdict = rows.VerdictRow(
        *(sha("v" + text), "judge", key, "d", "run", session, label, None, None, label, None, 10, 5, 0.5, at),
        *(1.0, None, "paper", None, None, None, None, None, None),
        reply_hash=sha(text),
    )
    with Store.open(path) as store:
        store.save_now(
            rows.RunRow("run", "run", at, "1", "d", "digest", "d", None, "{}"),
            rows.TargetRow("run", "target", name, "local/m", "scripted", "off", "{}", None, 0, None),
            rows.JudgeRow("run", "judge", f"judge of {name}", "j", "paper", "r", "{}", None, "decides", 0),
            rows.DialogueRow("d", "digest", "item", 1, None, None, None, False, None, "[]", "{}"),
            rows.RunDialogueRow("run", "d", None),
            rows.StepRow("run", "target", "d", 1, key, 1),
            turn,
            verdict,
        )
    return path


def asked(path: Path, sql: str) -> list[tuple[object, ...]]:
    with open_reader(path) as reader:
        return reader.query(sql).rows


def test_replies_keep_their_own_verdicts_and_both_are_paid_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = fill(tmp_path / "a.duckdb", "No.", "safe", day=2, session="a")
    second = fill(tmp_path / "b.duckdb", "Yes!", "unsafe", day=1, name="m@http://h:1", session="b")
    before = [path.read_bytes() for path in (first, second)]
    out = tmp_path / "all.duckdb"
    assert main(["merge", str(out), str(first), str(second)]) == 0
    assert "b.duckdb: 1 of its requests have another" in capsys.readouterr().err
    # The earlier observation counts, with what was said of it.
    assert asked(out, "SELECT text, label, explanation FROM conversations") == [("Yes!", "unsafe", "unsafe")]
    pairs = "SELECT text, label FROM turns JOIN verdicts USING (request_hash, reply_hash) ORDER BY ALL"
    assert asked(out, pairs) == [("No.", "safe"), ("Yes!", "unsafe")]
    paid = asked(out, "SELECT session_id, sum(cost_usd), sum(calls) FROM spend GROUP BY ALL ORDER BY ALL")
    assert paid == [("a", 0.75, 2), ("b", 0.75, 2)]
    assert [path.read_bytes() for path in (first, second)] == before


def test_a_target_with_two_names_is_one_in_every_view(tmp_path: Path) -> None:
    first = fill(tmp_path / "a.duckdb", "No.", "safe", day=1, name="m@http://h:1")
    second = fill(tmp_path / "b.duckdb", "No.", "safe", day=1, name="m@http://h:2")
    out = tmp_path / "all.duckdb"
    found = merge(out, [first, second])
    assert [(one.rows, one.added, one.answered_otherwise) for one in found] == [(8, 8, 0), (8, 2, 0)]
    for view in ("replies", "every_conversation", "asr_by_turn", "outcomes"):
        assert asked(out, f"SELECT count(*) FROM {view}") == [(1,)], view
    assert asked(out, "SELECT sum(calls) FROM spend") == [(2,)]


def test_deliveries_of_each_store_are_known_to_the_new_one(tmp_path: Path) -> None:
    sent = [Delivery(name, "w", 1, pack([rows.RunDialogueRow(name, "d", None)]), 1.0) for name in "ab"]
    first, copy = tmp_path / "a.duckdb", tmp_path / "copy.duckdb"
    for path, one in zip((first, copy), sent, strict=True):
        with Store.open(path) as store:
            assert asyncio.run(store.deliver(one))
        if path == first:
            copy.write_bytes(first.read_bytes())
    merge(tmp_path / "all.duckdb", [first, copy])
    with Store.open(tmp_path / "all.duckdb") as store:
        assert [asyncio.run(store.deliver(one)) for one in sent] == [False, False]
        assert [store.paid_by(one.session_id) for one in sent] == [{"w": 1.0}, {"w": 1.0}]
        assert store.query("SELECT count(*) FROM run_dialogues").rows == [(2,)]


def test_the_same_store_twice_adds_nothing(tmp_path: Path) -> None:
    first = fill(tmp_path / "a.duckdb", "No.", "safe", day=1)
    copy = tmp_path / "copy.duckdb"
    copy.write_bytes(first.read_bytes())
    assert merge(tmp_path / "all.duckdb", [first, copy])[1].added == 0


def test_a_row_that_a_store_has_twice_stays_twice(tmp_path: Path) -> None:
    stores = []
    for name, times in (("one", 1), ("three", 3), ("two", 2)):
        stores.append(tmp_path / f"{name}.duckdb")
        with Store.open(stores[-1]) as store:
            store.save_now(*[rows.RunDialogueRow("run", "d", None)] * times)
    assert [one.added for one in merge(tmp_path / "all.duckdb", stores)] == [1, 2, 0]
    assert asked(tmp_path / "all.duckdb", "SELECT count(*) FROM run_dialogues") == [(3,)]


def test_an_earlier_version_is_migrated_in_a_copy(tmp_path: Path) -> None:
    old = fill(tmp_path / "old.duckdb", "No.", "safe", day=1)
    with duckdb.connect(str(old)) as connection:
        connection.execute(
            "DROP TABLE label_draws; DROP TABLE drawn_replies; DROP TABLE server_use; DROP TABLE deliveries"
        )
        connection.execute("ALTER TABLE turns DROP COLUMN host")
        connection.execute("DELETE FROM schema_migrations WHERE version >= 24")
    before = old.read_bytes()
    out = tmp_path / "all.duckdb"
    merge(out, [old])
    assert asked(out, "SELECT text, host FROM turns") == [("No.", None)]
    assert old.read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["all.duckdb", "old.duckdb"]


def test_labels_that_wait_are_taken_in_and_still_wait(tmp_path: Path) -> None:
    first = fill(tmp_path / "a.duckdb", "No.", "safe", day=1)
    comment = rows.CommentRow("c", "run", "target", "d", "ann", "odd", WHEN)
    inbox.put(first, comment)
    merge(tmp_path / "all.duckdb", [first])
    assert asked(tmp_path / "all.duckdb", "SELECT text FROM comments") == [("odd",)]
    assert inbox.waiting(first) == (comment,)


def test_what_cannot_be_merged(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = fill(tmp_path / "a.duckdb", "No.", "safe", day=1)
    out = tmp_path / "all.duckdb"
    other = tmp_path / "other.duckdb"
    with duckdb.connect(str(other)) as connection:
        connection.execute("CREATE TABLE t (n INT)")
    with pytest.raises(InputError, match=r"other\.duckdb: not a store"):
        merge(out, [first, other])
    with pytest.raises(InputError, match=r"none\.duckdb: no such store"):
        merge(out, [first, tmp_path / "none.duckdb"])
    with pytest.raises(InputError, match=r"a\.duckdb: named twice"):
        merge(out, [first, first])
    with Store.open(first), pytest.raises(StoreHeldError, match=r"a\.duckdb: held by"):
        merge(out, [first])
    assert not out.exists()
    assert main(["merge", str(out), str(first)]) == 0
    assert "a.duckdb: 8 of 8 rows taken in" in capsys.readouterr().out
    assert main(["merge", str(out), str(first)]) == 2
    assert "all.duckdb: already exists: name a new file to merge into" in capsys.readouterr().err
