"""How a session ended that an exception ended."""

from __future__ import annotations

import asyncio

from safemt_client.providers.errors import InputError, SafemtError
from safemt_client.results.store.errors import StoreError, StoreMovedError
from safemt_client.telemetry.events import RunResult, StoppedAtOnceError

__all__ = ["result_of"]


def result_of(error: BaseException, ended: RunResult | None = None) -> RunResult:
    """The result of a session that an exception ended.

    One that had `ended` before something else failed keeps its result, unless it was the store that failed.
    """
    if ended is not None and not isinstance(error, StoreError):
        return ended
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    if isinstance(error, KeyboardInterrupt | asyncio.CancelledError | StoppedAtOnceError):
        return RunResult("stopped", 1, "interrupted: stopped at once", again=True)
    if isinstance(error, StoreMovedError):
        # The same command would begin a new store and pay for everything again.
        return RunResult("failed", 1, "the store was renamed, removed or overwritten", "store_error")
    if isinstance(error, StoreError):
        return RunResult("failed", 1, "the store cannot be written", "store_error", again=True)
    if isinstance(error, InputError):
        return RunResult("failed", 2, "bad input: nothing was started", "bad_input")
    if isinstance(error, SafemtError):
        return RunResult("failed", 1, "failed", "failed", again=True)
    return RunResult("failed", 1, f"failed: {type(error).__name__}", "failed", again=True)
