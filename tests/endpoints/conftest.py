"""Runs of these tests have a terminal of 200 columns and a clock that runs fast."""

import sys
from typing import Any

import pytest
from support.clock import HurriedLoop

from safemt_client.engine import loop


@pytest.fixture(autouse=True)
def _surroundings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("SAFEMT_API_KEY", "sk-planted-42")
    monkeypatch.setattr(sys, "argv", ["safemt"])
    hurried: dict[str, Any] = {"loop_factory": HurriedLoop}
    monkeypatch.setattr(loop, "_options", lambda: hurried)
