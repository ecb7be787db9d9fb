"""Settings from the flags or keywords that were given and from a TOML file."""

from __future__ import annotations

import tomllib
from collections.abc import Collection, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from safemt_client.providers.errors import InputError
from safemt_client.settings import TABLES, RunSettings

__all__ = ["load_settings", "read_settings"]


_OF_REQUESTS = {"header", "headers", "query", "extra_body", "api_key_env", "base_url", "judge_base_url"}


def _underscored(table: Mapping[str, Any]) -> dict[str, Any]:
    return {name.replace("-", "_"): value for name, value in table.items()}


def read_settings(config: Path) -> dict[str, Any]:
    """The values that a TOML file gives, not checked yet.

    Raises:
        InputError: it cannot be read.
    """
    try:
        given = _underscored(tomllib.loads(config.read_text(encoding="utf-8")))
    except OSError as error:
        raise InputError(f"{config}: {error.strerror}: name an existing TOML file") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{config}: not TOML: {error}") from error
    for kind in TABLES:
        if isinstance(tables := given.get(kind), dict):
            given[kind] = {
                name: _underscored(table) if isinstance(table, dict) else table
                for name, table in tables.items()
            }
    return given


def load_settings(
    flags: Mapping[str, Any], config: Path | None, only: Collection[str] | None = None
) -> RunSettings:
    """Settings from the flags that were given and from a TOML file, of which a command may want some only.

    Raises:
        InputError: the file cannot be read, or a value is not allowed.
    """
    given = {} if config is None else read_settings(config)
    given = {name: value for name, value in given.items() if only is None or name in only}
    given |= {name: value for name, value in flags.items() if value is not None}
    try:
        return RunSettings.model_validate(given)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = [str(part) for part in first["loc"][:3]]
        field = "--" + place[0].replace("_", "-") if place else "settings"
        if place and place[0] in TABLES:
            # Of a table, whose name is the user's: [providers.NAME].field
            field = ".".join([*place[:2], *(part.replace("_", "-") for part in place[2:])])
        where = f"{config}: " if config is not None else ""
        if first["type"] == "missing":
            raise InputError(f"{where}{field} is missing: for example --provider gpt-4o") from None
        if first["type"] == "extra_forbidden":
            raise InputError(f"{where}{field}: there is no such setting{_near(place)}") from None
        if first["type"] == "value_error":
            # It says itself what is wrong; the value may be a key.
            raise InputError(f"{where}{field}: {first['ctx']['error']}") from None
        # Of a setting that may be a number or 'none' pydantic reports an error for each.
        kinds = {e["type"] for e in error.errors(include_url=False) if e["loc"][0] == first["loc"][0]}
        other = ", or 'none'" if "literal_error" in kinds - {first["type"]} else ""
        # What belongs to requests may be a key in the wrong place.
        hidden = _OF_REQUESTS & {*map(str, first["loc"])} and not isinstance(first["input"], int | float)
        said = "" if hidden else f" {first['input']!r}"
        raise InputError(f"{where}{field}{said}: {first['msg'].lower()}{other}") from None


def _near(place: list[str]) -> str:
    """The setting that may have been meant."""
    known = [name.replace("_", "-") for name in RunSettings.model_fields]
    found = get_close_matches(place[0].replace("_", "-"), known, n=1) if len(place) == 1 else []
    return f"; did you mean {found[0]}?" if found else ""
