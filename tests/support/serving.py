"""Managed servers in tests: the stand-in's specification, and which processes there are."""

import os
import sys
from pathlib import Path

from safemt_client.serving.keeper import MARK, Record, start_of
from safemt_client.serving.server import ServerSpec
from safemt_client.serving.sweep import read_record

from . import stand_in

__all__ = ["left", "of_stand_in", "record_of"]


def of_stand_in(*words: str, **changed: object) -> ServerSpec:
    """A server that behaves as the words say."""
    given: dict[str, object] = {
        "name": "stand:in",
        "model": stand_in.MODEL,
        "command": (sys.executable, "-S", stand_in.__file__, "{port}", *words),
        "key_variable": "STAND_IN_KEY",
    }
    return ServerSpec(**given | changed)  # type: ignore[arg-type]


def record_of(folder: Path) -> Record:
    """What is recorded of the one server of a folder."""
    (path,) = folder.glob("*.serving")
    record = read_record(path)
    assert record is not None
    return record


def left(record: Record) -> set[int]:
    """The processes of a server and its watchdog that there are still."""
    mark = f"{MARK}={record['mark']}".encode()
    found = {record["keeper"]} if start_of(record["keeper"]) == record["keeper_start"] else set()
    for entry in os.scandir("/proc"):
        try:
            if entry.name.isdecimal() and mark in Path(entry.path, "environ").read_bytes().split(b"\0"):
                found.add(int(entry.name))
        except OSError:
            continue
    return found
