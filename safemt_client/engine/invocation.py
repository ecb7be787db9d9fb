"""What is known of one call of `run` or `judge` from outside: who looks on, and how it ended."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from safemt_client.telemetry.events import ProgressSnapshot, RunResult

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["Invocation"]


@dataclass
class Invocation:
    """One call: what it is shown on, its run once there is a plan, and how it ended.

    Without a `console` nothing is printed. `on_progress` is told of each turn and verdict that has landed.
    With `signals` the session itself hears SIGINT and SIGTERM. `stop` asks the session to stop: gently the
    first time, at once the second time; None while there is no session.
    """

    console: Console | None = None
    on_progress: Callable[[ProgressSnapshot], object] | None = None
    signals: bool = False
    run_id: str = ""
    result: RunResult | None = None
    stop: Callable[[], None] | None = None

    def tell(self, line: str) -> None:
        """Print a line about what happens, where there is something to print on."""
        if self.console is not None:
            self.console.print(line, markup=False, highlight=False, soft_wrap=True)

    def interrupt(self) -> bool:
        """Ask the session to stop; False if there is none."""
        if self.stop is None:
            return False
        self.stop()
        return True
