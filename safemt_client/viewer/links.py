"""Where the links of a page lead: to the viewer's server, or to other files of an exported run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol
from urllib.parse import urlencode

from safemt_client.viewer.filters import Filters
from safemt_client.viewer.matrix import Cell, ItemRow

__all__ = ["Links", "Served"]

_TABS = {"results": "results", "conversations": "run", "items": "matrix"}


class Links(Protocol):
    """What templates ask for addresses. None: there is no such page, and its words stand without a link.

    `served` is whether a server answers: forms, downloads and what follows a run need one.
    """

    served: bool

    def static(self, name: str) -> str:
        """A style sheet or a script."""

    def plots(self) -> str:
        """The script that draws plots."""

    def tab(self, name: str, run_id: str) -> str:
        """`results`, `conversations` or `items` of a run."""

    def results(self, filters: Filters, **changes: object) -> str | None:
        """The results of a run."""

    def run(self, filters: Filters, **changes: object) -> str | None:
        """The list of the conversations that match."""

    def listed(self, filters: Filters, row: Mapping[str, Any]) -> str | None:
        """The conversation of a row of that list."""

    def items(self, filters: Filters, **changes: object) -> str:
        """The items by targets."""

    def item(self, row: ItemRow) -> str | None:
        """The list of the conversations about an item."""

    def cell(self, cell: Cell) -> str | None:
        """The first conversation of a cell."""

    def picture(self, run_id: str, sha256: str) -> str | None:
        """An image as it was sent."""


class Served:
    """Links to the viewer's server."""

    served = True

    def static(self, name: str) -> str:
        """A file that comes with the viewer."""
        return f"/static/{name}"

    def plots(self) -> str:
        """Vega, which is put together on demand."""
        return "/vega.js"

    def tab(self, name: str, run_id: str) -> str:
        """Results, the list or the items without filters."""
        return f"/{_TABS[name]}?{urlencode({'run': run_id})}"

    def results(self, filters: Filters, **changes: object) -> str:
        """The page with these parameters."""
        return f"/results?{filters.query(**changes)}"

    def run(self, filters: Filters, **changes: object) -> str:
        """The page with these filters."""
        return f"/run?{filters.query(**changes)}"

    def listed(self, filters: Filters, row: Mapping[str, Any]) -> str:
        """The conversation, with the filters and its place in the list."""
        sample = row["sample"] if row["sample"] > 1 else ""
        place = {"t": row["target_key"], "d": row["dialogue_key"], "sample": sample, "at": row["at"]}
        return f"/conversation?{filters.query(**place)}"

    def items(self, filters: Filters, **changes: object) -> str:
        """The page with these filters."""
        return f"/matrix?{filters.query(**changes)}"

    def item(self, row: ItemRow) -> str:
        """The list with the filters of the page."""
        return f"/run?{row.query}"

    def cell(self, cell: Cell) -> str:
        """The conversation, with its place among those of the cell."""
        return f"/conversation?{cell.query}"

    def picture(self, run_id: str, sha256: str) -> str:
        """The image, found again in the data set's folder."""
        return "/image?" + urlencode({"run": run_id, "sha": sha256})
