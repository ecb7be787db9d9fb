"""`data maps`: the maps that come with the program."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table

from safemt_client.datasets.maps.language import open_map, shipped

__all__ = ["listing", "render"]


def listing() -> list[dict[str, str | list[str] | None]]:
    """What each map says of its data set, as JSON-able data."""
    found: list[dict[str, str | list[str] | None]] = []
    for name in shipped():
        mapped = open_map(name)
        found.append(
            {
                "map": name,
                "name": mapped.name,
                "licence": mapped.licence,
                "address": mapped.address,
                "citation": mapped.citation,
                "files": mapped.source.files,
                "ask": [f"{key}: {text}" for key, text in mapped.ask.items()],
                "unconfirmed": mapped.unconfirmed,
            }
        )
    return found


def render(maps: list[dict[str, str | list[str] | None]]) -> RenderableType:
    """The list for a terminal: a block for each map."""
    blocks: list[RenderableType] = []
    for one in maps:
        table = Table(box=None, show_header=False)
        table.add_column(no_wrap=True)
        table.add_column(overflow="fold")
        for key, value in one.items():
            text = ", ".join(value) if isinstance(value, list) else value
            if text or key == "licence":
                table.add_row(key, escape(text or "not stated"))
        blocks += [table, ""]
    return Group(*blocks)
