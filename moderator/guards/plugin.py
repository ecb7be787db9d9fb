"""A guard from another package, distinguished from the built-in ones by its name and its key."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from typing import Any

from safemt_client.moderator.types import Assessment, Card, Guard, GuardType, NotAssessableError, Stage
from safemt_client.providers.errors import InputError
from safemt_client.providers.plugins import PREFIX, Plugin, adopt, reason
from safemt_client.providers.provider import Provider
from safemt_client.providers.types import Reply, Request

__all__ = ["plugin_guard"]


@cache
def plugin_guard(plugin: Plugin) -> GuardType:
    """The kind of guard that an entry point names, a `GuardType`; its answers are stored as `plugin:NAME`'s.

    Raises:
        InputError: it cannot be imported or is not a `GuardType`.
    """
    kind = plugin.load()
    if not isinstance(kind, GuardType) or not isinstance(kind.card, Card):
        raise InputError(f"{plugin}: it is not a safemt_client.moderator.types.GuardType with a Card")
    if kind.runs_on == "this process" and kind.load is None:
        raise InputError(
            f"{plugin}: a guard that runs in this process needs `load`, which returns its provider"
        )

    def make(**options: str) -> Guard:
        with plugin.blamed():
            return _PluginGuard(plugin.name, kind.make(**options))

    async def load() -> Provider:
        assert kind.load is not None
        with plugin.blamed():
            return adopt(await kind.load())

    # A plug-in must not replace a built-in name.
    return replace(kind, make=make, load=kind.load and load, aliases={})


class _PluginGuard:
    """Calls the guard; if the guard fails, so does the assessment."""

    def __init__(self, name: str, guard: Any) -> None:
        if not isinstance(guard.key, str) or not guard.key:
            raise InputError(
                "the guard needs a key: a string that hashes everything that decides its answers"
            )
        self._guard = guard
        self.card = replace(guard.card, name=PREFIX + name)
        self.key = hashlib.sha256((PREFIX + guard.key).encode()).hexdigest()[:16]

    def request(self, messages: Sequence[Any], stage: Stage) -> Request:
        try:
            request: Request = self._guard.request(messages, stage)
        except NotAssessableError:
            raise
        except Exception as error:
            raise NotAssessableError(f"the guard failed: {reason(error)}") from error
        return request

    def parse(self, reply: Reply, stage: Stage) -> Assessment:
        try:
            found = self._guard.parse(reply, stage)
        except Exception as error:  # noqa: BLE001 - a guard that fails is never one that says `safe`
            return Assessment("error", error=f"the guard failed: {reason(error)}")
        if isinstance(found, Assessment):
            return found
        return Assessment("error", error=f"the guard failed: {type(found).__name__} is not an Assessment")
