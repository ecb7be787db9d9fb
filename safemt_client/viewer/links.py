"""Where the links of a page lead: to the viewer's server, or to other files of an exported run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol
from urllib.parse import urlencode

from safemt_client.viewer.filters import Filters

__all__ = ["Links", "Served"]


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
        """`results` or `conversations` of a run."""

    def results(self, filters: Filters, **changes: object) -> str | None:
        """The results of a run."""

    def run(self, filters: Filters, **changes: object) -> str | None:
        """The list of the conversations that match."""

    def listed(self, filters: Filters, row: Mapping[str, Any]) -> str | None:
        """The conversation of a row of that list."""

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
        """Results, or the list without filters."""
        return f"/{'results' if name == 'results' else 'run'}?{urlencode({'run': run_id})}"

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

    def picture(self, run_id: str, sha256: str) -> str:
        """The image, found again in the data set's folder."""
        return "/image?" + urlencode({"run": run_id, "sha": sha256})
