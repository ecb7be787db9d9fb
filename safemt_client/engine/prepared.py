"""What a session is given, before any of what carries it out is loaded."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

    from safemt_client.engine.recorder import Recorder
    from safemt_client.judges.panel import Judge
    from safemt_client.models import Models
    from safemt_client.planning.plan import Plan
    from safemt_client.planning.resolved import Resolved
    from safemt_client.results.store.store import Store
    from safemt_client.settings import RunSettings
    from safemt_client.telemetry.events import RunResult, StopReason

    Finish = Callable[[Plan, StopReason, Store, RunSettings, Console | None], RunResult]

__all__ = ["Prepared"]


@dataclass(frozen=True)
class Prepared:
    """Everything a session needs. Without a `store` there is none yet: a new one is made.

    `recorder` makes what writes into it, and `finish` says how the session ended; None are those of a run.
    `wanted` is what the plan was made of, by which parts of it can be planned again.
    """

    plan: Plan
    judge: Judge | None
    models: Models
    store: Store | None
    settings: RunSettings
    recorder: Callable[[Plan, Store, str], Recorder] | None = None
    finish: Finish | None = None
    wanted: Resolved | None = None
