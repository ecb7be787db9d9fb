"""What was searched for, marked where it stands in a text."""

from __future__ import annotations

import re

from markupsafe import Markup, escape

from safemt_client.results.sanitize import coded

__all__ = ["MOST", "marked", "shown"]

MOST = 500
"""The most hits that are marked in one text: a page of a letter's every occurrence would not open."""


def shown(text: object, most: int | None = None) -> Markup:
    """Text for a page: markup escaped, and control and misleading characters shown as their codes.

    `most`: its first characters alone.
    """
    whole = "" if text is None else str(text)
    return escape(coded(whole if most is None else whole[:most]))


def marked(text: object, wanted: str, most: int | None = None) -> Markup:
    """As `shown`, with a `<mark>` around each occurrence of `wanted`, whatever its case."""
    whole = "" if text is None else str(text)
    if most is not None:
        whole = whole[:most]
    if not wanted:
        return shown(whole)
    parts, end = [], 0
    for number, hit in enumerate(re.finditer(re.escape(wanted), whole, re.IGNORECASE)):
        if number == MOST:
            break
        parts += [shown(whole[end : hit.start()]), Markup("<mark>"), shown(hit[0]), Markup("</mark>")]
        end = hit.end()
    return Markup("").join([*parts, shown(whole[end:])])
