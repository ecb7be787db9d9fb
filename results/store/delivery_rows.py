"""The rows that say which deliveries of other processes a store has taken in."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

__all__ = ["DeliveryRow"]


@dataclass(frozen=True, slots=True)
class DeliveryRow:
    """Table `deliveries`: rows that another process of the session sent, taken in once and recorded here."""

    session_id: str
    incarnation: str
    number: int
    rows: int
    paid_usd: float | None
    recorded_at: datetime
