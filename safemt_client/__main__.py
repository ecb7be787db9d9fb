"""The command line, `python -m safemt_client` and `safemt`: from arguments to an exit status."""

from __future__ import annotations

import atexit
import gc
import os
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress

from safemt_client.cli.starting import starting

__all__ = ["console", "main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; return its exit status."""
    # Many small objects live long here: the default garbage collection takes a tenth of a run. A start and a
    # plan of 2,000 dialogues alone make two hundred thousand, none of which is garbage.
    gc.set_threshold(300_000, 20, 20)
    # numpy's threads for linear algebra compute a tenth of a second for nothing, first of all when numpy is
    # loaded, before they sleep: as soon as they have nothing to do they sleep instead.
    os.environ.setdefault("OPENBLAS_THREAD_TIMEOUT", "4")
    with starting():
        from safemt_client.cli.program import run
    status = run(argv)
    server = sys.modules.get("safemt_client.results.store.server")
    if server is not None and server.works_on():
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    return status


def console() -> int:
    """Run the command that a shell gave; its exit status, if the process is still there to return it."""
    status = main()
    if _nothing_waits():
        # Taking a hundred thousand objects apart one by one is a fifth of a small run, and the system has
        # them back at once. Whatever asked to be called at the end is called, as ever.
        atexit._run_exitfuncs()
        with suppress(OSError, ValueError):
            for stream in (sys.stdout, sys.stderr):
                if stream is not None:
                    stream.flush()
            os._exit(status)
    return status


def _nothing_waits() -> bool:
    """Whether an ordinary exit would wait for no thread, and no profiler or debugger for an ordinary exit."""
    threads = (one for one in threading.enumerate() if one is not threading.main_thread())
    return all(one.daemon for one in threads) and sys.getprofile() is None and sys.gettrace() is None


if __name__ == "__main__":
    sys.exit(console())
