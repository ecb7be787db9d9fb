"""What is said where Ray cannot be used, or not safely."""

import os
import socket
import ssl
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from threading import Thread
from types import SimpleNamespace

import pytest
from support.network import make_certificate

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


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[Path, Path]]:
    """Two, each with its key and its own authority."""
    return [make_certificate(tmp_path_factory.mktemp("tls"), "127.0.0.1") for _ in range(2)]


@contextmanager
def listening(pair: tuple[Path, Path] | None) -> Iterator[str]:
    """A server with this certificate, or without TLS; its address."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    if pair is not None:
        context.load_cert_chain(*pair)
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            with suppress(OSError):
                while True:
                    connection, _ = server.accept()
                    with connection, suppress(OSError):
                        if pair is None:
                            connection.recv(1000)
                        else:
                            context.wrap_socket(connection, server_side=True).close()

        Thread(target=serve, daemon=True).start()
        yield f"127.0.0.1:{server.getsockname()[1]}"
        server.shutdown(socket.SHUT_RDWR)


def use_tls(monkeypatch: pytest.MonkeyPatch, pair: tuple[Path, Path]) -> None:
    """This process has the certificate, which signs itself."""
    monkeypatch.setenv("RAY_USE_TLS", "1")
    for name, file in zip(("CA_CERT", "SERVER_CERT", "SERVER_KEY"), (pair[0], *pair), strict=True):
        monkeypatch.setenv(f"RAY_TLS_{name}", str(file))


def said_at(address: str) -> str:
    settings = RunSettings(provider=["demo"], ray=address, ray_insecure=True)
    with pytest.raises(InputError) as error, started(settings):
        pass
    return str(error.value)


def test_both_sides_have_tls_or_neither(
    imported: None, certificates: list[tuple[Path, Path]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RAY_USE_TLS", raising=False)
    with listening(None) as plain, listening(certificates[0]) as closed:
        assert "Ray cannot be used" in said_at(plain)
        assert f"--ray {closed}: the cluster has TLS: set RAY_USE_TLS=1 here too" in said_at(closed)
        use_tls(monkeypatch, certificates[0])
        assert "Ray cannot be used" in said_at(closed)
        assert "RAY_USE_TLS=1 is set here and the cluster has no TLS" in said_at(plain)
        use_tls(monkeypatch, certificates[1])
        assert "its certificate does not fit RAY_TLS_CA_CERT here" in said_at(closed)


def test_certificates_that_cannot_be_read_are_named(
    imported: None, certificates: list[tuple[Path, Path]], monkeypatch: pytest.MonkeyPatch
) -> None:
    use_tls(monkeypatch, certificates[0])
    with listening(certificates[0]) as address:
        monkeypatch.setenv("RAY_TLS_CA_CERT", "/nowhere.pem")
        assert "No such file or directory: name files in PEM form" in said_at(address)
        monkeypatch.setenv("RAY_TLS_CA_CERT", __file__)
        assert "name files in PEM form" in said_at(address)
        monkeypatch.delenv("RAY_TLS_CA_CERT")
        assert said_at(address) == "--ray: RAY_USE_TLS=1 needs RAY_TLS_CA_CERT: a file in PEM form"
