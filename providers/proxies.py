"""The proxies that the environment names, and the certificates that it trusts.

As other programs do: `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY` and `NO_PROXY`, in capitals or not;
`SSL_CERT_FILE`, `SSL_CERT_DIR` and `REQUESTS_CA_BUNDLE`. A loopback address is never asked through a proxy.
"""

from __future__ import annotations

import base64
import ipaddress
import os
import ssl
import urllib.request
from functools import cache
from urllib.parse import unquote, urlsplit

from safemt_client.providers.addresses import shown
from safemt_client.providers.errors import InputError
from safemt_client.providers.keys import is_loopback

__all__ = ["certificates_for", "proxy_for", "secrets_of_proxies", "trust_named", "trusted"]

_BUNDLES = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE")
"""Variables of files with certificates to trust: OpenSSL's own, and that of requests."""


def proxy_for(url: str) -> str | None:
    """The proxy through which an address is asked, with its user and password; None for none.

    Raises:
        InputError: it is of a kind that cannot be used here.
    """
    parts = urlsplit(url)
    host = parts.hostname or ""
    if is_loopback(host):
        return None
    proxies = urllib.request.getproxies()
    proxy = proxies.get(parts.scheme) or proxies.get("all")
    where = host if parts.port is None else f"{host}:{parts.port}"
    if not proxy or urllib.request.proxy_bypass(where) or _in_excepted_network(host, proxies.get("no", "")):
        return None
    proxy = proxy if "://" in proxy else f"http://{proxy}"
    scheme = _scheme(proxy)
    if scheme is None:
        raise InputError(
            f"{shown(proxy)}: not the address of a proxy: write http://HOST:PORT into HTTPS_PROXY"
        )
    if scheme not in ("http", "https"):
        raise InputError(
            f"{shown(proxy)}: this kind of proxy cannot be used: name one with http:// in HTTPS_PROXY and "
            f"HTTP_PROXY, or except {host} by NO_PROXY"
        )
    return proxy


def secrets_of_proxies() -> tuple[str, ...]:
    """What a proxy is told of its user, which its own answers may repeat: the password above all."""
    found: list[str] = []
    for name, url in urllib.request.getproxies().items():
        place, at, _ = url.partition("://")[2].rpartition("@") if "://" in url else url.rpartition("@")
        if name == "no" or not at:
            continue
        user, _, password = place.partition(":")
        pair = f"{unquote(user)}:{unquote(password)}"
        found += [base64.b64encode(pair.encode()).decode(), pair, unquote(password or user), password or user]
    return tuple(found)


def _scheme(url: str) -> str | None:
    """The scheme of an address, None if it is not one."""
    try:
        parts = urlsplit(url)
        # Reading the port checks it.
        return parts.scheme if parts.hostname and parts.port != 0 else None
    except ValueError:
        return None


def _in_excepted_network(host: str, excepted: str) -> bool:
    """Whether an address lies in a network of `NO_PROXY`, such as 10.0.0.0/8; names are not looked up."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    for entry in excepted.split(","):
        try:
            if address in ipaddress.ip_network(entry.strip(), strict=False):
                return True
        except ValueError:
            continue
    return False


def certificates_for(*urls: str | None) -> ssl.SSLContext | None:
    """What the certificates of these servers are checked against, None if none of them is asked over TLS.

    Raises:
        InputError: what the environment names is missing or holds no certificates.
    """
    return trusted() if any(url is not None and urlsplit(url).scheme == "https" for url in urls) else None


def trusted() -> ssl.SSLContext:
    """What certificates of servers are checked against. They are read once: it takes as long as a small run.

    Raises:
        InputError: what the environment names is missing or holds no certificates.
    """
    return _trusted(*(os.environ.get(variable) for variable in (*_BUNDLES, "SSL_CERT_DIR")))


@cache
def _trusted(*_named: str | None) -> ssl.SSLContext:
    context = ssl.create_default_context()
    _trust_bundles(context)
    return context


def trust_named(context: ssl.SSLContext) -> None:
    """Trust the system's certificates and those that the environment names, beside what is trusted already.

    Raises:
        InputError: what the environment names is missing or holds no certificates.
    """
    context.load_default_certs()
    _trust_bundles(context)


def _trust_bundles(context: ssl.SSLContext) -> None:
    # OpenSSL reads SSL_CERT_FILE and SSL_CERT_DIR itself, and passes over what it cannot read.
    for variable in _BUNDLES:
        if not (named := os.environ.get(variable)):
            continue
        try:
            # For requests it may also be a folder.
            context.load_verify_locations(**{"capath" if os.path.isdir(named) else "cafile": named})
        except ssl.SSLError:
            raise InputError(f"{variable}: {named}: holds no certificates: name a PEM file") from None
        except OSError as error:
            raise InputError(f"{variable}: {named}: {error.strerror}: name a PEM file, or unset it") from None
