"""Whether a cluster can be used: it answers, is closed to others, and both sides have TLS or neither."""

from __future__ import annotations

import ipaddress
import os
import socket
import ssl

from safemt_client.providers.errors import InputError

__all__ = ["check_closed", "check_reached", "check_tls"]

_ANSWER_S = 10.0
_CERTIFICATES = ("RAY_TLS_CA_CERT", "RAY_TLS_SERVER_CERT", "RAY_TLS_SERVER_KEY")
"""What Ray needs for TLS: files, named by variables of the environment."""


def check_reached(address: str) -> str:
    """Refuse an address where nothing answers: Ray would try for minutes, and say so in words of its own.

    Returns the IP address of the machine.

    Raises:
        InputError: it is one, or no address.
    """
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=_ANSWER_S) as connection:
            return str(connection.getpeername()[0])
    except ValueError:
        raise InputError(f"--ray {address}: give auto or HOST:PORT") from None
    except OSError as error:
        why = error.strerror or "no answer"
        raise InputError(
            f"--ray {address}: nothing answers there ({why}): is Ray started there, and does its port fit?"
        ) from None


def check_closed(addresses: list[str]) -> None:
    """Refuse a cluster across a network that anyone could join or listen to.

    Raises:
        InputError: it is one.
    """
    if all(ipaddress.ip_address(address).is_loopback for address in addresses):
        return
    token = os.environ.get("RAY_AUTH_MODE") == "token"
    tls = _uses_tls()
    if not token or not tls:
        lacking = " and ".join(
            name for name, there in (("RAY_AUTH_MODE=token", token), ("RAY_USE_TLS=1", tls)) if not there
        )
        raise InputError(
            "--ray: replies cross the network, and whoever reaches the cluster can run programs in it: start "
            f"it and this run with {lacking} (docs/scaling.md), or add --ray-insecure on a network of yours"
        )


def check_tls(address: str) -> None:
    """Refuse a cluster with other certificates, or where one side has TLS and the other has not.

    Ray would try for minutes, and say so in words of its own.

    Raises:
        InputError: it is one, or the certificates of this machine cannot be read.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.set_alpn_protocols(["h2"])
    uses_tls = _uses_tls()
    if uses_tls:
        _load_certificates(context)
    else:
        context.verify_mode = ssl.CERT_NONE
    host, _, port = address.rpartition(":")
    try:
        with (
            socket.create_connection((host.strip("[]"), int(port)), timeout=_ANSWER_S) as connection,
            context.wrap_socket(connection),
        ):
            pass
    except ssl.SSLCertVerificationError as error:
        raise InputError(
            f"--ray {address}: its certificate does not fit RAY_TLS_CA_CERT here ({error.verify_message}): "
            "use the same authority on all machines"
        ) from None
    except OSError:
        if uses_tls:
            raise InputError(
                f"--ray {address}: RAY_USE_TLS=1 is set here and the cluster has no TLS: start it with "
                "RAY_USE_TLS=1 too"
            ) from None
    else:
        if not uses_tls:
            raise InputError(
                f"--ray {address}: the cluster has TLS: set RAY_USE_TLS=1 here too, and "
                f"{', '.join(_CERTIFICATES)}"
            )


def _uses_tls() -> bool:
    return os.environ.get("RAY_USE_TLS", "0") not in ("", "0")


def _load_certificates(context: ssl.SSLContext) -> None:
    """Take the certificates that Ray takes.

    Raises:
        InputError: one of them is missing or cannot be read.
    """
    for name in _CERTIFICATES:
        if not os.environ.get(name):
            raise InputError(f"--ray: RAY_USE_TLS=1 needs {name}: a file in PEM form")
    authority, certificate, key = (os.environ[name] for name in _CERTIFICATES)
    try:
        context.load_verify_locations(authority)
        context.load_cert_chain(certificate, key)
    except OSError as error:
        why = error.strerror or "it cannot be read"
        raise InputError(f"--ray: {', '.join(_CERTIFICATES)}: {why}: name files in PEM form") from None
