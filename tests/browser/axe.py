"""axe-core on a page: what is hard to use for people with a screen reader, a keyboard or weak sight."""

from importlib import resources
from typing import Any

from playwright.sync_api import Page

_SOURCE = resources.files("axe_core_python").joinpath("axe.min.js").read_text(encoding="utf-8")
_RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]


def axe(page: Page) -> list[dict[str, Any]]:
    """The violations on the page as it stands: rule, what it says, and the elements."""
    # Evaluated by the driver, which no content security policy of the page hinders.
    page.evaluate(f"() => {{ {_SOURCE} }}")
    found = page.evaluate(
        "rules => axe.run(document, {runOnly: {type: 'tag', values: rules}, resultTypes: ['violations']})",
        _RULES,
    )
    return [
        {
            "id": rule["id"],
            "help": rule["help"],
            "nodes": [(node["html"][:200], node.get("failureSummary", "")) for node in rule["nodes"]],
        }
        for rule in found["violations"]
    ]
