"""A watchdog for one server: it starts the server, and ends it with all its processes once nobody needs it.

    python -I -S keeper.py < PIPE

The first line of the pipe is a JSON object (`Order`); what ends the server is the pipe's other end, when it
is closed or its owner dies, however it dies. Whatever the server and its processes print goes to the
watchdog's standard error, which is a file, without the secrets of the order. On its standard output it
tells, in lines of JSON: `{"pid": N}` once the server runs, `{"cannot": "why"}` if it cannot be run, and
`{"status": N}` when it and its processes have ended.

On Linux nothing is left after SIGKILL either: if the server is killed, its orphans become children of the
watchdog, which ends them too; if the watchdog is killed, the kernel sends SIGTERM to the server, and the
program that holds the pipe ends the rest by the record (`sweep.py`). macOS has neither: there a process that
has left the server's group is not found, and a server whose watchdog and program are both killed goes on
until the next run on the same store.

Nothing but the standard library is used, and nothing of this program: it must start in a moment and outlive
everything.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any, TypedDict

__all__ = ["GRACE_S", "MARK", "Order", "Record", "group_lives", "place", "start_of", "stat_of"]

MARK = "SAFEMT_SERVER"
"""The variable in the environment of a server's processes by which they are recognised."""
GRACE_S = 10.0
"""How long a server may take to end by itself before it is killed."""
_PAUSE_S = 0.02
_LINUX = sys.platform == "linux"
_SET_PDEATHSIG, _SET_CHILD_SUBREAPER = 1, 36
_LONGEST_LINE = 1 << 16


class Order(TypedDict):
    """What the watchdog is told. The server's environment is the watchdog's own, and the mark."""

    command: list[str]
    record: str
    """The file for a `Record`."""
    secrets: list[str]
    """What never reaches the log."""
    title: str
    mark: str
    """The value of the variable `MARK` for the server."""
    grace_s: float


class Record(TypedDict):
    """What the file beside the store holds while a server runs."""

    title: str
    place: str
    """Where the process numbers mean something: see `place`."""
    keeper: int
    keeper_start: str
    group: int
    """Process group of the server, and the server's own number; its session is the watchdog's number."""
    start: str
    mark: str


def place() -> str:
    """This start of this machine and this space of process numbers: in another one they mean nothing."""
    node = os.uname().nodename
    if not _LINUX:
        return node
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
        return f"{node} {file.read().strip()} {os.readlink('/proc/self/ns/pid')}"


def start_of(pid: int) -> str | None:
    """When a process began, in the system's own form; None if there is none, or only its remains."""
    if _LINUX:
        found = stat_of(pid)
        return None if found is None or found[0] == "Z" else found[19]
    said = subprocess.run(["ps", "-o", "stat=,lstart=", "-p", str(pid)], capture_output=True, text=True)
    state, _, start = said.stdout.strip().partition(" ")
    return None if not state or state.startswith("Z") else start.strip()


def stat_of(pid: int | str) -> list[str] | None:
    """The fields of `/proc/PID/stat` from the state on: parent 1, group 2, session 3, start 19."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            return file.read().rpartition(")")[2].split()
    except OSError:  # it has ended
        return None


def group_lives(group: int) -> bool:
    """Whether a process group has a process left."""
    try:
        os.killpg(group, 0)
    except (ProcessLookupError, PermissionError):  # the second is macOS's word for one that only has remains
        return False
    return True


def _prctl(option: int, value: int) -> None:
    if _LINUX:
        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


class _Log:
    """Standard error, a file: takes whole lines, without secrets. A full disk never stops the server."""

    def __init__(self, secrets: list[str]) -> None:
        self._secrets = [secret.encode() for secret in secrets if secret]
        self._longest = max(map(len, self._secrets), default=1)
        self._rest = b""

    def write(self, data: bytes) -> None:
        text = self._rest + data
        for secret in self._secrets:
            text = text.replace(secret, b"[key]")
        end = max(text.rfind(b"\n"), text.rfind(b"\r")) + 1
        if len(text) - end > _LONGEST_LINE:
            # What is kept back may be the beginning of a secret.
            end = len(text) - self._longest + 1
        self._rest = text[end:]
        self._put(text[:end])

    def close(self) -> None:
        if self._rest:
            self._put(self._rest + b"\n")

    def _put(self, text: bytes) -> None:
        with contextlib.suppress(OSError):
            while text:
                text = text[os.write(2, text) :]


class _Keeper:
    """One server under watch."""

    def __init__(self, order: Order, tell: Callable[[dict[str, Any]], None]) -> None:
        self._order, self._tell = order, tell
        self._log = _Log(order["secrets"])
        self._status: int | None = None
        self._asked = False
        self._orphans = True
        """Whether there may be children to wait for."""
        self._events = selectors.DefaultSelector()
        woken, wake = os.pipe()
        for end in (woken, wake):
            os.set_blocking(end, False)
        # Functions, not SIG_IGN, which the server would inherit.
        for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM, signal.SIGCHLD):
            signal.signal(number, lambda *_: None)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        self._events.register(0, selectors.EVENT_READ, self._from_owner)
        self._events.register(woken, selectors.EVENT_READ, self._signalled)

    def run(self) -> None:
        parent = os.getpid()

        def before() -> None:
            # Sent when the thread ends that forked: the main thread, which ends with the watchdog.
            _prctl(_SET_PDEATHSIG, signal.SIGTERM)
            if os.getppid() != parent:
                os._exit(1)

        try:
            server = subprocess.Popen(
                self._order["command"],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env=os.environ | {MARK: self._order["mark"]},
                process_group=0,
                preexec_fn=before if _LINUX else None,
            )
        except (OSError, subprocess.SubprocessError) as error:
            self._log.close()
            self._tell({"cannot": getattr(error, "strerror", None) or str(error)})
            return
        self._group = server.pid
        assert server.stdout is not None
        os.set_blocking(server.stdout.fileno(), False)
        self._events.register(server.stdout, selectors.EVENT_READ, self._printed)
        try:
            self._write_record()
            self._tell({"pid": server.pid})
            while self._status is None and not self._asked:
                self._wait(None)
        finally:
            self._end()
            with contextlib.suppress(OSError):
                os.unlink(self._order["record"])
        # Waited for here and not by `Popen`, together with the orphans.
        server.returncode = self._status or 0
        self._log.close()
        self._tell({"status": server.returncode})

    def _write_record(self) -> None:
        record: Record = {
            "title": self._order["title"],
            "place": place(),
            "keeper": os.getpid(),
            "keeper_start": start_of(os.getpid()) or "",
            "group": self._group,
            "start": start_of(self._group) or "",
            "mark": self._order["mark"],
        }
        path, part = self._order["record"], self._order["record"] + ".part"
        with open(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
            json.dump(record, file)
        os.replace(part, path)

    def _wait(self, limit_s: float | None) -> None:
        for key, _ in self._events.select(limit_s):
            key.data(key.fd)
        self._reap()

    def _from_owner(self, fd: int) -> None:
        if not os.read(fd, 1024):
            self._asked = True
            self._events.unregister(fd)

    def _signalled(self, fd: int) -> None:
        if signal.SIGTERM in os.read(fd, 1024):
            self._asked = True

    def _printed(self, fd: int) -> None:
        if data := os.read(fd, 1 << 16):
            self._log.write(data)
        else:
            self._events.unregister(fd)

    def _reap(self) -> None:
        try:
            while (ended := os.waitpid(-1, os.WNOHANG))[0]:
                if ended[0] == self._group:
                    self._status = os.waitstatus_to_exitcode(ended[1])
        except ChildProcessError:
            self._orphans = False

    def _end(self) -> None:
        """End the server's group, and each orphan that comes here meanwhile: TERM, and KILL after a while."""
        kill_at = time.monotonic() + self._order["grace_s"]
        told: set[tuple[int, int]] = set()
        while True:
            self._orphans = True
            self._reap()
            if not self._orphans and not group_lives(self._group):
                break
            late = time.monotonic() >= kill_at
            number = signal.SIGKILL if late else signal.SIGTERM
            if late or (self._group, number) not in told:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(self._group, number)
                told.add((self._group, number))
            for pid in _children():
                if (pid, number) not in told and (stat_of(pid) or [""] * 3)[2] != str(self._group):
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, number)
                    told.add((pid, number))
            self._wait(_PAUSE_S)
        # What they printed last: no more than fits into a pipe.
        for _ in range(16):
            if any(key.data == self._printed for key, _ in self._events.select(0)):
                self._wait(0)


def _children() -> list[int]:
    """Processes whose parent is this one: on Linux also those that it took over."""
    if not _LINUX:
        return []
    own = str(os.getpid())
    return [int(n) for n in os.listdir("/proc") if n.isdecimal() and (stat_of(n) or ["", ""])[1] == own]


def _tell(what: dict[str, Any]) -> None:
    with contextlib.suppress(OSError):  # nobody listens any more
        os.write(1, json.dumps(what).encode() + b"\n")


def main() -> int:
    """Carry out the order that standard input begins with."""
    line = b""
    # Byte by byte: the end of the pipe must be seen by the selector.
    while not line.endswith(b"\n"):
        if not (byte := os.read(0, 1)):
            return 0
        line += byte
    if os.getsid(0) != os.getpid():
        with contextlib.suppress(PermissionError):  # leads a group already, as in a shell
            os.setsid()
    _prctl(_SET_CHILD_SUBREAPER, 1)
    order: Order = json.loads(line)
    _Keeper(order, _tell).run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
