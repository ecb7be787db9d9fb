"""Rows from other processes are in the store once, however their deliveries come."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from safemt_client.providers.errors import InputError
from safemt_client.providers.types import reply_hash
from safemt_client.results.store.batches import arrow_rows, rows_of
from safemt_client.results.store.deliveries import Delivered, Delivery, pack
from safemt_client.results.store.rows import EventRow, LimitRow, Row, TurnRow
from safemt_client.results.store.store import Store

NOW = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)


def event(number: int, session: str = "s") -> EventRow:
    return EventRow("r", session, NOW, f"event {number}", "{}")


def delivery(number: int, *rows: Row, incarnation: str = "w0", paid: float | None = None) -> Delivery:
    return Delivery("s", incarnation, number, pack(rows or [event(number)]), paid)


def deliver(store: Store, *deliveries: Delivery) -> list[bool]:
    """All of them at once, as they are queued."""

    async def main() -> list[bool]:
        return list(await asyncio.gather(*(store.deliver(one) for one in deliveries)))

    return asyncio.run(main())


def events(store: Store) -> list[str]:
    return [row[0] for row in store.query("SELECT event FROM run_events ORDER BY ALL").rows]


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with Store.open(tmp_path_factory.mktemp("store") / "s.duckdb") as store:
        yield store


_sessions = (f"session {number}" for number in count())


@settings(max_examples=20, deadline=None)
@given(
    rounds=st.lists(
        st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 5)), min_size=1, max_size=8),
        min_size=1,
        max_size=3,
    )
)
def test_each_delivery_is_taken_in_once_in_whatever_order_they_come(
    shared: Store, rounds: list[list[tuple[str, int]]]
) -> None:
    """Out of order, doubled while the first is queued, and again once it is committed, of two processes."""
    session = next(_sessions)
    new: list[tuple[str, int]] = []
    for one in rounds:
        sent = [Delivery(session, who, n, pack([event(n, session), event(n, session)])) for who, n in one]
        new += [name for name, is_new in zip(one, deliver(shared, *sent), strict=True) if is_new]
    named = {name for one in rounds for name in one}
    assert sorted(new) == sorted(named)
    stored = shared.query("SELECT event FROM run_events WHERE session_id = ? ORDER BY ALL", [session]).rows
    assert stored == sorted((f"event {n}",) for _, n in named for _ in range(2))
    records = shared.query(
        "SELECT incarnation, number, rows FROM deliveries WHERE session_id = ? ORDER BY ALL", [session]
    ).rows
    assert records == [(who, n, 2) for who, n in sorted(named)]


def test_a_delivery_of_before_a_restart_is_known_after_it(tmp_path: Path) -> None:
    with Store.open(tmp_path / "s.duckdb") as store:
        assert deliver(store, delivery(7)) == [True]
    with Store.open(tmp_path / "s.duckdb") as store:
        # A lower number than one that is there, and one that is.
        assert deliver(store, delivery(3), delivery(7)) == [True, False]
        assert events(store) == ["event 3", "event 7"]


def test_rows_of_this_process_and_deliveries_share_a_commit(tmp_path: Path) -> None:
    seen: list[Row] = []

    async def main(store: Store) -> None:
        await asyncio.gather(
            store.save(event(1)), store.deliver(delivery(2)), store.deliver(delivery(2)), store.save(event(3))
        )

    with Store.open(tmp_path / "s.duckdb") as store:
        store.watchers.append(seen.extend)
        asyncio.run(main(store))
        assert events(store) == ["event 1", "event 2", "event 3"]
    assert sorted(row.event for row in seen if isinstance(row, EventRow)) == [
        "event 1",
        "event 2",
        "event 3",
    ], "what was there already is told to nobody"


def test_columns_are_taken_by_their_names(tmp_path: Path) -> None:
    rows = [LimitRow("r", "s", NOW, "a", "start", 4, 2, None, 5.5, 0.25)]
    table = arrow_rows(LimitRow, rows)
    assert rows_of(LimitRow, table) == rows
    turned = table.select([*reversed(table.column_names)]).drop_columns(["rpm"])
    with Store.open(tmp_path / "s.duckdb") as store:
        assert deliver(store, Delivery("s", "w0", 1, {"limit_changes": stream(turned)})) == [True]
        assert store.query("SELECT account, concurrency, in_flight, rpm, tpm FROM limit_changes").rows == [
            ("a", 4, 2, None, 5.5)
        ]


def stream(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue())


EVENT = arrow_rows(EventRow, [event(1)])
ONE = [pa.array(["x"])]


@pytest.mark.parametrize(
    ("tables", "said"),
    [
        ({"nowhere": stream(EVENT)}, "no table 'nowhere'"),
        ({"deliveries": stream(EVENT)}, "no table 'deliveries'"),
        ({"run_events": b"not Arrow"}, "run_events: "),
        ({"run_events": stream(EVENT)[:-300]}, "run_events: "),
        ({"run_events": stream(EVENT.append_column("more", ONE))}, "no such column: more"),
        ({"run_events": stream(EVENT.append_column("event", ONE))}, "column event is there twice"),
        ({"run_events": stream(EVENT.drop_columns(["event"]))}, "column event is missing"),
        ({"run_events": stream(EVENT.set_column(3, "event", [pa.array([1])]))}, "column event is int64"),
        ({"run_events": stream(EVENT.set_column(3, "event", [pa.array([None], "str")]))}, "event has a NULL"),
    ],
)
def test_what_does_not_fit_is_refused_and_nothing_else_suffers(
    tmp_path: Path, tables: dict[str, bytes], said: str
) -> None:
    with Store.open(tmp_path / "s.duckdb") as store:
        with pytest.raises(InputError, match=said):
            deliver(store, Delivery("s", "w0", 1, {**pack([event(9)]), **tables}))
        assert deliver(store, delivery(1)) == [True]
        assert events(store) == ["event 1"]


def test_payments_ride_with_their_rows(tmp_path: Path) -> None:
    sent = [delivery(1, paid=0.5), delivery(2, paid=0.25), delivery(1, paid=0.5), delivery(3)]
    elsewhere = [delivery(1, incarnation="w1", paid=1.0), replace(delivery(1, paid=9.0), session_id="t")]
    with Store.open(tmp_path / "s.duckdb") as store:
        deliver(store, *sent, *elsewhere)
        assert store.paid_by("s") == {"w0": 0.75, "w1": 1.0}


def recorded(store: Store) -> list[tuple[str, int]]:
    return [tuple(row) for row in store.query("SELECT session_id, number FROM deliveries ORDER BY ALL").rows]


def test_records_go_when_their_session_ends(tmp_path: Path) -> None:
    with Store.open(tmp_path / "s.duckdb") as store:
        deliver(store, delivery(1), delivery(2), replace(delivery(1), session_id="killed"))
        store.save_now(event(9, "s"))
        assert len(recorded(store)) == 3, "another event"
        # Its end comes from a session's own process: what its workers send is no end of it.
        finished = EventRow("r", "s", NOW, "finished", "{}")
        assert deliver(store, delivery(3, finished), delivery(3, finished)) == [True, False]
        assert len(recorded(store)) == 4
        store.save_now(replace(finished, event="stopped"))
        assert recorded(store) == [("killed", 1)], "its Writer may be waiting for the file"
        assert deliver(store, replace(delivery(1), session_id="killed")) == [False]


def test_records_of_a_session_that_was_killed_go_after_a_day(tmp_path: Path) -> None:
    path = tmp_path / "s.duckdb"
    with Store.open(path) as store:
        deliver(
            store, *(replace(delivery(n), session_id=name) for n, name in enumerate(("old", "new", "new")))
        )
    with duckdb.connect(str(path)) as connection:
        connection.execute(
            "UPDATE deliveries SET recorded_at = recorded_at - INTERVAL 25 HOUR WHERE number < 2"
        )
    with Store.open(path) as store:
        assert len(recorded(store)) == 3
        store.save_now(EventRow("r", "another", NOW, "finished", "{}"))
        assert recorded(store) == [("new", 1), ("new", 2)], "the latest delivery of a session counts"


def turn(text: str, after_s: int) -> TurnRow:
    return TurnRow(
        *("q", 1, "r", "s", "t", "answered", text, None, "stop", None, 200, None, None, 1, 1, None, None),
        *(0.5, NOW + timedelta(seconds=after_s), 1.0, "[]", None, None, "answer"),
        reply_hash=reply_hash(text),
    )


def test_late_rows_of_a_process_that_was_replaced_are_attempts_beside_those_of_its_successor(
    tmp_path: Path,
) -> None:
    """What was in flight at a kill was asked twice: both replies were paid for, and the earlier one counts."""
    with Store.open(tmp_path / "s.duckdb") as store:
        late = delivery(5, turn("first", 0), incarnation="w0", paid=0.5)
        assert deliver(store, delivery(1, turn("second", 9), incarnation="w0 again", paid=0.5)) == [True]
        assert deliver(store, late, late) == [True, False]
        assert store.query("SELECT text FROM turns ORDER BY started_at").rows == [("first",), ("second",)]
        assert store.texts(["q"]) == {"q": "first"}
        assert store.query("SELECT sum(cost_usd) FROM turns").rows == [(1.0,)]


CHILD = """
import asyncio, sys
from pathlib import Path
from tests.results.store.test_deliveries import delivery
from safemt_client.results.store.store import Store

async def main(store):
    async def one(number):
        await store.deliver(delivery(number, paid=1.0))
        print(number, flush=True)
    await asyncio.gather(*(one(number) for number in map(int, sys.argv[2:])))
    await asyncio.sleep(3600)

asyncio.run(main(Store.open(Path(sys.argv[1]))))
"""


def killed(path: Path, numbers: Sequence[int]) -> set[int]:
    """The numbers of the deliveries that a process has answered when it is killed: at its first answer."""
    root = Path(__file__).resolve().parents[3]
    environment = os.environ | {"PYTHONPATH": str(root)}
    command: list[Any] = [sys.executable, "-c", CHILD, path, *map(str, numbers)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=root, env=environment) as child:
        assert child.stdout is not None
        first = child.stdout.readline()
        child.send_signal(signal.SIGKILL)
        return {int(line) for line in (first, *child.stdout) if line.strip()}


def test_after_a_kill_everything_is_sent_again_and_is_there_once(tmp_path: Path) -> None:
    path = tmp_path / "s.duckdb"
    answered = killed(path, [2, 1, 3])
    with Store.open(path) as store:
        there = set(store.query("SELECT number FROM deliveries").rows)
        assert {(number,) for number in answered} <= there, "what was answered is committed"
        deliver(store, *(delivery(number, paid=1.0) for number in (1, 2, 3, 4)))
        assert events(store) == ["event 1", "event 2", "event 3", "event 4"]
        assert store.paid_by("s") == {"w0": 4.0}


def test_a_delivery_counts_for_as_many_as_have_gathered_their_rows_in_it() -> None:
    async def size(*rows: Row) -> int:
        return Delivered(delivery(0, *rows), asyncio.get_running_loop()).size

    assert asyncio.run(size(*map(event, range(7)))) == 7
