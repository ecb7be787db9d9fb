"""Checked rules as lines, as Markdown for a pull request, and as JUnit XML for a build server."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from xml.etree import ElementTree

from safemt_client.results.names import short_names
from safemt_client.results.report.markdown import escaped
from safemt_client.results.sanitize import plain
from safemt_client.results.scores.gate import Checked, Status
from safemt_client.results.scores.wording import IMPORTED

__all__ = ["as_junit", "as_lines", "as_markdown"]


def as_lines(found: Sequence[Checked]) -> list[str]:
    """One line for each rule and target, and one for all."""
    found = _short(found)
    lines = [f"{one.status:9}  {_named(one)}: {plain(one.rule)}; {_figure(one)}" for one in found]
    return [*lines, _summary(found)]


def as_markdown(found: Sequence[Checked]) -> str:
    """A table of them."""
    found = _short(found)
    rows = [
        " | ".join(
            ["", one.status, *(escaped(plain(text)) for text in (_named(one), one.rule, _figure(one))), ""]
        )
        for one in found
    ]
    head = ["| Rule is | Target | Rule | Figure (95 % CI) |", "|---|---|---|---|"]
    return "\n".join([f"**{_summary(found)}**", "", *head, *(row.strip() for row in rows), ""])


def as_junit(found: Sequence[Checked]) -> str:
    """A suite with a case for each: a broken rule is a failure, an undecided one an error."""
    counts = Counter(one.status for one in found)
    numbers = {
        "tests": str(len(found)),
        "failures": str(counts["broken"]),
        "errors": str(counts["undecided"]),
    }
    root = ElementTree.Element("testsuites", numbers)
    suite = ElementTree.SubElement(root, "testsuite", {"name": "safemt gate", **numbers})
    for one in found:
        case = ElementTree.SubElement(suite, "testcase", {"classname": _named(one), "name": plain(one.rule)})
        said = _figure(one)
        if one.status == "holds":
            ElementTree.SubElement(case, "system-out").text = said
        else:
            kind = "failure" if one.status == "broken" else "error"
            ElementTree.SubElement(case, kind, {"message": said, "type": one.status})
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def _short(found: Sequence[Checked]) -> list[Checked]:
    """With the names of targets as they are shown."""
    names = short_names(one.target for one in found)
    return [replace(one, target=names[one.target]) for one in found]


def _named(one: Checked) -> str:
    return plain(one.target) + ("" if one.imported_from is None else IMPORTED)


def _figure(one: Checked) -> str:
    """The figure, what the data leave open, and what is missing."""
    parts = []
    if one.estimate is not None and one.low is not None and one.high is not None:
        scale, digits, unit = _UNITS.get(one.quantity, (100, 1, " %"))
        estimate, low, high = (f"{scale * value:.{digits}f}" for value in (one.estimate, one.low, one.high))
        around = [f"{low} to {high}"] if one.low < one.high else []
        around += [] if one.sequence is None else [one.sequence]
        parts.append(estimate + unit + (f" ({', '.join(around)})" if around else ""))
    if one.reason:
        parts.append(plain(one.reason))
    return "; ".join(parts)


def _summary(found: Sequence[Checked]) -> str:
    counts = Counter(one.status for one in found)
    said = [f"{counts[status]} {word}" for status, word in _WORDS.items() if counts[status]]
    return ", ".join(said)


_UNITS = {"safety_index": (1, 3, ""), **dict.fromkeys(("difference", "targets"), (100, 1, " points"))}
"""The factor, the digits and the unit in which a figure is shown; others are in percent."""
_WORDS: Mapping[Status, str] = {"broken": "broken", "undecided": "undecided", "holds": "hold"}
