"""Servers that nobody watches any more: found by the records beside a store, and ended."""

from __future__ import annotations

import glob
import json
import os
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path

from safemt_client.serving.keeper import GRACE_S, MARK, Record, group_lives, place, start_of, stat_of

__all__ = ["ENDING", "end_left", "read_record", "records", "sweep"]

ENDING = ".serving"
"""How the names of records end."""

_PAUSE_S = 0.02
_LINUX = sys.platform == "linux"


def sweep(db: Path, grace_s: float = GRACE_S) -> list[str]:
    """End what earlier runs on this store have left running; what was ended, by its name.

    A server whose watchdog is alive is somebody's: it is left alone. So is what another machine recorded,
    and a process whose number is the same but which began at another time.
    """
    if not hasattr(os, "killpg"):
        return []  # Windows, where no server is started
    ended = []
    for path in records(db):
        record = read_record(path)
        if record is None or record["place"] != place():
            continue
        if start_of(record["keeper"]) == record["keeper_start"]:
            continue
        if end_left(record, grace_s):
            ended.append(record["title"])
        path.unlink(missing_ok=True)
    return ended


def records(db: Path) -> list[Path]:
    """The records beside a store: of servers that run, and of those that were left."""
    return [Path(name) for name in glob.glob(f"{glob.escape(str(db))}.*{ENDING}")]


def read_record(path: Path) -> Record | None:
    """The record in a file; None if it is not one, or gone."""
    try:
        content = json.loads(path.read_bytes())
        found: Record = {name: kind(content[name]) for name, kind in _FIELDS.items()}  # type: ignore[assignment]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    # The numbers 0 and 1 are not those of a group of ours.
    return found if min(found["keeper"], found["group"]) > 1 and found["mark"] else None


_FIELDS = {"keeper": int, "group": int} | dict.fromkeys(
    ("title", "place", "keeper_start", "start", "mark"), str
)


def end_left(record: Record, grace_s: float = GRACE_S) -> bool:
    """End the processes of a server whose watchdog has ended; whether there were any.

    They get TERM, and KILL after a while. This blocks until they have ended.
    """
    left = _left(record, known=False)
    found, kill_at, told = bool(left), time.monotonic() + grace_s, set()
    while left:
        late = time.monotonic() >= kill_at
        for pid in left:
            if late or pid not in told:
                told.add(pid)
                with suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, signal.SIGKILL if late else signal.SIGTERM)
        time.sleep(_PAUSE_S)
        left = _left(record, known=True)
    return found


def _left(record: Record, *, known: bool) -> list[int]:
    """The numbers of a server's processes for `os.kill`; without `/proc` that of its group, negative.

    A group keeps its number for as long as it has a process: once `known` to be the server's, it stays that.
    """
    group, leader = record["group"], start_of(record["group"])
    ours = leader == record["start"]
    if not _LINUX:
        return [-group] if (known or ours) and group_lives(group) else []
    mark = f"{MARK}={record['mark']}".encode()
    found = []
    for pid in (int(name) for name in os.listdir("/proc") if name.isdecimal()):
        stat = stat_of(pid)
        if stat is None or stat[0] == "Z":
            continue
        # Without its leader, a group in the same session that began after it is meant.
        in_group = stat[2:4] == [str(group), str(record["keeper"])]
        if (in_group and (ours or leader is None) and int(stat[19]) >= int(record["start"] or 0)) or _has(
            pid, mark
        ):
            found.append(pid)
    return found


def _has(pid: int, variable: bytes) -> bool:
    """Whether a variable is in a process's environment, as it was when it began."""
    try:
        return variable in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:  # another user's, or it has ended
        return False
