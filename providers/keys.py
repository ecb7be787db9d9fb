"""API keys: where they come from, and how they are kept out of everything that is written.

In this order: the environment variable, the file that `VARIABLE_FILE` names, and, with `SAFEMT_KEYRING=1`
alone, the system's keyring. The keyring is never asked unbidden, since it may open a window to unlock it.
"""

from __future__ import annotations

import base64
import html
import importlib
import ipaddress
import json
import os
import re
import stat
import sys
from collections.abc import Iterator, Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus, urlsplit

from safemt_client.providers.errors import InputError
from safemt_client.providers.types import Reply

__all__ = ["Key", "Redactor", "clear_text_warning", "find_key", "is_loopback", "secrets_of"]

KEYRING_SERVICE = "safemt"
_MOST_BYTES = 64 * 1024
_SHORTEST_SECRET = 8
"""Shorter ones are placeholders such as EMPTY, and may be ordinary words of a reply."""
_PLACE = "[key]"
_HAS_OWNERS = hasattr(os, "getuid")
"""Not on Windows, where who may read a file is not in its mode."""
_CAREFULLY = sum(getattr(os, name, 0) for name in ("O_CLOEXEC", "O_NONBLOCK", "O_NOINHERIT", "O_BINARY"))


class Key(str):
    """A key as a string that its `repr` hides, so that dataclasses and argument lists hide it too."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"'{_PLACE}'"


def find_key(variable: str, env: Mapping[str, str]) -> Key | None:
    """The key of this variable, None if there is none anywhere.

    Raises:
        InputError: its file can be read by others or not at all, the keyring fails, or it is not a key.
    """
    if key := env.get(variable, "").strip():
        return _checked(key, f"the environment variable {variable}")
    if name := env.get(f"{variable}_FILE", ""):
        return _from_file(Path(name), f"{variable}_FILE")
    if env.get("SAFEMT_KEYRING", "") not in ("", "0"):
        return _from_keyring(variable)
    return None


def _from_file(path: Path, variable: str) -> Key:
    where = f"{variable}: {path}"
    try:
        # Not blocking, so that a named pipe is refused instead of waited for.
        descriptor = os.open(path, os.O_RDONLY | _CAREFULLY)
        with os.fdopen(descriptor, "rb") as file:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise InputError(f"{where}: is not a file: name one that contains only the key")
            if _HAS_OWNERS and status.st_mode & 0o077:
                raise InputError(f"{where}: others can read it: chmod 600 {path}")
            if _HAS_OWNERS and status.st_uid not in (os.getuid(), 0):
                raise InputError(f"{where}: belongs to another user: use a file that you own")
            content = file.read(_MOST_BYTES + 1)
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or "not a valid path"
        raise InputError(f"{where}: {why}: name a file that contains only the key") from None
    try:
        key = content.decode("ascii").strip()
    except UnicodeDecodeError:
        key = ""
    if not key or len(content) > _MOST_BYTES:
        raise InputError(f"{where}: does not contain a key: write only the key into it")
    return _checked(key, where)


def _from_keyring(variable: str) -> Key | None:
    try:
        keyring: Any = importlib.import_module("keyring")
    except ImportError:
        raise InputError("SAFEMT_KEYRING: needs an extra: pip install 'safemt-client[keyring]'") from None
    try:
        found = keyring.get_password(KEYRING_SERVICE, variable)
    except Exception as error:  # noqa: BLE001 - backends raise anything
        raise InputError(
            f"SAFEMT_KEYRING: the keyring failed ({type(error).__name__}): unlock it, or set {variable}"
        ) from None
    return _checked(found.strip(), f"{variable} in the keyring") if found and found.strip() else None


def _checked(key: str, where: str) -> Key:
    if not re.fullmatch(r"[\x21-\x7e]+", key):
        raise InputError(f"{where}: contains spaces or characters that no key has: write only the key")
    return Key(key)


class Redactor:
    """Takes keys out of what an endpoint sent: as they are, in URLs, JSON, HTML, base64 and hex."""

    def __init__(self, *secrets: str | None) -> None:
        found: dict[str, None] = {}
        for given in secrets:
            for secret in (given or "", *_within(given or "")):
                if len(secret) >= _SHORTEST_SECRET:
                    found |= dict.fromkeys(_spellings(str(secret)))
        self._spellings = sorted(found, key=len, reverse=True)

    def __repr__(self) -> str:
        return "Redactor()"

    def text(self, text: str) -> str:
        """The text with `[key]` in place of each key."""
        text = self._replaced(text)
        if self._spellings and _is_coded(text):
            decoded = _decoded(text)
            # Only for a key: whatever else is spelled so stays as it is.
            if any(spelling in decoded for spelling in self._spellings):
                return self._replaced(decoded)
        return text

    def _replaced(self, text: str) -> str:
        for spelling in self._spellings:
            if spelling in text:
                text = text.replace(spelling, _PLACE)
        return text

    def body(self, body: bytes) -> bytes:
        r"""The body of a response without keys, also where its JSON spells them with escapes (`\u0073k`)."""
        if not self._spellings:
            return body
        # As Latin-1 every byte is a character: what is no ASCII stays as it is.
        text = body.decode("latin-1")
        clean = self.text(text)
        return body if clean == text else clean.encode("latin-1")

    def headers(self, headers: Mapping[str, str]) -> dict[str, str]:
        """The headers of a response without keys in their values."""
        return {name: self.text(value) for name, value in headers.items()}

    def reply(self, reply: Reply) -> Reply:
        """The reply without keys in any of its texts.

        What comes in pieces, such as a stream, may hold a key only once it is put together. Then there is no
        body to keep: the pieces are in it.
        """
        if not self._spellings:
            return reply
        changed: dict[str, Any] = {}
        for field in fields(reply):
            value = getattr(reply, field.name)
            if isinstance(value, str) and (clean := self.text(value)) != value:
                changed[field.name] = clean
        if not changed:
            return reply
        return replace(reply, **({"raw": None} | changed))


_NAMES_OF_SECRETS = re.compile(r"KEY|TOKEN|SECRET|PASSW|CREDENTIAL|AUTH|HEADERS|PROXY", re.IGNORECASE)


def secrets_of(env: Mapping[str, str]) -> Redactor:
    """What takes out all that is secret in an environment by the names of its variables."""
    values = [value for name, value in env.items() if _NAMES_OF_SECRETS.search(name)]
    # Parts of it too, such as the password of an address.
    parts = [part for value in values for part in re.split(r"[\s,=:@]+|//", value)]
    return Redactor(*values, *parts)


_CODED = re.compile(
    r"\\+u00(?P<escape>[0-9a-fA-F]{2})|%(?P<percent>[0-9a-fA-F]{2})"
    r"|&#[xX]0*(?P<hexadecimal>[0-9a-fA-F]{2});|&#0*(?P<decimal>\d{2,3});|\\+(?P<slash>/)"
)
"""A character as JSON, addresses and HTML may spell it, however often that was done to a text."""
_AS_IT_IS = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]")
"""What may stand for its spelling in JSON: no quotation mark and no backslash."""
_MOST_LAYERS = 3


def _is_coded(text: str) -> bool:
    return "%" in text or "\\u00" in text or "\\/" in text or "&#" in text


def _decoded(text: str) -> str:
    def character(found: re.Match[str]) -> str:
        code = next(code for code in found.groups() if code is not None)
        if code != "/":
            code = chr(int(code, 10 if found["decimal"] else 16))
        return code if _AS_IT_IS.fullmatch(code) else found[0]

    for _ in range(_MOST_LAYERS):
        before, text = text, _CODED.sub(character, text)
        if text == before:
            break
    return text


def _within(secret: str) -> Iterator[str]:
    """What is secret within a secret: user and password of Basic authentication, and the password alone."""
    for word in secret.split():
        try:
            pair = base64.b64decode(word, validate=True).decode("ascii")
        except ValueError:  # not base64, or not of a text
            continue
        user, colon, password = pair.partition(":")
        if colon and user.isprintable() and password.isprintable():
            yield from (pair, password)


def _spellings(secret: str) -> list[str]:
    found = [
        secret,
        quote(secret, safe=""),
        quote(secret),
        quote_plus(secret),
        html.escape(secret),
        json.dumps(secret)[1:-1],
        secret.encode().hex(),
        secret.encode().hex().upper(),
        # In a body that is read byte by byte.
        secret.encode().decode("latin-1"),
    ]
    for before in range(3):
        # In base64 a text looks in three ways, by what stands before it: what is sure of each, whatever
        # stands before and after.
        whole = base64.b64encode(b"\0" * before + secret.encode()).decode().rstrip("=")
        exact = (before + len(secret)) % 3 == 0
        sure = whole[(0, 2, 3)[before] : None if exact else -1]
        if len(sure) >= _SHORTEST_SECRET:
            found += [sure, sure.replace("+", "-").replace("/", "_"), quote(sure, safe="")]
    return found


def is_loopback(host: str) -> bool:
    """Whether a name or address is this machine's own, which nobody else can reach."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


_warned: set[str] = set()


def clear_text_warning(url: str | None) -> None:
    """Say on stderr, once for each host, that what is sent over plain http can be read on the way."""
    try:
        parts = urlsplit(url or "")
        host = parts.hostname or ""
    except ValueError:
        return
    if parts.scheme != "http" or not host or is_loopback(host) or host in _warned:
        return
    _warned.add(host)
    print(f"safemt: {host} is reached over http: keys and texts are sent unencrypted", file=sys.stderr)
