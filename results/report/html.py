"""A report as one HTML page with its style and plots in it."""

from __future__ import annotations

import itertools
from importlib import resources
from typing import Any

from safemt_client.providers.errors import InputError
from safemt_client.results.report.document import Code, Document, Figure, Notes, Plot, Table

try:
    import altair  # noqa: F401
    import jinja2
    import markupsafe
    import vl_convert  # noqa: F401
except ImportError as error:
    raise InputError(
        f"an HTML report needs {error.name}, which is not installed: pip install 'safemt-client[report]'"
    ) from None

from safemt_client.results.report.plots import HEAT, NOTHING, PARTS, draw
from safemt_client.results.report.svg import inline
from safemt_client.results.scores.wording import CI, P95

__all__ = ["webpage"]

# The shapes and colours of `plots`, in the order of its series.
_KEYS = {
    "circle": '<circle cx="8" cy="6" r="4" fill="#b03a00"/>',
    "dot": '<circle cx="8" cy="6" r="4" fill="#0a5ca8"/>',
    "square": '<rect x="4" y="2" width="8" height="8" fill="#0a5ca8"/>',
    "triangle": '<path d="M8 1.5L13 10.5H3Z" fill="#7a3b8f"/>',
    "tick": '<path d="M1 6H8M8 1V11" stroke="#0a5ca8" stroke-width="2"/>',
    "series-0": '<path d="M0 6H22" stroke="#b03a00" stroke-width="1.6"/>'
    '<circle cx="11" cy="6" r="4" fill="#b03a00"/>',
    "series-1": '<path d="M0 6H22" stroke="#0a5ca8" stroke-width="1.6" stroke-dasharray="5,3"/>'
    '<rect x="7" y="2" width="8" height="8" fill="#0a5ca8"/>',
    "series-2": '<path d="M0 6H22" stroke="#7a3b8f" stroke-width="1.6" stroke-dasharray="2,2"/>'
    '<path d="M11 1.5L16 10.5H6Z" fill="#7a3b8f"/>',
    "series-3": '<path d="M0 6H22" stroke="#00694f" stroke-width="1.6" stroke-dasharray="7,2,2,2"/>'
    '<path d="M11 1L16 6L11 11L6 6Z" fill="#00694f"/>',
}
_STEPS = ("0", "to 20 %", "to 40 %", "to 60 %", "to 80 %", "to 100 %")


def webpage(document: Document) -> str:
    """The whole page. It has no script, and its policy lets it fetch nothing."""
    package = resources.files("safemt_client.results.report")
    environment = jinja2.Environment(
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        loader=jinja2.FunctionLoader(lambda name: (package / name).read_text(encoding="utf-8")),
    )
    numbers = itertools.count(1)

    # `inline` lets only shapes and escaped texts through.
    def drawn(plot: Plot, css_class: str, wide: bool) -> Any:
        return markupsafe.Markup(
            inline(draw(plot, wide=wide), f"p{next(numbers)}", plot.title, plot.description, css_class)
        )

    return environment.get_template("page.html.jinja").render(
        document=document,
        style=markupsafe.Markup((package / "page.css").read_text(encoding="utf-8")),
        drawn=drawn,
        number=lambda: next(numbers),
        legend=_legend,
        ci=CI,
        p95=P95,
        kind=_kind,
    )


def _kind(block: object) -> str:
    return {Table: "table", Figure: "figure", Notes: "notes", Code: "code"}[type(block)]


def _legend(figure: Figure) -> list[tuple[Any, str]]:
    """Pairs of a small drawing and its meaning."""
    found: list[tuple[Any, str]] = []
    for key, words in figure.legend:
        if key == "heat":
            found += [(_swatch(fill), step) for fill, step in zip(HEAT, _STEPS, strict=True)]
            found.append((_swatch(NOTHING), "nothing scored"))
        elif key.startswith("ending-"):
            found.append((_swatch(PARTS[key.removeprefix("ending-")][0]), words))
        else:
            wide = 22 if key.startswith("series") else 16
            found.append((_small(_KEYS[key], wide), words))
    return found


def _swatch(fill: str) -> Any:
    return _small(
        f'<rect x="1" y="0.5" width="14" height="11" fill="{fill}" stroke="#1f2328" stroke-width=".6"/>', 16
    )


def _small(shapes: str, width: int) -> Any:
    return markupsafe.Markup(
        f'<svg aria-hidden="true" class="key" width="{width}" height="12" viewBox="0 0 {width} 12">'
        f"{shapes}</svg>"
    )
