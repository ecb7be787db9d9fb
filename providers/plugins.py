"""Plug-ins: what installed packages add by entry points, and a user's own models adapted for a run.

A package declares an entry point in the group `safemt_client.GROUP`. It is looked up by name and loaded only
when it is used: one that is broken and not used harms nothing. See docs/plugins.md.
"""

from __future__ import annotations

import configparser
import importlib.metadata
import inspect
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

from safemt_client.providers.base import Endpoint
from safemt_client.providers.error_codes import ErrorCode
from safemt_client.providers.errors import InputError, SafemtError
from safemt_client.providers.limits.limiter import AccountLimiter
from safemt_client.providers.limits.permits import Limiter
from safemt_client.providers.provider import Observer, Provider
from safemt_client.providers.responses.outcomes import coded
from safemt_client.providers.timeouts import DEFAULT_TIMEOUTS, Timeouts
from safemt_client.providers.types import Outcome, Reply, Request

__all__ = ["PREFIX", "Group", "Plugin", "adopt", "find", "identity_of", "plugins", "reason", "say_hidden"]

Group = Literal["providers", "guards", "judges", "datasets", "exports"]

PREFIX = "plugin:"
"""What the identity of everything that comes from outside begins with in the store."""


@dataclass(frozen=True)
class Plugin:
    """An entry point of an installed package, not loaded yet."""

    group: Group
    name: str
    value: str
    distribution: str

    def __str__(self) -> str:
        where = f"entry point {self.name} = {self.value} in safemt_client.{self.group}"
        return f"plug-in {self.distribution} ({where})"

    def load(self) -> Any:
        """What the entry point names.

        Raises:
            InputError: it cannot be imported; the message names the package and the entry point.
        """
        with self.blamed():
            return importlib.metadata.EntryPoint(self.name, self.value, f"safemt_client.{self.group}").load()

    def make(self, *arguments: object) -> Any:
        """What the factory that the entry point names makes of the arguments.

        Raises:
            InputError: it is not a factory, or fails.
        """
        factory = self.load()
        if not callable(factory):
            raise InputError(f"{self}: is not a factory but {_article(factory)}")
        with self.blamed():
            return factory(*arguments)

    @contextmanager
    def blamed(self) -> Iterator[None]:
        """Turn whatever is raised inside into one line that names the plug-in."""
        try:
            yield
        except SafemtError as error:
            raise InputError(f"{self}: {error}") from error
        # A package may also end the program when it is imported.
        except (Exception, SystemExit) as error:
            raise InputError(f"{self}: {reason(error)}") from error


def plugins(group: Group) -> tuple[Plugin, ...]:
    """All plug-ins of a group, by name; none is loaded."""
    return tuple(plugin for plugin in _declared(tuple(sys.path)) if plugin.group == group)


def find(group: Group, name: str) -> Plugin | None:
    """The plug-in of this name, not loaded yet; None if there is none.

    Raises:
        InputError: several packages have one of this name.
    """
    found = [plugin for plugin in plugins(group) if plugin.name == name]
    if len(found) > 1:
        raise InputError(f"{name}: {' and '.join(map(str, found))} have the same name: uninstall one")
    return found[0] if found else None


@cache
def say_hidden(group: Group, name: str) -> None:
    """Say on stderr, once, that a built-in has the name of a plug-in, which is therefore not used."""
    for plugin in plugins(group):
        if plugin.name == name:
            print(f"safemt: {plugin} is not used: {name} is built in", file=sys.stderr)


@cache
def _declared(path: tuple[str, ...]) -> tuple[Plugin, ...]:
    """The plug-ins of all packages on this path. Of packages with one name the first counts."""
    found: list[Plugin] = []
    seen: set[str] = set()
    for distribution in importlib.metadata.distributions(path=list(path)):
        # Most packages declare nothing for this program: their text is not parsed.
        text = distribution.read_text("entry_points.txt") or ""
        if "safemt_client." not in text:
            continue
        # None for a package without any, once litellm has imported the backport `importlib_metadata`.
        metadata: Any = distribution.metadata or {}
        name = str(metadata.get("Name") or "without a name")
        same = re.sub(r"[-_.]+", "-", name).lower()
        if same in seen:
            continue
        seen.add(same)
        parser = configparser.ConfigParser(delimiters=("=",), interpolation=None, strict=False)
        parser.optionxform = str  # type: ignore[assignment, method-assign]
        try:
            parser.read_string(text)
        except configparser.Error:
            continue
        groups: tuple[Group, ...] = ("providers", "guards", "judges", "datasets", "exports")
        for group in groups:
            section = f"safemt_client.{group}"
            for key, value in parser.items(section) if parser.has_section(section) else ():
                found.append(Plugin(group, key, value, f"{name} {metadata.get('Version')}"))
    return tuple(sorted(found, key=lambda plugin: (plugin.group, plugin.name, plugin.distribution)))


def identity_of(thing: object) -> str:
    """The `identity` of an object from outside, with the mark that keeps it apart from what is built in.

    Raises:
        InputError: it has none: without one its replies cannot be distinguished from another's.
    """
    identity = getattr(thing, "identity", None)
    if not isinstance(identity, str) or not identity.strip():
        raise InputError(
            f"{type(thing).__name__} has no identity: give it an `identity` string with model and version"
        )
    return PREFIX + identity


def adopt(
    model: object,
    *,
    limiter: Limiter | None = None,
    timeouts: Timeouts = DEFAULT_TIMEOUTS,
    identity: str | None = None,
) -> Provider:
    """A user's own model as a provider, under its own identity or the one given.

    The model has an `identity` and `async def ask(request) -> Reply`. Permits, deadlines and retries are
    handled here. A model with its own `limiter` handles them itself, as `Provider` describes.

    Raises:
        InputError: it has no identity, or cannot be asked.
    """
    identity = identity or identity_of(model)
    ask: Callable[..., Any] | None = getattr(model, "ask", None)
    if not inspect.iscoroutinefunction(ask):
        raise InputError(f"{type(model).__name__} has no method `async def ask(request) -> Reply`")
    if isinstance(own := getattr(model, "limiter", None), AccountLimiter):
        return _Whole(ask, identity, own)
    return _Model(
        ask,
        identity=identity,
        limiter=limiter or AccountLimiter(concurrency=256, account=identity),
        timeouts=timeouts,
    )


class _Model(Endpoint):
    """A model that only answers."""

    def __init__(
        self, answer: Callable[[Request], Any], *, identity: str, limiter: Limiter, timeouts: Timeouts
    ) -> None:
        super().__init__(identity=identity, limiter=limiter, timeouts=timeouts)
        self._answer = answer

    async def _send(self, request: Request) -> Reply:
        try:
            reply = await self._answer(request)
        except (SafemtError, TimeoutError):
            raise
        except Exception as error:  # noqa: BLE001 - a failure of the model is an outcome
            return _failed(reason(error))
        return _checked(reply)


class _Whole:
    """A whole client, with its own permits and retries."""

    def __init__(self, ask: Callable[..., Any], identity: str, limiter: Limiter) -> None:
        self._ask = ask
        self.identity = identity
        self.limiter = limiter

    async def ask(self, request: Request, on_retry: Observer | None = None) -> Reply:
        """See `Provider.ask`."""
        return _checked(await self._ask(request, on_retry))


def _checked(reply: object) -> Reply:
    if isinstance(reply, Reply):
        return coded(reply)
    return _failed(f"the model gave {_article(reply)} instead of a Reply")


def _failed(error: str) -> Reply:
    return Reply(Outcome.ERROR_PERMANENT, error=error, error_code=ErrorCode.LOCAL_MODEL)


def reason(error: BaseException) -> str:
    """An exception on one line."""
    text = next(iter(str(error).splitlines()), "")
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _article(thing: object) -> str:
    name = type(thing).__name__
    return f"an {name}" if name[:1].lower() in "aeiou" else f"a {name}"
