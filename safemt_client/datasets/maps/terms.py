"""What the tables of a map are made of: templates, the places of fields, and values to compare with."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field

from safemt_client.datasets.maps.values import parts_of

__all__ = ["STRICT", "FieldPath", "Template", "Wanted", "listed"]


def _template(text: str) -> str:
    parts_of(text)
    return text


def _path(text: str) -> str:
    if not text or "{" in text or "}" in text:
        raise ValueError("names a field, so without braces: write a.b for the field b of the field a")
    return text


def listed(value: object) -> object:
    """One value where a list is wanted."""
    return [value] if isinstance(value, str | bool | int) else value


Template = Annotated[str, AfterValidator(_template)]
"""A text with the values of fields in it: `{category}`, `{metadata.over}`, `item {_row}`, `{$prompt}`."""
FieldPath = Annotated[str, AfterValidator(_path)]
"""The place of a field: `history`, `metadata.over`, `turns.0`."""
Wanted = Annotated[list[bool | int | str], BeforeValidator(listed), Field(min_length=1)]
STRICT = ConfigDict(extra="forbid", frozen=True)
"""A table of a map has no other keys than those that are known."""
