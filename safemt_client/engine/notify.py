"""The command that is run when a run has ended, and how it learns the result."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import TypeVar

from safemt_client.engine.invocation import Invocation
from safemt_client.engine.results import result_of
from safemt_client.settings import words_of
from safemt_client.telemetry.events import RunResult

__all__ = ["notify", "with_notification"]

T = TypeVar("T")

_NOTIFY_S = 60.0
# The environment variables that a command receives: no keys, whatever they are called.
_PASSED_ON = (
    *("PATH", "HOME", "USER", "LOGNAME", "SHELL", "TMPDIR", "TZ", "LANG", "LANGUAGE", "TERM"),
    *("DISPLAY", "WAYLAND_DISPLAY", "DBUS_SESSION_BUS_ADDRESS", "XDG_RUNTIME_DIR"),
)


def with_notification(command: str | None, db: Path, invocation: Invocation, body: Callable[[], T]) -> T:
    """Carry out `body`; then, however it ended, run the command of `--on-finish`.

    `body` notes its run and result in the invocation; without a result it has not run anything, as with
    `--dry-run`. SIGTERM ends it as Ctrl-C does, also before and after the session proper.
    """
    with _terminable():
        try:
            found = body()
        except BaseException as error:
            notify(command, db, invocation.run_id, result_of(error, invocation.result))
            raise
        if invocation.result is not None:
            notify(command, db, invocation.run_id, invocation.result)
    return found


def notify(
    command: str | None, db: Path, run_id: str, result: RunResult, *, limit_s: float = _NOTIFY_S
) -> None:
    """Run a command that is told how the run ended. If it fails, that is only a one-line warning."""
    if command is None:
        return
    try:
        words = words_of(command)
        process = subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            env=_environment(os.environ)
            | {
                "SAFEMT_RUN_ID": run_id,
                "SAFEMT_STATUS": result.status,
                "SAFEMT_EXIT_STATUS": str(result.exit_status),
                "SAFEMT_AGAIN": "yes" if result.again else "no",
                "SAFEMT_DB": str(db.absolute()),
                "SAFEMT_SUMMARY": result.summary,
            },
            start_new_session=True,
            # The same for Windows, which has no sessions.
            creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),
        )
    except (OSError, ValueError) as error:
        _warn(f"cannot be run: {error.strerror if isinstance(error, OSError) else error}")
        return
    try:
        if status := process.wait(limit_s):
            _warn(f"ended with status {status}")
    except (subprocess.TimeoutExpired, KeyboardInterrupt) as error:
        _kill(process)
        late = isinstance(error, subprocess.TimeoutExpired)
        _warn(f"stopped after {limit_s:g} s" if late else "interrupted")


def _warn(text: str) -> None:
    print(f"safemt: warning: --on-finish: {text}", file=sys.stderr)


def _kill(process: subprocess.Popen[bytes]) -> None:
    """End a command and everything it started."""
    with suppress(ProcessLookupError):  # it has just ended
        if hasattr(os, "killpg"):
            os.killpg(process.pid, signal.SIGKILL)
        else:  # Windows ends the command alone
            process.kill()
    process.wait()


def _environment(given: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in given.items() if name in _PASSED_ON or name.startswith("LC_")}


@contextmanager
def _terminable() -> Iterator[None]:
    """Treat SIGTERM as a KeyboardInterrupt meanwhile."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield  # signals belong to the main thread
        return
    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
