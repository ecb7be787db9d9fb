"""SVG from a plotting library made fit for a page: shapes and texts stay, and it says what it shows."""

from __future__ import annotations

import re
from xml.etree import ElementTree

__all__ = ["inline"]

_SPACE = "http://www.w3.org/2000/svg"
_TAGS = {"svg", "g", "path", "rect", "line", "text", "tspan", "circle", "defs", "clipPath"}
_ATTRIBUTES = {
    *("d", "x", "y", "x1", "x2", "y1", "y2", "cx", "cy", "r", "rx", "ry", "dx", "dy", "width", "height"),
    *(
        "viewBox",
        "transform",
        "fill",
        "fill-opacity",
        "stroke",
        "stroke-width",
        "stroke-dasharray",
        "opacity",
    ),
    *("stroke-opacity", "stroke-linecap", "stroke-miterlimit", "stroke-linejoin", "text-anchor", "font-size"),
    *("font-weight", "display", "id", "clip-path", "dominant-baseline"),
}
_LOCAL = re.compile(r"url\(#([\w-]+)\)")


def inline(svg: str, name: str, title: str, description: str, css_class: str) -> str:
    """The drawing as an element of a page. `name` makes its ids unique there.

    What is not a shape, a text, or one of their looks is dropped, whatever else is in the drawing.
    """
    root = ElementTree.fromstring(svg)
    _clean(root, name)
    for attribute in ("width", "height"):
        # The width in the page is the style sheet's; this is what it is drawn for.
        root.set(attribute, root.get(attribute, ""))
    root.set("role", "img")
    root.set("aria-labelledby", f"{name}-t {name}-d")
    root.set("class", css_class)
    for place, (tag, text) in enumerate((("title", title), ("desc", description))):
        element = ElementTree.Element(f"{{{_SPACE}}}{tag}", {"id": f"{name}-{tag[0]}"})
        element.text = text
        root.insert(place, element)
    ElementTree.register_namespace("", _SPACE)
    return ElementTree.tostring(root, encoding="unicode").replace(f' xmlns="{_SPACE}"', "", 1)


def _clean(element: ElementTree.Element, name: str) -> None:
    for attribute, value in list(element.attrib.items()):
        local = _LOCAL.fullmatch(value)
        if attribute not in _ATTRIBUTES or ("url(" in value and not local):
            del element.attrib[attribute]
        elif attribute == "id":
            element.set(attribute, f"{name}-{value}")
        elif local:
            element.set(attribute, f"url(#{name}-{local[1]})")
    for child in list(element):
        tag = child.tag.removeprefix(f"{{{_SPACE}}}") if isinstance(child.tag, str) else ""
        if tag not in _TAGS or (child.get("display") == "none" and not len(child)):
            element.remove(child)
            continue
        _clean(child, name)
        # Axes leave empty groups behind.
        if tag == "g" and not len(child):
            element.remove(child)
