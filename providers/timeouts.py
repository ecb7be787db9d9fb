"""How long a request may take: each attempt, the waits between them, and the turn as a whole."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["DEFAULT_TIMEOUTS", "Timeouts"]


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Limits in seconds; each holds on its own."""

    max_wait_s: float = 3600
    """Of waiting between the attempts of a turn, and for an outage of the target to end."""
    attempt_s: float = 180
    """Of one attempt, from when it is sent."""
    turn_s: float = 7200
    """Of all attempts of a turn, with the waits for permits and between them, outages left out."""


DEFAULT_TIMEOUTS = Timeouts()
