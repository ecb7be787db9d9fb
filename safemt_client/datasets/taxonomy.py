"""The scenarios of SafeMT, from `taxonomy.toml`."""

from __future__ import annotations

import tomllib
from functools import cache
from importlib import resources

__all__ = ["scenarios", "sources"]


@cache
def _taxonomy() -> dict[str, dict[str, object]]:
    file = resources.files("safemt_client.datasets").joinpath("taxonomy.toml")
    return tomllib.loads(file.read_text(encoding="utf-8"))


def scenarios() -> dict[str, str]:
    """Scenario name -> slug, as the benchmark's ids use it."""
    return {name: str(slug) for name, slug in _taxonomy()["scenarios"].items()}


def sources() -> tuple[str, ...]:
    """The id prefixes that name where a query comes from."""
    return tuple(_taxonomy()["sources"])
