"""The rows of servers that the program started for models."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

__all__ = ["ServerUseRow"]


@dataclass(frozen=True, slots=True)
class ServerUseRow:
    """Table `server_use`: what a server that the program started for a model did in a part of one session."""

    run_id: str
    session_id: str
    recorded_at: datetime
    server: str
    requests: int
    served_s: float
    prompt_tokens: int | None  # these four as the server says
    cached_tokens: int | None
    completion_tokens: int | None
    queue_s: float | None
