"""Here each store is made anew: that is what is tested."""

import pytest
from support.stores import make_stores_anew


@pytest.fixture(autouse=True)
def _anew(monkeypatch: pytest.MonkeyPatch) -> None:
    make_stores_anew(monkeypatch)
