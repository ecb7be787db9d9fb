"""What of a run is put into pages that need no server."""

from __future__ import annotations

from dataclasses import dataclass, field
from urllib.parse import parse_qsl, urlsplit

from safemt_client.providers.errors import InputError
from safemt_client.results.sanitize import plain
from safemt_client.viewer.filters import Filters

__all__ = ["Wanted", "filters_of"]

_NO_FILTERS = ("run", "judge", "sort")


@dataclass(frozen=True, slots=True)
class Wanted:
    """What of a run is exported: without `run` of the latest one, without `items` of all of its items."""

    run: str | None = None
    filters: Filters = field(default_factory=Filters)
    items: int | None = None
    redact: bool = False
    images: bool = True
    overwrite: bool = False


def filters_of(text: str) -> Filters:
    """The filters of a list's address, or of what stands after its question mark.

    Raises:
        InputError: it names what is no filter.
    """
    query = urlsplit(text).query if "://" in text else text.lstrip("?")
    given = dict(parse_qsl(query))
    given.pop("page", None)
    known = [name for name in Filters.__dataclass_fields__ if name not in _NO_FILTERS]
    for name in given.keys() - set(known) - set(_NO_FILTERS):
        raise InputError(f"--filter: {plain(name)[:60]!r} is no filter: there are {', '.join(known)}")
    if not given:
        raise InputError(
            "--filter: no filter: give what stands after the question mark in the address of the viewer's "
            "list, such as 'verdict=unsafe&length=8'"
        )
    return Filters.read({name: value for name, value in given.items() if name in known or name == "run"})
