"""The write-ahead log beside a store: what DuckDB cannot replay, or drops silently, is kept."""

from __future__ import annotations

import mmap
import os
from datetime import UTC, datetime
from pathlib import Path

__all__ = ["free_name", "keep_unread", "set_aside", "unread_log"]


def set_aside(wal: Path, warnings: list[str]) -> Path:
    """Move a log that cannot be replayed out of the way: it would make the whole file unreadable."""
    aside = free_name(wal, "unreadable")
    wal.rename(aside)
    warnings.append(f"{wal} cannot be replayed; set aside as {aside}: its last turns will be asked again")
    return aside


def keep_unread(wal: Path, warnings: list[str]) -> None:
    """Keep what DuckDB leaves unread at the end of a log: it takes it for a torn write and drops it."""
    unread = unread_log(wal)
    if unread:
        aside = free_name(wal, "unreadable")
        # Made anew: what stands there otherwise is not written through.
        with os.fdopen(os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(unread)
        warnings.append(
            f"{wal} ends in {len(unread):,} incomplete bytes, left by a kill or by damage; "
            f"kept as {aside}: what they held will be asked again"
        )


def free_name(path: Path, what: str) -> Path:
    """A name beside `path` that no file has: its own, what is kept there, and the time."""
    name = f"{path.name}.{what}-{_moment()}"
    free = (path.with_name(name + more) for more in ("", *(f"-{n}" for n in range(2, 1000))))
    return next(path for path in free if not os.path.lexists(path))


def _moment() -> str:
    return f"{datetime.now(UTC):%Y%m%d%H%M%S}"


def unread_log(wal: Path) -> bytes:
    """The end of a log that is not a whole entry. Each is its size, its checksum and its content."""
    if not wal.exists() or wal.stat().st_size == 0:
        return b""
    with wal.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as log:
        best = 0
        # The header's own length is not written anywhere; it ends in two bytes 0xFF.
        for begin in range(16, min(len(log), 128) + 1):
            if log[begin - 2 : begin] == b"\xff\xff":
                best = max(best, _last_whole(log, begin))
        return log[best:]


def _last_whole(log: mmap.mmap, begin: int) -> int:
    """Where the last whole entry ends, 0 if there is none from `begin` on."""
    end = begin
    while end + 16 <= len(log):
        size = int.from_bytes(log[end : end + 8], "little")
        if size == 0 or end + 16 + size > len(log):
            break
        end += 16 + size
    return end if end > begin or begin == len(log) else 0
