"""What a store has learnt is read once, and then what has come since."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import anyio
import pytest

from safemt_client.results.store import learnt
from safemt_client.results.store.learnt import Learnt
from safemt_client.results.store.rows import AssessmentRow
from safemt_client.results.store.store import Store

_BEGUN = datetime(2026, 1, 1, tzinfo=UTC)


def assessed(key: str, verdict: str, minute: int, guard: str = "g") -> AssessmentRow:
    said: list[Any] = [None] * 6
    about = (key, guard, "input", "r", "s", verdict, None, "[]", "[]", None, 0.5, *said)
    return AssessmentRow(*about, _BEGUN + timedelta(minutes=minute), 0.1)


class Follower:
    """What one of those who follow a store is told."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.read: list[int] = []
        self.learnt = Learnt(self._read)

    def _read(self, *about: Any) -> tuple[int, list[tuple[Any, ...]]]:
        found = self.store.learnt(*about)
        self.read.append(len(found[1]))
        return found

    def verdicts(self) -> dict[str, str]:
        found = {key: row[0] for key, row in self.learnt.assessments("g").items()}
        view = "SELECT assessment_hash, verdict FROM current_assessments WHERE verdict <> 'error' AND guard_key = 'g'"
        assert found == dict(self.store.query(view).rows)
        assert self.learnt.assessments("g") == self.store.assessments("g")
        return found


def test_what_has_come_since_is_read_and_the_earliest_answer_counts(tmp_path: Path) -> None:
    with Store.open(tmp_path / "a.duckdb", "anything") as store:
        one = Follower(store)
        assert one.verdicts() == {}
        other_guard = assessed("c", "safe", 1, "other")
        anyio.run(store.save, assessed("a", "safe", 1), assessed("b", "error", 1), other_guard)
        assert one.verdicts() == {"a": "safe"}
        anyio.run(store.save, assessed("b", "unsafe", 2), assessed("a", "unsafe", 2))
        assert one.verdicts() == {"a": "safe", "b": "unsafe"}
        # Recorded before the others, and stored after them, as by a worker whose delivery was late.
        anyio.run(store.save, assessed("a", "controversial", 0))
        assert one.verdicts() == {"a": "controversial", "b": "unsafe"}
    assert sum(one.read) == 1 + 2 + 1


def test_a_row_keeps_its_place_when_the_store_is_opened_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(learnt, "_AT_ONCE", 3)
    with Store.open(tmp_path / "a.duckdb", "anything") as store:
        one = Follower(store)
        anyio.run(store.save, *(assessed(f"a{n}", "safe", n) for n in range(8)))
        assert len(one.verdicts()) == 8
    assert max(one.read) == 3
    with Store.open(tmp_path / "a.duckdb", "store") as store:
        one.store, one.read = store, []
        anyio.run(store.save, assessed("late", "safe", 9), assessed("a0", "unsafe", 9))
        assert len(one.verdicts()) == 9
    assert sum(one.read) == 2
