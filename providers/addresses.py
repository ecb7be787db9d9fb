"""Addresses of endpoints: as users type them, as they are asked, and as they may be shown and stored."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING
from urllib.parse import SplitResult, parse_qsl, urlsplit, urlunsplit

from safemt_client.providers.errors import InputError

if TYPE_CHECKING:
    import httpx

__all__ = ["base_url_of", "host_of", "key_headers", "looks_random", "origin_of", "shown", "url_of"]

_PORTS = {"http": 80, "https": 443}
_ENDINGS = ("/chat/completions", "/completions", "/responses", "/models")
"""What people copy with an address although it is added to it."""

_SECRET_WORDS = {
    *("key", "apikey", "token", "secret", "password", "passwd", "pwd", "pass", "sig", "signature", "code"),
    *("auth", "authorization", "bearer", "credential", "credentials", "jwt", "sas", "session"),
}
_SECRET_ENDINGS = ("key", "token", "secret", "password", "signature")
# Letters and digits at once, and more of them in a row than names of models and versions have.
_RANDOM = re.compile(r"(?=[A-Za-z0-9]*[A-Za-z])(?=[A-Za-z0-9]*\d)[A-Za-z0-9]{24,}")

_KEY_HEADERS = (
    # An Azure key in a bearer header is taken for a token of Entra's on all paths but /openai/v1.
    (".openai.azure.com", "api-key"),
    (".cognitiveservices.azure.com", "api-key"),
    (".services.ai.azure.com", "api-key"),
)
"""Hosts that expect a key in another header than `Authorization`."""


def base_url_of(text: str, where: str, form: str, key: str) -> str:
    """An address as it is asked below: without a slash or a route at its end; a query string stays.

    In messages `where` names the setting, `form` is what to write, and `key` the variable of the key.

    Raises:
        InputError: it is no http address, or several, or holds a password or a key.
    """
    text = text.strip()
    place, mark, query = text.partition("?")
    if re.search(r"[,;\s|][^/]*[a-zA-Z]+://", text) or re.search(r"[,;\s|]", _netloc(place)):
        raise InputError(
            f"{where}: names several servers: give one address, of a router before them "
            "(docs/endpoints.md names some)"
        )
    if "@" in place:
        raise InputError(f"{where}: leave the password out of the URL: set {key} instead")
    parts = _split(place)
    if parts is None or "#" in text:
        raise InputError(f"{where}: write {form}")
    # Some servers take a semicolon for a separator too.
    for name, value in parse_qsl(query.replace(";", "&"), keep_blank_values=True):
        if _secret(name, value):
            raise InputError(
                f"{where}: the query string may hold a secret ({name[:40]}), and addresses are stored: "
                "leave it out, and name a variable that holds it, as docs/endpoints.md describes"
            )
    place = place.rstrip("/")
    for ending in _ENDINGS:
        if parts.path.rstrip("/").endswith(ending):
            place = place.removesuffix(ending).rstrip("/")
            break
    return place + mark + query if query else place


def url_of(base_url: str, path: str, query: Mapping[str, str] | None = None) -> httpx.URL:
    """The address of `path` below a base URL: it goes before the base's query, and `query` is added."""
    import httpx

    parts, (below, _, more) = urlsplit(base_url), path.partition("?")
    queries = "&".join(part for part in (parts.query, more) if part)
    url = httpx.URL(urlunsplit((*parts[:2], parts.path.rstrip("/") + below, queries, "")))
    return url.copy_merge_params(dict(query)) if query else url


def host_of(base_url: str | None) -> str | None:
    """Host and port as they are stored with each reply; nothing else of an address is."""
    parts = None if base_url is None else _split(base_url)
    if parts is None:
        return None
    host = parts.hostname or ""
    host = f"[{host}]" if ":" in host else host
    return host if parts.port is None else f"{host}:{parts.port}"


def origin_of(base_url: str | None) -> str | None:
    """Scheme, host and port: what a key is for."""
    parts = None if base_url is None else _split(base_url)
    if parts is None:
        return None
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    return f"{parts.scheme}://{host}:{parts.port or _PORTS[parts.scheme]}"


def shown(url: str) -> str:
    """An address without user, password, query and fragment."""
    scheme, mark, rest = url.partition("://")
    # Up to the last @: a password that was not encoded may hold any of the other marks.
    return re.split(r"[?#]", scheme + mark + rest.rpartition("@")[2])[0]


def key_headers(base_url: str, key: str | None) -> dict[str, str]:
    """The header that carries the key to this address."""
    if not key:
        return {}
    host = (host_of(base_url) or "").partition(":")[0]
    for ending, header in _KEY_HEADERS:
        if host.endswith(ending):
            return {header: str(key)}
    return {"Authorization": f"Bearer {key}"}


def _split(url: str) -> SplitResult | None:
    try:
        parts = urlsplit(url)
        valid = parts.scheme in _PORTS and parts.hostname and (parts.port or True)
    except ValueError:
        return None
    return parts if valid else None


def _netloc(url: str) -> str:
    return url.partition("://")[2].partition("/")[0]


def _secret(name: str, value: str) -> bool:
    """Whether a parameter of a query string is likely to be a secret, by its name or its value."""
    words = re.split(r"[^a-z0-9]+", re.sub(r"([a-z])([A-Z])", r"\1-\2", name).lower())
    if _SECRET_WORDS & set(words) or words[-1].endswith(_SECRET_ENDINGS):
        return True
    return looks_random(value)


def looks_random(value: str) -> bool:
    """Whether a value holds what only keys and the like hold: many letters and digits in a row."""
    return _RANDOM.search(value) is not None
