"""Empty stores that are copied: making one takes as long as many a test."""

import inspect
from functools import wraps
from pathlib import Path
from typing import Any

import pytest

from safemt_client.results.store import store

__all__ = ["copy_empty_stores", "make_stores_anew"]


def copy_empty_stores(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have each new store of this process begin as a copy of one that the program makes in `folder`."""
    connect = store._connect
    empty = folder / "empty.duckdb"

    @wraps(connect)
    def connect_to_a_copy(path: Path, expected: store.Expected, warnings: list[str]) -> Any:
        if not empty.exists():
            with pytest.MonkeyPatch.context() as patch:
                make_stores_anew(patch)
                store.Store.open(empty).close()
        if not (path.exists() or path.is_symlink() or path.with_name(f"{path.name}.wal").exists()):
            # Where it cannot be written, the program says so.
            try:
                path.write_bytes(empty.read_bytes())
                expected = "store"
            except OSError:
                path.unlink(missing_ok=True)
        return connect(path, expected, warnings)

    monkeypatch.setattr(store, "_connect", connect_to_a_copy)


def make_stores_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have each new store made by the program again."""
    monkeypatch.setattr(store, "_connect", inspect.unwrap(store._connect))
