"""Rows in batches: all of them or none, however many there are, and one batch after the other."""

from collections.abc import Iterator
from dataclasses import fields
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pytest

from safemt_client.providers.errors import InputError
from safemt_client.results.store.batches import arrow_rows, batch_of
from safemt_client.results.store.reader import open_reader
from safemt_client.results.store.rows import HumanLabelRow, RunDialogueRow
from safemt_client.results.store.store import Store

NOW = datetime(2026, 1, 1, tzinfo=UTC)
COUNTS = "SELECT (SELECT count(*) FROM run_dialogues), (SELECT count(*) FROM human_labels)"


def dialogues(count: int, each: int = 100) -> Iterator[pa.RecordBatch]:
    for first in range(0, count, each):
        keys = [f"d{number}" for number in range(first, first + each)]
        yield batch_of(RunDialogueRow, each, {"run_id": "r", "dialogue_key": keys})


def test_columns_are_lists_arrays_or_one_value_for_all() -> None:
    rows = [
        HumanLabelRow("q\ud800", f"d{n}", "", "Ada", "safe", NOW + timedelta(seconds=n)) for n in range(3)
    ]
    whole = arrow_rows(HumanLabelRow, rows)
    columns = {
        "request_hash": "q\ud800",
        "dialogue_key": pa.array(["d0", "d1", "d2"]),
        "stratum": "",
        "annotator": "Ada",
        "label": ["safe"] * 3,
        "recorded_at": [row.recorded_at for row in rows],
    }
    batch = batch_of(HumanLabelRow, 3, columns)
    assert pa.Table.from_batches([batch]) == whole
    assert batch.schema.names == [field.name for field in fields(HumanLabelRow)]
    with pytest.raises(TypeError, match="no labell"):
        batch_of(HumanLabelRow, 3, {"labell": "safe"})


def test_little_is_held_of_a_new_store_alone(tmp_path: Path) -> None:
    path, asked = tmp_path / "d.duckdb", "SELECT current_setting('memory_limit')"
    with Store.open(path, group_bytes=2**20) as store:
        assert store.query(asked).rows == [("52.0 MiB",)]
        store.save_batches((RunDialogueRow, dialogues(20_000)))
    with Store.open(path, group_bytes=2**20) as store:
        assert store.query(asked).rows != [("52.0 MiB",)]
        assert store.query(COUNTS).rows == [(20_000, 0)]


def test_batches_are_asked_for_as_they_are_written(tmp_path: Path) -> None:
    held = 0

    def counted() -> Iterator[pa.RecordBatch]:
        nonlocal held
        for batch in dialogues(20_000):
            yield batch
            held = max(held, pa.total_allocated_bytes())

    with Store.open(tmp_path / "d.duckdb") as store:
        before = pa.total_allocated_bytes()
        row = arrow_rows(HumanLabelRow, [HumanLabelRow("q", "d", "", "Ada", "safe", NOW)])
        store.save_batches((RunDialogueRow, counted()), (HumanLabelRow, iter(row.to_batches())))
        store.save_batches((RunDialogueRow, dialogues(0)))
    assert held - before < 20_000 * 10 / 4
    with open_reader(tmp_path / "d.duckdb") as reader:
        assert reader.query(COUNTS).rows == [(20_000, 1)]
        assert reader.query("SELECT dialogue_key FROM run_dialogues LIMIT 1 OFFSET 12345").rows == [
            ("d12345",)
        ]


@pytest.mark.parametrize("error", [InputError("the disk is full: free some"), KeyboardInterrupt()])
def test_what_ends_them_early_leaves_none_and_is_told_as_it_is(tmp_path: Path, error: BaseException) -> None:
    def broken() -> Iterator[pa.RecordBatch]:
        yield from dialogues(20_000)
        raise error

    with Store.open(tmp_path / "d.duckdb") as store:
        with pytest.raises(type(error)) as found:
            store.save_batches((RunDialogueRow, broken()))
        assert found.value is error
        assert store.query(COUNTS).rows == [(0, 0)]
        store.save_batches((RunDialogueRow, dialogues(100)))
    with open_reader(tmp_path / "d.duckdb") as reader:
        assert reader.query(COUNTS).rows == [(100, 0)]
