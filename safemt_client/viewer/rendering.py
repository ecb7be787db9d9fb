"""Templates of the pages, and what they can do with texts that nobody has checked."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from safemt_client.viewer.columns import COLUMNS, chosen
from safemt_client.viewer.marks import marked, shown

__all__ = ["Templates"]


class Templates:
    """Makes pages. What a page shows depends on nothing but the values that are given."""

    def __init__(self) -> None:
        self._environment = Environment(
            loader=PackageLoader("safemt_client.viewer"),
            autoescape=True,
            auto_reload=False,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._environment.globals |= {"every_column": COLUMNS, "usual_columns": chosen("")}
        self._environment.filters |= {
            "shown": shown,
            "marked": marked,
            "once": _once,
            "pretty": _pretty,
            "money": lambda value: "" if value is None else f"${value:.4f}" if value else "$0",
            "seconds": lambda value: "" if value is None else f"{value:.2f} s",
            "words": lambda value: str(value).replace("_", " "),
            "when": lambda value: "" if value is None else str(value)[:19].replace("T", " "),
            "listed": lambda value: ", ".join(map(str, json.loads(value))) if value else "",
        }

    def page(self, name: str, /, **values: Any) -> bytes:
        """The page as it is sent or written; `values` has all that its template and `base.html` name."""
        text = self._environment.get_template(name).render(**values)
        return text.encode("utf-8", "backslashreplace")


def _once(rows: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """What people said, once: of a model's reply and of what a guard passed on they may say the same."""
    said = ("annotator", "label", "refusal_kind", "note", "adjudicated")
    return list({tuple(row[name] for name in said): row for row in rows}.values())


def _pretty(text: str | None) -> str:
    """JSON over several lines; anything else as it is."""
    if text is None:
        return ""
    try:
        return json.dumps(json.loads(text), indent=2, ensure_ascii=False)
    except (ValueError, RecursionError):
        return text
