"""Here each store is made anew: that is what is tested."""

import pytest
from support.stores import make_stores_anew

# What these are about comes after a store is made.
COPIED = {"test_deliveries", "test_inbox", "test_questions"}


@pytest.fixture(autouse=True)
def _anew(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.path.stem not in COPIED:
        make_stores_anew(monkeypatch)
