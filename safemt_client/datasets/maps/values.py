"""Values of a row: by the path of a field, and by templates such as `{metadata.over}`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

__all__ = ["as_text", "fill", "listed", "look_up", "names_in", "parts_of", "same"]


def look_up(row: Any, path: str) -> Any:
    """The value at a path, None if there is none; a number is the place in a list."""
    if isinstance(row, Mapping) and path in row:
        return row[path]
    for step in path.split("."):
        if isinstance(row, Mapping):
            row = row.get(step)
        elif isinstance(row, list | tuple) and step.isascii() and step.isdigit() and len(step) < 10:
            row = row[int(step)] if int(step) < len(row) else None
        else:
            return None
    return row


def listed(value: Any) -> Any:
    """The value, read as JSON if it is a text that looks like a list or an object."""
    if isinstance(value, str) and value.strip()[:1] in ("[", "{"):
        try:
            return json.loads(value)
        except (ValueError, RecursionError):
            return value
    return value


@lru_cache(1_000)
def parts_of(template: str) -> tuple[tuple[bool, str], ...]:
    """The parts of a template: texts (False), and names of fields (True). Braces of a text are doubled.

    Raises:
        ValueError: a brace has no partner, or nothing is between two.
    """
    found: list[tuple[bool, str]] = []
    text, at = "", 0
    while at < len(template):
        sign = template[at]
        if sign in "{}" and template[at : at + 2] == 2 * sign:
            text, at = text + sign, at + 2
        elif sign == "{":
            end = template.find("}", at)
            name = template[at + 1 : end] if end > 0 else ""
            if not name or "{" in name:
                raise ValueError(
                    f"{template!r}: a brace without a partner: write {{FIELD}}, or {{{{ for a brace"
                )
            found += [(False, text)] if text else []
            found.append((True, name))
            text, at = "", end + 1
        elif sign == "}":
            raise ValueError(f"{template!r}: a brace without a partner: write {{FIELD}}, or }}}} for a brace")
        else:
            text, at = text + sign, at + 1
    return (*found, *([(False, text)] if text else []))


def names_in(template: str) -> list[str]:
    """The fields that a template names."""
    return [text for is_name, text in parts_of(template) if is_name]


def as_text(value: Any) -> str | None:
    """A value as it stands in a text; None if it is null or no text or number."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value) if isinstance(value, str | int | float) else None


def fill(template: str, row: Mapping[str, Any]) -> str | None:
    """A template with the values of a row; None if one of its fields is not there."""
    found = []
    for is_name, text in parts_of(template):
        value = as_text(look_up(row, text)) if is_name else text
        if value is None:
            return None
        found.append(value)
    return "".join(found)


def same(value: Any, wanted: bool | int | str) -> bool:
    """Whether a value of a row is the one that a map names; tables and JSON write it in several ways."""
    text, other = as_text(value), as_text(wanted)
    if text is None or other is None:
        return False
    return text.lower() == other if isinstance(wanted, bool) else text == other
