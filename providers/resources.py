"""What this process may use of its machine: open files, each connection being one, memory and threads."""

from __future__ import annotations

import errno
import os
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import asyncio

try:
    import resource
except ImportError:  # Windows has no such limits
    resource = None  # type: ignore[assignment]

__all__ = ["calls_at_once", "in_one_line", "open_files_limit", "raise_open_files", "shortage"]

_KEPT_BACK = 32
"""Files for everything else: images, names of hosts, modules, the database's own, and who asks the run."""
_ERRORS = {
    errno.EMFILE: "too many open files: raise the limit (ulimit -n)",
    errno.ENFILE: "too many open files on this machine",
    errno.ENOMEM: "out of memory",
}
_IN_WORDS = {
    os.strerror(errno.EMFILE): _ERRORS[errno.EMFILE],
    "failed to map segment": _ERRORS[errno.ENOMEM],
    "annot allocate memory": _ERRORS[errno.ENOMEM],
}
_NO_THREAD = "no further thread can be started: raise the limit of processes (ulimit -u) or of memory"


def raise_open_files() -> None:
    """Lift the soft limit of open files, as far as it may be lifted."""
    if resource is None:
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard == resource.RLIM_INFINITY or soft < hard:
        # A system may have a limit of its own below the hard one.
        with suppress(OSError, ValueError):
            resource.setrlimit(
                resource.RLIMIT_NOFILE, (hard if hard != resource.RLIM_INFINITY else 65_536, hard)
            )


def open_files_limit() -> int:
    """How many files this process may have open; as many as one likes where there is no such limit."""
    if resource is None:
        return sys.maxsize
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def calls_at_once(files_a_call: int = 1) -> int | None:
    """How many calls may be in flight beside what is open already; None where nothing limits them."""
    limit = open_files_limit()
    if resource is None or limit == resource.RLIM_INFINITY:
        return None
    try:
        opened = len(os.listdir("/dev/fd"))
    except OSError:
        opened = 16
    return max(0, limit - opened - _KEPT_BACK) // files_a_call


def shortage(error: BaseException | None) -> str | None:
    """What of this machine there was not enough of, None if the error is of another kind."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        if isinstance(error, OSError) and error.errno in _ERRORS:
            return _ERRORS[error.errno]
        if isinstance(error, RuntimeError) and "can't start new thread" in str(error):
            return _NO_THREAD
        # DuckDB has exceptions of its own.
        if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryException":
            return _ERRORS[errno.ENOMEM]
        # The loader of shared libraries has no errors of its own, and DuckDB none with a number.
        if isinstance(error, ImportError) or type(error).__name__ == "IOException":
            for words, why in _IN_WORDS.items():
                if words in str(error):
                    return why
        error = error.__cause__ or error.__context__
    return None


def in_one_line(loop: asyncio.AbstractEventLoop) -> None:
    """Let a loop say once what its servers lack: asyncio prints a traceback for every client that waits."""
    told: set[str] = set()

    def handle(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        why = shortage(context.get("exception"))
        if why is None:
            loop.default_exception_handler(context)
        elif why not in told:
            told.add(why)
            print(f"safemt: clients have to wait: {why}", file=sys.stderr)

    loop.set_exception_handler(handle)
