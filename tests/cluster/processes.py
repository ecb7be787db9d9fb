"""Processes of Ray on this machine: which of them are actors of the tests' cluster, and their connections."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

__all__ = ["Socket", "actors", "descendants", "ports_to", "sockets"]


class Socket(NamedTuple):
    """Where a process listens or is connected; address and state as Linux writes them."""

    address: str
    port: int
    peer_port: int
    state: str


def actors(kind: str) -> set[int]:
    """The processes that are actors of a kind now, of the cluster that has the token of these tests."""
    found = set()
    token = f"RAY_AUTH_TOKEN={os.environ['RAY_AUTH_TOKEN']}".encode()
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            # Ray names them ray::Kind, with the method that is at work behind it.
            if path.read_bytes().startswith(f"ray::{kind}".encode()) and token in _environment(path.parent):
                found.add(int(path.parent.name))
        except OSError:
            continue
    return found


def descendants(root: int) -> set[int]:
    """All processes below one."""
    parents: dict[int, list[int]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(path.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
        parents.setdefault(parent, []).append(int(path.parent.name))
    found, queue = set(), [root]
    while queue:
        children = parents.get(queue.pop(), [])
        found.update(children)
        queue += children
    return found


def sockets(pids: set[int]) -> list[Socket]:
    """The TCP sockets that processes have."""
    inodes = set()
    for pid in pids:
        for link in Path(f"/proc/{pid}/fd").glob("*"):
            try:
                inodes.add(os.readlink(link))
            except OSError:
                continue
    found = []
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            cells = line.split()
            if f"socket:[{cells[9]}]" in inodes:
                address, _, port = cells[1].partition(":")
                found.append(Socket(address, int(port, 16), int(cells[2].partition(":")[2], 16), cells[3]))
    return found


def ports_to(port: int, pid: int) -> set[int]:
    """The ports of this machine from which a process is connected to one."""
    return {one.port for one in sockets({pid}) if one.peer_port == port}


def _environment(process: Path) -> list[bytes]:
    return (process / "environ").read_bytes().split(b"\0")
