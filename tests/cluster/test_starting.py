"""What is said where Ray cannot be used, or not safely."""

import os
import socket
import sys
from contextlib import nullcontext
from types import SimpleNamespace

import pytest

from safemt_client.cluster.nodes import started
from safemt_client.providers.errors import InputError
from safemt_client.settings import RunSettings


class RayOfTest(SimpleNamespace):
    """As far as it gets."""

    def is_initialized(self) -> bool:
        return False

    def init(self, **options: object) -> None:
        raise Exception("The current node timed out during startup.\nSee the logs.")


@pytest.fixture
def imported(monkeypatch: pytest.MonkeyPatch) -> None:
    """It has been imported by this process."""
    monkeypatch.setitem(sys.modules, "ray", RayOfTest())  # type: ignore[arg-type]


def test_a_start_that_fails_is_told_in_one_line(imported: None) -> None:
    said = r"^--workers: Ray cannot be used: The current node timed out during startup\.$"
    with pytest.raises(InputError, match=said), started(RunSettings(provider=["demo"], workers=1)):
        pass


def test_ray_that_was_imported_without_a_token_is_refused(
    imported: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RAY_AUTH_MODE")
    said = r"^--workers: this process has imported Ray before the run and without a token"
    with pytest.raises(InputError, match=said), started(RunSettings(provider=["demo"], workers=1)):
        pass
    assert "RAY_AUTH_MODE" not in os.environ


def test_a_cluster_beyond_loopback_is_not_even_asked_without_tls(
    imported: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Connected:
        def getpeername(self) -> tuple[str, int]:
            return "192.0.2.7", 6379

    monkeypatch.setattr(socket, "create_connection", lambda *at, **how: nullcontext(Connected()))
    monkeypatch.delenv("RAY_USE_TLS", raising=False)
    settings = RunSettings(provider=["demo"], ray="head:6379")
    said = r"^--ray: replies cross the network.* with RAY_USE_TLS=1 \("
    with pytest.raises(InputError, match=said), started(settings):
        pass
    insecure = settings.model_copy(update={"ray_insecure": True})
    with pytest.raises(InputError, match="Ray cannot be used"), started(insecure):
        pass
