"""What taking a reply needs is loaded before calls are in flight: there may be no file left to open then."""

from __future__ import annotations

import importlib

from safemt_client.judges.refusal import refusal_of
from safemt_client.providers.responses.outcomes import classify_response

__all__ = ["load_ahead"]


def load_ahead() -> None:
    """Load rules, catalogues and modules that are otherwise read when the first reply needs them."""
    refusal_of("x")
    classify_response(500, {}, b"{}")
    importlib.import_module("safemt_client.providers.backoff")
