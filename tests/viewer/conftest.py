"""Viewers of small stores, asked over HTTP."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from safemt_client.viewer.serve import open_viewer


@pytest.fixture(scope="module")
def serve_store() -> Iterator[Callable[[Path], httpx.Client]]:
    """Serves stores until the module's tests end; the client has the cookie."""
    ends: list[Callable[[], object]] = []

    def start(path: Path) -> httpx.Client:
        viewer = open_viewer(path, port=0)
        thread = threading.Thread(target=viewer.run)
        thread.start()
        client = httpx.Client(base_url=viewer.base, follow_redirects=True, trust_env=False, timeout=60)
        ends.extend((client.close, viewer.stop, thread.join))
        assert client.get(f"/?token={viewer.token}").status_code == 200
        return client

    yield start
    for end in ends:
        end()
