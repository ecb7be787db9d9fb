"""Lines of a log, made and written by a thread of their own.

What is logged is handed over as it is: making a line and writing it takes longer than all else that a session
does with it, and the disk may be slow.
"""

from __future__ import annotations

import json
import os
import queue
import threading
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from datetime import UTC, datetime
from logging.handlers import RotatingFileHandler
from typing import Any

from safemt_client.providers.own_files import open_own

__all__ = ["Entry", "Lines", "LogFile"]


class LogFile(RotatingFileHandler):
    """A file that only its owner may read, in pieces of bounded size. What cannot be written is counted."""

    lost = 0
    _size = 0

    def _open(self) -> Any:
        file = open_own(self.baseFilename)
        self._size = os.fstat(file).st_size
        # Without a buffer: what a full disk did not take must not be written later, beside what is counted.
        return os.fdopen(file, "ab", buffering=0)

    def write(self, lines: Sequence[bytes]) -> None:
        """Write lines, all that fit into one piece at once."""
        at = 0
        while at < len(lines):
            end, size = at + 1, self._size + len(lines[at])
            while end < len(lines) and size + len(lines[end]) < self.maxBytes:
                size += len(lines[end])
                end += 1
            try:
                self._put(b"".join(lines[at:end]), full=size >= self.maxBytes)
            except OSError:
                self.lost += end - at
            at = end

    def _put(self, data: bytes, *, full: bool) -> None:
        if full:
            self.doRollover()
        if self.stream is None:
            self.stream = self._open()
        file: Any = self.stream  # bytes, as it was opened
        while data:
            written = file.write(data)
            self._size += written
            data = data[written:]


Entry = tuple[float, str, str, Mapping[str, Any]]
"""When it was, the level, the name of the event and its fields."""


class Lines(threading.Thread):
    """Writes lines, one JSON object each, for all that has come meanwhile at once."""

    def __init__(self, file: LogFile, common: Mapping[str, str], room: int) -> None:
        super().__init__(name="safemt-log", daemon=True)
        self._file, self._common, self._room = file, common, room
        self._queue: queue.SimpleQueue[Sequence[Entry] | None] = queue.SimpleQueue()
        # One of them is only changed by who puts something in, the other only by this thread.
        self._put, self._written = 0, 0
        self.dropped = 0

    def put(self, entries: Sequence[Entry]) -> None:
        """Have lines written, or drop those for which there is no room."""
        room = max(0, self._room - (self._put - self._written))
        taken = entries[:room]
        self.dropped += len(entries) - len(taken)
        if taken:
            self._put += len(taken)
            self._queue.put(taken)

    def stop(self) -> None:
        """Return once all that has come is written."""
        self._queue.put(None)
        self.join()

    def run(self) -> None:
        """Write until `stop`."""
        while (first := self._queue.get()) is not None:
            entries = [*first]
            ends = False
            while not ends and not self._queue.empty():
                more = self._queue.get()
                ends = more is None
                entries += more or ()
            with self._file.lock or nullcontext():
                self._file.write([self._line(*entry) for entry in entries])
            self._written += len(entries)
            if ends:
                break

    def _line(self, created: float, level: str, event: str, fields: Mapping[str, Any]) -> bytes:
        at = datetime.fromtimestamp(created, UTC).isoformat(timespec="milliseconds")
        line = {"at": at, "level": level, "event": event, **self._common, **fields}
        return json.dumps({name: value for name, value in line.items() if value is not None}).encode() + b"\n"
