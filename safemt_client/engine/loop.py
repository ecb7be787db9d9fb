"""An event loop for a command: a new one, or one in a thread beside the loop that runs already."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import anyio
from anyio.from_thread import start_blocking_portal

from safemt_client.providers.errors import SafemtError
from safemt_client.providers.resources import in_one_line, raise_open_files

__all__ = ["in_main_thread", "loop_is_running", "run_in_loop"]

T = TypeVar("T")


def run_in_loop(main: Callable[[], Awaitable[T]], interrupt: Callable[[], bool] | None = None) -> T:
    """Run on uvloop where it is installed; show a single error instead of a group of one.

    If a loop is already running, as in a notebook, `main` runs in a thread with its own loop. Ctrl-C
    then calls `interrupt` in that loop; if it answers False, or there is none, `main` is cancelled.
    """
    raise_open_files()

    async def quietly() -> T:
        in_one_line(asyncio.get_running_loop())
        return await main()

    try:
        if loop_is_running():
            return _run_beside(quietly, interrupt)
        return anyio.run(quietly, backend_options=_options())
    except BaseExceptionGroup as group:
        raise _single(group) from None


def _run_beside(main: Callable[[], Awaitable[T]], interrupt: Callable[[], bool] | None) -> T:
    with _ctrl_c_here(), start_blocking_portal("asyncio", _options()) as portal:
        future = portal.start_task_soon(main)
        while True:
            try:
                return future.result()
            except KeyboardInterrupt:
                if interrupt is None or not portal.call(interrupt):
                    future.cancel()
                    raise


@contextmanager
def _ctrl_c_here() -> Iterator[None]:
    """Ctrl-C is a KeyboardInterrupt here meanwhile: `asyncio.run` would cancel a task that waits."""
    if not in_main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def loop_is_running() -> bool:
    """Whether this thread is inside a running event loop."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def in_main_thread() -> bool:
    """Whether signals may be heard here."""
    return threading.current_thread() is threading.main_thread()


def _options() -> dict[str, Any]:
    try:
        import uvloop  # noqa: F401
    except ImportError:
        return {}
    return {"use_uvloop": True}


def _single(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """One error of a group: one that is made to be shown, if there is one."""
    shown, _ = group.split(SafemtError)
    leaf: BaseException = shown or group
    while isinstance(leaf, BaseExceptionGroup):
        leaf = leaf.exceptions[0]
    return leaf
