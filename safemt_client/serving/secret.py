"""Keys of the servers that the program starts: they are in environments alone, in no file and in no message.

A run on workers has one secret, which its processes on this machine inherit, and each of them makes the key
of a server from it.
"""

from __future__ import annotations

import hmac
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager

from safemt_client.providers.keys import Key

__all__ = ["SECRET", "server_key", "shared_secret"]

SECRET = "SAFEMT_SERVERS_SECRET"
"""The variable that holds it. Servers are started without it."""


@contextmanager
def shared_secret() -> Iterator[None]:
    """Have a secret for the processes that are started meanwhile: that of a run under way here, if any."""
    before = os.environ.get(SECRET)
    if before is None:
        os.environ[SECRET] = secrets.token_hex(32)
    try:
        yield
    finally:
        if before is None:
            os.environ.pop(SECRET, None)


def server_key(name: str) -> Key:
    """The key of a server: the same in all processes that share a secret, else another one each time."""
    secret = os.environ.get(SECRET)
    if secret is None:
        return Key(secrets.token_hex(24))
    return Key(hmac.new(secret.encode(), name.encode(), "sha256").hexdigest()[:48])
