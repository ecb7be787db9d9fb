"""Handing the store what waits for it: to the process that holds it, or into the file itself."""

from __future__ import annotations

import json
from collections.abc import Sequence
from http.client import HTTPConnection, HTTPException
from pathlib import Path

from safemt_client.providers.errors import SafemtError
from safemt_client.results.store.inbox import Said, inbox_file, read, settle, to_json
from safemt_client.results.store.server import ROWS, server_file
from safemt_client.results.store.store import Store

__all__ = ["hand_over"]

_AT_ONCE = 20
_SILENCE_S = 60.0


def hand_over(path: Path) -> str | None:
    """Bring what waits for the store at `path` into it; None once it is there, else why it still waits.

    It may be called at any time and from several processes: nothing is lost, or taken in twice.
    """
    if not inbox_file(path).exists():
        return None
    content = read(path)
    if not content.data:
        return None
    try:
        if _given(path, content.rows):
            settle(path, content)
        else:
            # Whoever opens a store for writing takes in what waits.
            Store.open(path, "store", command="label").close()
    except SafemtError as error:
        return str(error)
    return None


def _given(path: Path, rows: Sequence[Said]) -> bool:
    """Whether the process that holds the store, if there is one, has taken the rows."""
    try:
        found = json.loads(server_file(path).read_text())
        where, token = int(found["port"]), str(found["token"])
    except (OSError, ValueError, LookupError, TypeError):
        return False
    for start in range(0, len(rows), _AT_ONCE):
        part = [to_json(row) for row in rows[start : start + _AT_ONCE]]
        # Not httpx: a proxy of the environment must not see the token.
        connection = HTTPConnection("127.0.0.1", where, timeout=_SILENCE_S)
        try:
            connection.request(
                "POST", ROWS, json.dumps({"rows": part}).encode(), {"Authorization": f"Bearer {token}"}
            )
            with connection.getresponse() as response:
                if json.loads(response.read()).get("taken") != len(part):
                    return False
        except (OSError, HTTPException, ValueError, AttributeError):
            return False
        finally:
            connection.close()
    return True
