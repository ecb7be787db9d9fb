"""Plots as static SVG: Altair describes them, vl-convert draws them, `svg.inline` makes them fit for a page.

Colours are those of a light page; the style sheet gives each another one on a dark page, by its value. Every
series also has a shape or a dash of its own, or a letter, so that nothing depends on colour alone.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import altair as alt
import vl_convert
from altair.utils.schemapi import debug_mode

from safemt_client.results.report.document import Plot

__all__ = ["HEAT", "PARTS", "as_files", "chart_of", "draw"]

INK, MUTED, GRID, PAPER = "#1f2328", "#59636e", "#d1d9e0", "#fefefe"
SERIES = ("#b03a00", "#0a5ca8", "#7a3b8f", "#00694f")
BAND = "#f3d9cc"
_SHAPES = ("circle", "square", "triangle-up", "diamond")
_DASHES = ([1, 0], [5, 3], [2, 2], [7, 2, 2, 2])
HEAT = ("#fff4e8", "#fdd8b0", "#fbb172", "#ee7f3b", "#c94f14", "#8a2b06")
"""From none unsafe to all: five steps of a fifth, the first for exactly none."""
ON_FILL = "#1f2329"
"""Ink on a filled cell, which keeps its fill on a dark page: another value than INK, so that it stays."""
_ON_HEAT = (ON_FILL, ON_FILL, ON_FILL, ON_FILL, "#ffffff", "#ffffff")
NOTHING = "#e6e9ec"
PARTS = {
    "A": ("#7fb3de", ON_FILL),
    "D": ("#0a5ca9", "#ffffff"),
    "P": ("#e8b23a", ON_FILL),
    "G": ("#17826a", "#ffffff"),
    "T": ("#d39ac0", ON_FILL),
    "E": ("#f2ecc0", ON_FILL),
    "X": ("#a8330a", "#ffffff"),
    "N": ("#b9c0c7", ON_FILL),
}
"""Fill and text of each part of the outcomes, by its letter."""
_FONT = "Helvetica Neue, Helvetica, Arial, Liberation Sans, sans-serif"
_SHARE = alt.Scale(domain=[0, 1])
_SIDES: tuple[tuple[str, Literal["left", "right"], int], ...] = (
    ("without", "right", -8),
    ("with", "left", 8),
)
_PANEL, _WIDE, _NARROW = 250, 640, 300
_VERSION = "_".join(alt.SCHEMA_VERSION.split(".")[:2])


def draw(plot: Plot, *, wide: bool = False) -> str:
    """The plot as SVG text, for a panel or phone, or `wide`."""
    svg: str = vl_convert.vegalite_to_svg(_spec(plot, wide), vl_version=_VERSION)
    return svg


def as_files(plot: Plot, *, wide: bool = False) -> tuple[str, bytes]:
    """The plot as an SVG and a PNG file, both on white; the PNG has 3 pixels for each of the SVG."""
    spec = _spec(plot, wide)
    spec["config"]["background"] = "white"
    svg: str = vl_convert.vegalite_to_svg(spec, vl_version=_VERSION)
    png: bytes = vl_convert.vegalite_to_png(spec, vl_version=_VERSION, scale=3)
    return svg, png


def _spec(plot: Plot, wide: bool) -> dict[str, Any]:
    # Altair checks every part against its schema, which takes twice as long as the drawing. What a chart is
    # made of is written here; only its data vary. The tests have it checked.
    with debug_mode(False):
        spec: dict[str, Any] = chart_of(plot, wide=wide).to_dict(validate=False)
    return spec


def chart_of(plot: Plot, *, wide: bool = False) -> Any:
    """The plot as a chart of Altair."""
    width = _WIDE if wide else _NARROW
    match plot.kind:
        case "lines":
            return _lines(plot)
        case "heat":
            return _heat(plot)
        case "dots":
            return _dots(plot, width)
        case "slopes":
            return _slopes(plot)
        case "stacks":
            return _stacks(plot, width)
        case "ranges":
            return _ranges(plot, width)


def _layered(*layers: Any, **properties: Any) -> Any:
    """The layers as one chart with the report's look. Altair copies a chart deeply at each further change."""
    config = alt.Config(
        background="transparent",
        font=_FONT,
        padding=4,
        aria=False,
        view=alt.ViewConfig(stroke=None),
        axis=alt.AxisConfig(
            labelColor=INK, titleColor=INK, gridColor=GRID, domainColor=MUTED, tickColor=MUTED,
            labelFontSize=11, titleFontSize=11, titleFontWeight="normal", labelLimit=150,
        ),
    )  # fmt: skip
    return alt.layer(*layers, config=config, **properties)


def _values(rows: Sequence[Any]) -> Any:
    # As a tuple: a list would be copied, deeply, with every layer.
    return alt.InlineData(values=tuple(dict(row) for row in rows))


def _colours(names: Sequence[str]) -> alt.Scale:
    return alt.Scale(domain=list(names), range=[SERIES[place % len(SERIES)] for place in range(len(names))])


def _shapes(names: Sequence[str]) -> alt.Scale:
    return alt.Scale(domain=list(names), range=[_SHAPES[place % len(_SHAPES)] for place in range(len(names))])


def _marks(base: Any, x: Any, y: Any, names: Sequence[str], *, apart: int = 0) -> list[Any]:
    """Points with a shape for each series, hollow where the sample is small; series `apart` by pixels."""
    channels: dict[str, Any] = {
        "x": x,
        "y": y,
        "shape": alt.Shape("series:N", scale=_shapes(names), legend=None),
        "stroke": alt.Stroke("series:N", scale=_colours(names), legend=None),
    }
    fill = alt.Fill("series:N", scale=_colours(names), legend=None)
    look: dict[str, Any] = {"size": 55, "opacity": 1, "strokeWidth": 1.6, "filled": True}
    layers = []
    for place, name in enumerate(names):
        # The first stays in the middle.
        shift = 0 if place == 0 else apart * (1 if place % 2 == 0 else -1)
        mine = base.transform_filter(alt.FieldEqualPredicate(field="series", equal=name))
        solid = mine.transform_filter("!datum.small").mark_point(yOffset=shift, **look)
        hollow = mine.transform_filter("datum.small").mark_point(yOffset=shift, fill=PAPER, **look)
        layers += [solid.encode(fill=fill, **channels), hollow.encode(**channels)]
    return layers


def _lines(plot: Plot) -> Any:
    """A share by number of turns, with intervals, and a band of bounds where there are some."""
    names = list(plot.options["series"])
    known = [row for row in plot.data if row["y"] is not None]
    xs = sorted({row["x"] for row in plot.data})
    step = min((b - a for a, b in itertools.pairwise(xs)), default=1)
    nudge = 0.09 * step
    shifted = [
        row | {"at": row["x"] + nudge * (2 * names.index(row["series"]) - len(names) + 1)}
        for row in map(dict, known)
    ]
    base = alt.Chart(_values(shifted))
    axis = alt.Axis(values=xs, format="d", grid=False)
    x = alt.X(
        "at:Q",
        title=plot.options["x"],
        axis=axis,
        scale=alt.Scale(domain=[xs[0] - 0.4, xs[-1] + 0.4], nice=False),
    )
    y_axis = alt.Axis(format=".0%", values=[0, 0.25, 0.5, 0.75, 1])
    y = alt.Y("y:Q", title=None, axis=y_axis, scale=_SHARE)
    layers = []
    bounded = [row for row in plot.data if row.get("worst") is not None and row["worst"] - row["best"] > 1e-9]
    if bounded:
        band = [row for row in plot.data if row.get("worst") is not None]
        layers.append(
            alt.Chart(_values(band))
            .mark_area(color=BAND, opacity=1)
            .encode(x=alt.X("x:Q"), y=alt.Y("best:Q"), y2="worst:Q")
        )
    colour = alt.Stroke("series:N", scale=_colours(names), legend=None)
    dashes = alt.Scale(
        domain=names, range=[list(_DASHES[place % len(_DASHES)]) for place in range(len(names))]
    )
    layers.append(
        base.mark_line(strokeWidth=1.6).encode(
            x=x, y=y, stroke=colour, strokeDash=alt.StrokeDash("series:N", scale=dashes, legend=None)
        )
    )
    layers.append(
        base.transform_filter("isValid(datum.low)")
        .mark_rule(strokeWidth=1.4)
        .encode(x=x, y=alt.Y("low:Q"), y2="high:Q", stroke=colour)
    )
    layers += _marks(base, x, y, names)
    return _layered(*layers, width=_PANEL, height=150)


def _heat(plot: Plot) -> Any:
    """Scenarios by numbers of turns; every cell says unsafe/scored."""
    shown = _shortened(plot.options["rows"], _NARROW)
    rows = []
    for row in plot.data:
        place = None if row["y"] is None else 0 if row["y"] == 0 else min(5, 1 + int(row["y"] * 5 - 1e-9))
        rows.append(
            {"row": shown[row["row"]], "x": str(row["x"]), "text": row["text"]}
            | {"fill": NOTHING if place is None else HEAT[place]}
            | {"ink": ON_FILL if place is None else _ON_HEAT[place]}
        )
    base = alt.Chart(_values(rows)).encode(
        x=alt.X(
            "x:O",
            title="user turns",
            sort=[str(k) for k in plot.options["lengths"]],
            axis=alt.Axis(labelAngle=0, domain=False, ticks=False),
        ),
        y=alt.Y(
            "row:N",
            title=None,
            sort=list(shown.values()),
            scale=alt.Scale(domain=list(shown.values())),
            axis=alt.Axis(domain=False, ticks=False, labelLimit=0),
        ),
    )
    cells = base.mark_rect(stroke=PAPER, strokeWidth=2).encode(fill=alt.Fill("fill:N", scale=None))
    texts = base.mark_text(fontSize=10).encode(text="text:N", color=alt.Color("ink:N", scale=None))
    return _layered(
        cells,
        texts,
        width=max(1, len(plot.options["lengths"])) * 34,
        height=22 * max(1, len(plot.options["rows"])),
    )


def _names(shown: Mapping[str, str]) -> Any:
    """The axis of targets, by their names as `shown`."""
    order = list(shown.values())
    axis = alt.Axis(labelLimit=0, labelPadding=8, ticks=False, domain=False, grid=True, gridDash=[1, 3])
    return alt.Y("label:N", title=None, sort=order, scale=alt.Scale(domain=order), axis=axis)


def _shortened(order: Sequence[str], width: int) -> dict[str, str]:
    """Names as they fit beside a plot: long ones lose their middle, and stay different."""
    longest = 38 if width > 400 else 22
    found: dict[str, str] = {}
    for name in order:
        short = name
        if len(name) > longest:
            short = f"{name[: longest // 2 - 1]}…{name[-(longest - longest // 2) :]}"
        if short in found.values():
            short = f"{short[: longest - 5]} ({len(found) + 1})"
        found[name] = short
    return found


def _renamed(rows: Sequence[Mapping[str, Any]], shown: Mapping[str, str]) -> list[dict[str, Any]]:
    return [{**row, "label": shown[row["label"]]} for row in rows]


def _room(shown: Mapping[str, str], width: int) -> int:
    """Width that the names leave for the marks."""
    return width - round(5.8 * max(map(len, shown.values()), default=0)) - 30


def _dots(plot: Plot, width: int) -> Any:
    """One row a target; a shape for each series, bars for intervals."""
    order, names = list(plot.options["order"]), list(plot.options["series"])
    shown = _shortened(order, width)
    ticks = [0, 0.25, 0.5, 0.75, 1] if width > 400 else [0, 0.5, 1]
    base = alt.Chart(_values(_renamed([row for row in plot.data if row["x"] is not None], shown)))
    axis = alt.Axis(format=".0%" if plot.options.get("percent") else ".2f", values=ticks)
    x = alt.X("x:Q", title=None, scale=_SHARE, axis=axis)
    y = _names(shown)
    bars = (
        base.transform_filter("isValid(datum.low)")
        .mark_rule(strokeWidth=1.6)
        .encode(
            x=alt.X("low:Q"),
            x2="high:Q",
            y=y,
            stroke=alt.Stroke("series:N", scale=_colours(names), legend=None),
        )
    )
    blank = (
        alt.Chart(_values([{"label": name} for name in shown.values()]))
        .mark_point(opacity=0, size=0)
        .encode(y=y)
    )
    return _layered(
        blank,
        bars,
        *_marks(base, x, y, names, apart=5),
        width=_room(shown, width),
        height=max(1, len(order)) * 22,
    )


def _slopes(plot: Plot) -> Any:
    """From without to with: a line for each number of turns, a thick one for all."""
    rows, ends = [], []
    together: dict[tuple[str, int], list[str]] = defaultdict(list)
    for row in plot.data:
        for side in ("without", "with"):
            rows.append(
                {"series": row["series"], "side": side, "y": row[side], "all": row["series"] == "all"}
            )
            together[side, round(row[side] * 16)].append(row["series"])
    for (side, level), names in together.items():
        ends.append({"side": side, "y": level / 16 + (0.025 if level == 0 else 0), "text": ", ".join(names)})
    x = alt.X("side:N", title=None, sort=["without", "with"], axis=alt.Axis(labelAngle=0, grid=False),
              scale=alt.Scale(padding=0.5))  # fmt: skip
    y = alt.Y("y:Q", title=None, axis=alt.Axis(format=".0%", values=[0, 0.25, 0.5, 0.75, 1]), scale=_SHARE)
    base = alt.Chart(_values(rows))
    every = base.transform_filter("!datum.all").mark_line(color=SERIES[1], strokeWidth=1.2, strokeDash=[4, 2])
    whole = base.transform_filter("datum.all").mark_line(color=SERIES[0], strokeWidth=3)
    points = base.mark_point(filled=True, size=30, opacity=1, color=INK)
    labels = alt.Chart(_values(ends))
    texts = [
        labels.transform_filter(f"datum.side == '{side}'")
        .mark_text(align=align, dx=dx, fontSize=10, color=INK)
        .encode(x=x, y=y, text="text:N")
        for side, align, dx in _SIDES
    ]
    return _layered(
        every.encode(x=x, y=y, detail="series:N"),
        whole.encode(x=x, y=y),
        points.encode(x=x, y=y),
        *texts,
        width=_PANEL,
        height=190,
        title=alt.TitleParams(
            plot.options["subtitle"], fontSize=11, fontWeight="normal", color=INK, anchor="start"
        ),
    )


def _stacks(plot: Plot, width: int) -> Any:
    """Shares that add up to all; wide parts carry their letter."""
    order = list(plot.options["order"])
    shown = _shortened(order, width)
    ticks = [0, 0.25, 0.5, 0.75, 1] if width > 400 else [0, 0.5, 1]
    letters = list(PARTS)
    rows = []
    for label in order:
        at = 0.0
        for row in sorted(
            (row for row in plot.data if row["label"] == label), key=lambda row: letters.index(row["letter"])
        ):
            fill, ink = PARTS[row["letter"]]
            rows.append(
                {"label": shown[label], "from": at, "to": at + row["share"], "middle": at + row["share"] / 2}
                | {"fill": fill, "ink": ink, "letter": row["letter"] if row["share"] >= 0.04 else ""}
            )
            at += row["share"]
    base = alt.Chart(_values(rows)).encode(y=_names(shown))
    bars = base.mark_bar(stroke=INK, strokeWidth=0.6, height=16).encode(
        x=alt.X("from:Q", title=None, scale=_SHARE, axis=alt.Axis(format=".0%", values=ticks)),
        x2="to:Q",
        fill=alt.Fill("fill:N", scale=None),
    )
    texts = base.mark_text(fontSize=10, fontWeight="bold").encode(
        x=alt.X("middle:Q"), text="letter:N", color=alt.Color("ink:N", scale=None)
    )
    return _layered(bars, texts, width=_room(shown, width), height=max(1, len(order)) * 24)


def _ranges(plot: Plot, width: int) -> Any:
    """A dot and how far most go."""
    order = list(plot.options["order"])
    shown = _shortened(order, width)
    base = alt.Chart(_values(_renamed(plot.data, shown))).encode(y=_names(shown))
    x = alt.X("x:Q", title="seconds", scale=alt.Scale(zero=True), axis=alt.Axis(tickCount=5))
    ends = base.transform_filter("isValid(datum.high)")
    return _layered(
        ends.mark_rule(strokeWidth=1.6, color=SERIES[1]).encode(x=x, x2="high:Q"),
        ends.mark_tick(thickness=2, size=12, color=SERIES[1]).encode(x=alt.X("high:Q")),
        base.mark_point(filled=True, size=55, opacity=1, color=SERIES[1]).encode(x=x),
        width=_room(shown, width),
        height=max(1, len(order)) * 22,
    )
