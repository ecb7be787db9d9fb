"""Errors of a store, in one line for the user."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from safemt_client.providers.errors import SafemtError
from safemt_client.results.sanitize import quoted

if TYPE_CHECKING:
    import duckdb

__all__ = [
    "StoreError",
    "StoreMovedError",
    "explain_open_error",
    "first_line",
    "holder_of",
    "is_disk_full",
    "is_locked",
]

_FULL = ("No space left", "File too large", "quota exceeded")
_DAMAGED = ("Corrupt database file", "Could not read enough bytes")
_PID = re.compile(r"\(PID (\d+)\)")


class StoreError(SafemtError):
    """The store cannot be written. What was acknowledged before is in it."""


class StoreMovedError(StoreError):
    """The store's file was renamed, removed or overwritten while it was in use."""


def is_locked(error: duckdb.Error) -> bool:
    """Whether a run holds the file, here or in another process. A corrupt block is something else."""
    return any(words in str(error) for words in ("lock on file", "onflicting lock", "file handle conflict"))


def holder_of(error: duckdb.Error) -> int | None:
    """The process that holds the file, None where DuckDB does not say."""
    if "file handle conflict" in str(error):
        return os.getpid()
    found = _PID.search(str(error))
    return int(found[1]) or None if found else None


def is_disk_full(error: duckdb.Error) -> bool:
    """Whether there was no room to write."""
    return any(words in str(error) for words in _FULL)


def explain_open_error(path: Path, error: duckdb.Error) -> str:
    """One line for a file that cannot be opened."""
    text = str(error)
    if is_locked(error):
        return _explain_held(path, holder_of(error))
    if is_disk_full(error):
        return f"{path}: cannot be written, the disk is full: free some space and run the same command again"
    if path.exists() and path.stat().st_size == 0:
        return f"{path}: an empty file: remove it and run the command again, or name another file with --db"
    if any(words in text for words in _DAMAGED):
        return (
            f"{path}: damaged ({first_line(error)}): restore a copy, or recover what can be read: "
            f"safemt doctor --db {quoted(path)} --salvage NEW.duckdb"
        )
    if "not a valid DuckDB database" in text:
        return f"{path}: not a DuckDB file: name another one with --db"
    if "version" in text.lower():
        return f"{path}: written by another version of DuckDB ({first_line(error)})"
    wal = path.with_name(path.name + ".wal")
    for needed in (path, wal, path.parent):
        if needed.exists() and not os.access(needed, os.W_OK):
            return f"{needed}: not writable: change its permissions, or name another file with --db"
    return f"{path}: {first_line(error)}"


def _explain_held(path: Path, pid: int | None) -> str:
    """Who holds the file, and what helps."""
    from safemt_client.results.store.server import server_file

    process = "this process" if pid == os.getpid() else f"process {pid}" if pid else "another process"
    try:
        found = json.loads(server_file(path).read_text())
        command = found.get("command", "run") if pid in (None, found["pid"]) else None
    except (OSError, ValueError, LookupError, TypeError):
        command = None
    if command == "run":
        return (
            f"{path}: held by another run ({process}): wait for it or stop it "
            "(sql and report still work), or name another file with --db"
        )
    if command is not None:
        return (
            f"{path}: held by `safemt {command}` ({process}): end it there, which loses nothing, "
            "or wait for it (sql and report still work)"
        )
    return (
        f"{path}: held by {process}, which has it open without running: close it there "
        "(such as an open `sql`, a notebook or another database program), or name another file with --db"
    )


def first_line(error: BaseException) -> str:
    """The first line of an error's message, or else its type."""
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
