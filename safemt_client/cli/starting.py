"""Ctrl-C while the program starts: it loads modules and opens files, and has nothing to lose yet."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

__all__ = ["INTERRUPTED", "starting"]

INTERRUPTED = "safemt: interrupted; the same command resumes"


@contextmanager
def starting() -> Iterator[None]:
    """Meanwhile Ctrl-C ends the process at once.

    A KeyboardInterrupt does not do here: importing a module may swallow it, crash on it, or turn it into
    another error, and so may DuckDB.
    """
    own = threading.current_thread() is threading.main_thread()
    if not own or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return
    signal.signal(signal.SIGINT, _leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _leave(number: int, frame: FrameType | None) -> None:
    sys.stdout.flush()
    os.write(2, f"{INTERRUPTED}\n".encode())
    os._exit(1)
