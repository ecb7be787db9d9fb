"""Rows from other processes: sent as Arrow, and taken in once, however often they come.

Whoever sends rows over a connection learns of their commit by an answer, and sends them again if none comes.
So each delivery has a name of its own - the session, the process that sends (its incarnation), and a number -
and is recorded under it in the transaction that stores its rows. Numbers may come in any order.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import duckdb
import pyarrow as pa

from safemt_client.providers.errors import InputError
from safemt_client.results.store.batches import arrow_rows, kinds_of, rows_of
from safemt_client.results.store.columns import ARROW, column
from safemt_client.results.store.commits import Handed
from safemt_client.results.store.rows import DeliveryRow, EventRow, Row
from safemt_client.results.store.schema import TABLES, columns_of

__all__ = ["Delivered", "Delivery", "forget", "pack", "taken_in"]

_ENDS = ("finished", "stopped")
_KEPT = "1 DAY"
"""How long the records of a session stay that has not written its end, from its last delivery."""
_KINDS = {table: kind for kind, table in TABLES.items() if kind is not DeliveryRow}


@dataclass(frozen=True, slots=True)
class Delivery:
    """Rows of one session by table, each an Arrow IPC stream of the table's columns by their names.

    `incarnation` is a name that no two processes share, nor one process and its successor; `number` is one
    that it gives to no other delivery. `paid_usd` is what the rows were paid with, in US dollars, if that is
    counted.
    """

    session_id: str
    incarnation: str
    number: int
    tables: Mapping[str, bytes]
    paid_usd: float | None = None


def pack(rows: Iterable[Row]) -> dict[str, bytes]:
    """Rows as the `tables` of a delivery."""
    kinds: dict[type, list[Row]] = {}
    for row in rows:
        kinds.setdefault(type(row), []).append(row)
    return {TABLES[kind]: _stream(arrow_rows(kind, those)) for kind, those in kinds.items()}


def _stream(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue())


class Delivered(Handed):
    """A delivery on its way to the writer; whether it `is_new` is known once it is committed.

    Raises:
        InputError: it does not fit the tables of the store.
    """

    __slots__ = ("delivery", "is_new", "tables")

    def __init__(self, delivery: Delivery, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__((), loop)
        self.delivery = delivery
        self.is_new = False
        self.tables: dict[type, pa.Table] = {}
        for name, content in delivery.tables.items():
            try:
                self.tables[_KINDS[name]] = _fitting(_KINDS[name], content)
            except KeyError:
                raise InputError(f"a delivery: the store has no table {name!r}") from None
            except (pa.ArrowException, ValueError) as error:
                raise InputError(f"a delivery: {name}: {error}") from None

    @property
    def name(self) -> tuple[str, str, int]:
        """What it is recorded under."""
        return self.delivery.session_id, self.delivery.incarnation, self.delivery.number

    @property
    def size(self) -> int:
        """See `Handed`: whoever sent it has gathered rows of several."""
        return max((table.num_rows for table in self.tables.values()), default=1)

    def record(self) -> DeliveryRow:
        """The row that says that it was taken in."""
        count = sum(table.num_rows for table in self.tables.values())
        return DeliveryRow(*self.name, count, self.delivery.paid_usd, datetime.now(UTC))

    def committed(self) -> Sequence[Row]:
        """The rows that the store has by this delivery."""
        if not self.is_new:
            return ()
        return [row for kind, table in self.tables.items() for row in rows_of(kind, table)]


def _fitting(kind: type, content: bytes) -> pa.Table:
    """The columns of a kind of row, in their order; those that may be NULL and are not there are.

    What could not be inserted is refused here: once it is in a transaction, it would take the others with it.

    Raises:
        ValueError: a column is unknown, missing, of another type or NULL where it must not be.
    """
    given = pa.ipc.open_stream(content).read_all()
    given.validate(full=True)
    types = kinds_of(kind)
    if unknown := [name for name in given.column_names if name not in types]:
        raise ValueError(f"no such column: {', '.join(unknown)}")
    columns = []
    for name, _, nullable in columns_of(kind):
        places = given.schema.get_all_field_indices(name)
        if len(places) > 1 or (not places and not nullable):
            raise ValueError(f"column {name} is {'there twice' if places else 'missing'}")
        if not places:
            columns.append(pa.chunked_array([pa.nulls(given.num_rows, ARROW[types[name]])]))
            continue
        found = given.column(places[0])
        if found.type != ARROW[types[name]]:
            raise ValueError(f"column {name} is {found.type}, not {ARROW[types[name]]}")
        if found.null_count and not nullable:
            raise ValueError(f"column {name} has a NULL")
        columns.append(found)
    return pa.Table.from_arrays(columns, names=[name for name, *_ in columns_of(kind)])


def taken_in(cursor: duckdb.DuckDBPyConnection, batch: Iterable[Handed]) -> dict[type, list[pa.Table]]:
    """What the deliveries of a batch add to the store, with their records, by kind of row.

    To be asked in the transaction that appends it, so that nothing is recorded in between.
    """
    delivered = [handed for handed in batch if isinstance(handed, Delivered)]
    if not delivered:
        return {}
    there = _recorded(cursor, delivered)
    found: dict[type, list[pa.Table]] = {}
    records: list[Row] = []
    for one in delivered:
        one.is_new = one.name not in there
        if one.is_new:
            there.add(one.name)
            records.append(one.record())
            for kind, table in one.tables.items():
                found.setdefault(kind, []).append(table)
    if records:
        found[DeliveryRow] = [arrow_rows(DeliveryRow, records)]
    return found


def forget(cursor: duckdb.DuckDBPyConnection, rows: Iterable[Row]) -> None:
    """Remove the records of the sessions that end by these rows, and of those that were killed long ago.

    To be asked in the transaction that stores the rows, which are this process's own. A record is needed as
    long as its delivery may come again. Only processes of its session send it, and only to the Writer of that
    session: a run that is resumed is another session, with a Writer and processes of its own, so that late
    rows of an old incarnation cannot reach it. A session writes its end itself, once its Writer has let go of
    the file and is gone for good. One that was killed writes none, and its Writer may wait for the file, for
    two minutes: its records stay for a day.
    """
    ended = [row.session_id for row in rows if isinstance(row, EventRow) and row.event in _ENDS]
    if ended:
        cursor.execute(
            "DELETE FROM deliveries WHERE session_id IN (SELECT unnest(?::VARCHAR[])) OR session_id IN ("
            "SELECT session_id FROM deliveries GROUP BY session_id "
            f"HAVING max(recorded_at) < now() AT TIME ZONE 'UTC' - INTERVAL {_KEPT})",
            [ended],
        )


def _recorded(cursor: duckdb.DuckDBPyConnection, delivered: Sequence[Delivered]) -> set[tuple[str, str, int]]:
    sessions, incarnations, numbers = zip(*(one.name for one in delivered), strict=True)
    wanted = pa.Table.from_arrays(
        [column("str", sessions), column("str", incarnations), column("int", numbers)],
        names=["session_id", "incarnation", "number"],
    )
    cursor.register("wanted", wanted)
    rows = cursor.execute(
        "SELECT DISTINCT session_id, incarnation, number FROM deliveries "
        "SEMI JOIN wanted USING (session_id, incarnation, number)"
    ).fetchall()
    cursor.unregister("wanted")
    return set(rows)
