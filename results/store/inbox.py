"""Labels and comments that wait for the store: lines of JSON in a file beside it.

A person's label is on the disk before the next reply is shown, whoever holds the store meanwhile. It stays
there until the store has it: what is taken in twice, after a kill in between, is in the store once.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol, get_type_hints

from safemt_client.providers.errors import InputError
from safemt_client.results.sanitize import plain
from safemt_client.results.store.queries import Result
from safemt_client.results.store.rows import CommentRow, HumanLabelRow
from safemt_client.results.store.wal import free_name

try:
    import fcntl
except ImportError:  # Windows: several programs that label one store are not kept apart there
    fcntl = None  # type: ignore[assignment]

__all__ = [
    "Content",
    "Said",
    "Taker",
    "as_said",
    "empty_into",
    "inbox_file",
    "put",
    "read",
    "settle",
    "take",
    "to_json",
    "waiting",
]

Said = HumanLabelRow | CommentRow
"""What people say, which may be said while another process holds the store."""
_KINDS: dict[str, type[Said]] = {"label": HumanLabelRow, "comment": CommentRow}
_NAMES = {kind: name for name, kind in _KINDS.items()}
_taking = threading.Lock()


class Taker(Protocol):
    """A store that is open for writing."""

    def query(self, sql: str, parameters: Sequence[Any] | None = None, limit: int | None = None) -> Result:
        """Rows of one statement."""
        ...

    def save_now(self, *rows: Said) -> None:
        """Append rows; return when they are committed."""
        ...


@dataclass(frozen=True, slots=True)
class Content:
    """A file as it was read: its bytes, its rows, and whether a line could not be read."""

    data: bytes
    rows: tuple[Said, ...]
    unread: bool


def inbox_file(path: Path) -> Path:
    """The file in which labels wait for the store at `path`."""
    return path.with_name(path.name + ".labels")


def put(path: Path, *rows: Said) -> None:
    """Write rows for the store at `path`; return when they are on the disk.

    Raises:
        InputError: they cannot be written, and none of them is.
    """
    file = inbox_file(path)
    lines = b"".join(json.dumps(to_json(row)).encode() + b"\n" for row in rows)
    try:
        with _locked(file) as descriptor:
            end = os.lseek(descriptor, 0, os.SEEK_END)
            # After a line that a kill has cut off: it was never acknowledged, and must not swallow this one.
            torn = end > 0 and os.pread(descriptor, 1, end - 1) != b"\n"
            try:
                _write(descriptor, b"\n" + lines if torn else lines)
                os.fsync(descriptor)
            except OSError:
                with suppress(OSError):
                    os.ftruncate(descriptor, end)
                raise
            if end == 0:
                _keep_name(file.parent)
    except OSError as error:
        raise InputError(f"{file}: cannot be written ({error.strerror}): nothing was saved") from None


def waiting(path: Path) -> tuple[Said, ...]:
    """What waits for the store at `path`, the earliest first."""
    return _read(inbox_file(path)).rows


def as_said(given: object) -> Said:
    """A row from what `to_json` made of it.

    Raises:
        ValueError: it is none.
    """
    if not isinstance(given, dict) or given.get("kind") not in _KINDS:
        raise ValueError("neither a label nor a comment")
    kind = _KINDS[given["kind"]]
    values: dict[str, Any] = {}
    hints = get_type_hints(kind)
    for field in fields(kind):
        value = given.get(field.name)
        options = getattr(hints[field.name], "__args__", (hints[field.name],))
        if datetime in options and isinstance(value, str):
            value = datetime.fromisoformat(value).astimezone(UTC)
        if not isinstance(value, tuple(options)):
            raise ValueError(f"{field.name}: {value!r}")
        values[field.name] = value
    return kind(**values)


def to_json(row: Said) -> dict[str, Any]:
    """A row as JSON has it."""
    return {"kind": _NAMES[type(row)], **asdict(row), "recorded_at": row.recorded_at.isoformat()}


def take(store: Taker, rows: Sequence[Said]) -> None:
    """Append to an open store those of the rows that it does not have.

    Raises:
        StoreError: they cannot be written.
    """
    with _taking:
        known = {
            (*key, _utc(when))
            for *key, when in (
                *_asked(store, "human_labels", "annotator, request_hash, dialogue_key", rows),
                *_asked(store, "comments", "comment_id", rows),
            )
        }
        fresh = [row for row in rows if _key(row) not in known]
        if fresh:
            store.save_now(*fresh)


def empty_into(store: Taker, path: Path) -> int:
    """Take what waits into the open store at `path`; return how many rows were read.

    Raises:
        StoreError: they cannot be written; they still wait then.
    """
    file = inbox_file(path)
    if not file.exists():
        return 0
    content = _read(file)
    take(store, content.rows)
    settle(path, content)
    return len(content.rows)


def read(path: Path) -> Content:
    """What waits, to be settled once a store has it."""
    return _read(inbox_file(path))


def settle(path: Path, content: Content) -> None:
    """Remove the file, unless more has come meanwhile; a line that could not be read is kept aside."""
    file = inbox_file(path)
    if not content.data:
        return
    try:
        with _locked(file) as descriptor:
            if _whole(descriptor) != content.data:
                return
            if not content.unread:
                file.unlink(missing_ok=True)
                return
            aside = free_name(file, "unread")
            file.rename(aside)
    except OSError as error:
        print(
            f"safemt: {file}: cannot be removed ({error.strerror}): its labels are taken in", file=sys.stderr
        )
        return
    print(f"safemt: {plain(str(file))}: some lines cannot be read; kept as {aside}", file=sys.stderr)


def _read(file: Path) -> Content:
    try:
        data = file.read_bytes()
    except OSError:
        return Content(b"", (), False)
    rows, unread = [], False
    whole, _, torn = data.rpartition(b"\n")
    for line in (*whole.split(b"\n"), torn):
        if not line:
            continue
        try:
            rows.append(as_said(json.loads(line)))
        except (ValueError, RecursionError):
            unread = True
    return Content(data, tuple(rows), unread)


def _asked(store: Taker, table: str, key: str, rows: Sequence[Said]) -> list[tuple[Any, ...]]:
    """The keys and times that a table has of these rows' times."""
    moments = sorted({row.recorded_at.astimezone(UTC).replace(tzinfo=None) for row in rows})
    if not moments:
        return []
    places = ", ".join("?" * len(moments))
    sql = f"SELECT {key}, recorded_at FROM {table} WHERE recorded_at IN ({places})"
    return store.query(sql, moments).rows


def _key(row: Said) -> tuple[Any, ...]:
    if isinstance(row, CommentRow):
        return row.comment_id, _utc(row.recorded_at)
    return row.annotator, row.request_hash, row.dialogue_key, _utc(row.recorded_at)


def _utc(when: datetime) -> datetime:
    return when.replace(tzinfo=UTC) if when.tzinfo is None else when.astimezone(UTC)


@contextmanager
def _locked(file: Path) -> Iterator[int]:
    """The open file, which no other program changes meanwhile."""
    while True:
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
        try:
            if fcntl is not None:
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            # Who waited for the lock may have waited for a file that was removed meanwhile.
            if _is_at(descriptor, file):
                yield descriptor
                return
        finally:
            os.close(descriptor)


def _is_at(descriptor: int, file: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(file))
    except FileNotFoundError:
        return False


def _whole(descriptor: int) -> bytes:
    return os.pread(descriptor, os.fstat(descriptor).st_size, 0)


def _write(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]


def _keep_name(folder: Path) -> None:
    """Have the disk know a new file by its name."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
