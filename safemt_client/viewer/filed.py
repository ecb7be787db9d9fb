"""Links between the files of an exported run, all relative: the folder can be put anywhere."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from safemt_client.viewer.filters import Filters
from safemt_client.viewer.matrix import Cell, ItemRow

__all__ = ["PAGE", "Contents", "Filed", "Listed"]

PAGE = 50
_FILES_A_FOLDER = 500
_POLICY = (
    # 'self' alone means nothing where the page is a file; on a web server `file:` means nothing.
    "default-src 'none'; script-src 'self' file:; style-src 'self' file:; img-src 'self' file: data:; "
    "base-uri 'none'; form-action 'none'"
)


@dataclass(frozen=True, slots=True)
class Listed:
    """A list of conversations: those of one target, length and verdict, or those that a guard has changed."""

    number: int
    filters: Filters
    count: int
    first: int | None = None
    """The number of its first conversation, where they have consecutive ones."""

    @property
    def pages(self) -> int:
        """How many files it has."""
        return max(1, -(-self.count // PAGE))

    def path(self, page: int) -> str:
        """The file of one of its pages, from the folder of the export."""
        return f"lists/{self.number:04}-{page:04}.html"


@dataclass(slots=True)
class Contents:
    """What an export has: by it links are found."""

    lists: dict[tuple[str, str, str, str], Listed] = field(default_factory=dict)
    """By target, length, verdict and change, as filters name them."""
    scenarios: dict[tuple[int, str], int] = field(default_factory=dict)
    """Where the conversations of a scenario begin in a list, by its number."""
    conversations: dict[tuple[str, str, int], int] = field(default_factory=dict)
    """The numbers of conversations, by target, dialogue and sample."""
    pairs: dict[int, int] = field(default_factory=dict)
    """Which conversation one is compared with on a page of their own, both by their numbers."""
    results: dict[str, int] = field(default_factory=dict)
    """The numbers of pages of results, by the target whose scenarios they show."""
    pictures: dict[str, str | None] = field(default_factory=dict)
    """The files of images by hash; None: it was not found."""

    @staticmethod
    def conversation(number: int) -> str:
        """The file of a conversation."""
        return f"conversations/{number // _FILES_A_FOLDER:04}/{number:06}.html"

    @staticmethod
    def compared(number: int) -> str:
        """The file of a conversation with the one that it is compared with."""
        return f"compared/{number // _FILES_A_FOLDER:04}/{number:06}.html"

    @staticmethod
    def items(order: str, page: int) -> str:
        """The file of a page of the items."""
        return f"items/{order or 'item'}-{page:04}.html"


class Filed:
    """Links from one page of an export."""

    served = False
    policy = _POLICY

    def __init__(self, contents: Contents, path: str, about: str) -> None:
        self._contents = contents
        self._up = "../" * path.count("/")
        self.about = about
        """What is written at the head of each page."""

    def static(self, name: str) -> str:
        """A style sheet or a script."""
        return f"{self._up}static/{name}"

    def plots(self) -> str:
        """Vega."""
        return self.static("vega.js")

    def tab(self, name: str, run_id: str) -> str:
        """The results, the table of lists or the items. There is no other run."""
        return self._up + _TABS[name]

    def results(self, filters: Filters, **changes: object) -> str | None:
        """The results with the scenarios of the target `t`."""
        number = self._contents.results.get(str(changes.get("t", "")))
        return None if number is None else f"{self._up}results/{number:03}.html"

    def run(self, filters: Filters, **changes: object) -> str | None:
        """A page of the list, or for a scenario the place in it where the scenario begins."""
        wanted = {name: str(changes.get(name, getattr(filters, name))) for name in _IN_A_LIST}
        if not any(wanted[name] for name in ("length", "verdict", "change")):
            return f"{self._up}conversations.html"
        listed = self._contents.lists.get(tuple(wanted[name] for name in _KEY))  # type: ignore[arg-type]
        if listed is None:
            return None
        if scenario := wanted["scenario"]:
            at = self._contents.scenarios.get((listed.number, scenario))
            return None if at is None else f"{self._up}{listed.path(at // PAGE + 1)}#at-{at}"
        page = changes.get("page")
        return self._up + listed.path(page if isinstance(page, int) else 1)

    def listed(self, filters: Filters, row: Mapping[str, Any]) -> str | None:
        """The file of a conversation."""
        number = self._contents.conversations.get((row["target_key"], row["dialogue_key"], row["sample"]))
        return None if number is None else self._up + self._contents.conversation(number)

    def items(self, filters: Filters, **changes: object) -> str:
        """A page of the items, in one of their orders."""
        page = changes.get("page")
        order = str(changes.get("sort", filters.sort))
        return self._up + Contents.items(order, page if isinstance(page, int) else 1)

    def item(self, row: ItemRow) -> None:
        """There is no list of one item."""

    def cell(self, cell: Cell) -> str | None:
        """The file of the conversation."""
        number = self._contents.conversations.get(cell.key)
        return None if number is None else self._up + self._contents.conversation(number)

    def picture(self, run_id: str, sha256: str) -> str | None:
        """The file of an image."""
        name = self._contents.pictures.get(sha256)
        return None if name is None else self._up + name


_TABS = {"results": "index.html", "conversations": "conversations.html", "items": Contents.items("", 1)}
_KEY = ("target", "length", "verdict", "change")
_IN_A_LIST = (*_KEY, "scenario")
