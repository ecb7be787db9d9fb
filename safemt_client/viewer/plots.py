"""Interactive plots of the results page: Vega-Lite specifications, which Vega draws in the browser."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from functools import lru_cache
from typing import Any

from safemt_client.results.sanitize import plain
from safemt_client.results.scores.typed import AsrByTurn
from safemt_client.viewer.filters import Filters
from safemt_client.viewer.links import Links

__all__ = ["asr_by_turns", "bundle"]

_SCHEMA = "https://vega.github.io/schema/vega-lite/v6.json"
_VERSION = "6.4"
_NAMED = 60


@lru_cache(maxsize=1)
def bundle() -> str | None:
    """Vega, Vega-Lite and vega-embed as one JavaScript module that sets `window.vegaEmbed`.

    None where the package that brings them is not installed: the tables say the same. Making it takes
    a second or two, once.
    """
    try:
        import vl_convert
    except ImportError:
        return None
    script: str = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;", vl_version=_VERSION)
    return script


def asr_by_turns(rows: Sequence[AsrByTurn], targets: Collection[str], filters: Filters, link: Links) -> str:
    """The plot of ASR by number of user turns as JSON; a point leads to its conversations.

    Only of `targets`, by their keys. A name that occurs twice has its key added.
    """
    chosen = [row for row in rows if row.target_key in targets and row.asr is not None]
    keys: dict[str, set[str]] = {}
    for row in chosen:
        keys.setdefault(row.target, set()).add(row.target_key)
    values = [_point(row, filters, link, several=len(keys[row.target]) > 1) for row in chosen]
    x = {
        "field": "turns",
        "type": "ordinal",
        "title": "user turns",
        "scale": {"domain": sorted({row.length for row in rows})},
        "axis": {"labelAngle": 0},
    }
    spec = {
        "$schema": _SCHEMA,
        "width": "container",
        "height": 280,
        "background": "transparent",
        "data": {"values": values},
        "encoding": {"x": x},
        "layer": _layers(sorted({str(value["target"]) for value in values})),
    }
    return json.dumps(spec, allow_nan=False)


def _layers(names: list[str]) -> list[dict[str, Any]]:
    """Lines, intervals and points, a colour and a shape for each name; the legend picks one."""
    legend = {"title": None, "orient": "bottom", "columns": 2, "labelLimit": 400}
    of_target = {"field": "target", "type": "nominal"}
    shared = {
        "color": of_target | {"scale": {"scheme": "tableau10", "domain": names}, "legend": legend},
        "xOffset": of_target | {"scale": {"domain": names, "paddingOuter": 0.3}},
        "opacity": {"condition": {"param": "pick", "value": 1}, "value": 0.12},
    }
    axis = {"format": ".0%", "values": [0, 0.25, 0.5, 0.75, 1]}
    y = {"field": "asr", "type": "quantitative", "title": "ASR", "scale": {"domain": [0, 1]}, "axis": axis}
    pick = {"type": "point", "fields": ["target"]}
    line = {
        "mark": {"type": "line", "aria": False, "strokeWidth": 1.5},
        "params": [{"name": "pick", "select": pick, "bind": "legend"}],
        "encoding": {"y": y, **shared},
    }
    interval = {
        "mark": {"type": "rule", "aria": False, "strokeWidth": 1.5},
        "transform": [{"filter": "isValid(datum.low)"}],
        "encoding": {"y": {"field": "low", "type": "quantitative"}, "y2": {"field": "high"}, **shared},
    }
    points = {
        "mark": {"type": "point", "aria": False, "filled": True, "size": 80, "cursor": "pointer"},
        "encoding": {
            "y": y,
            "shape": of_target | {"scale": {"domain": names}, "legend": legend},
            "href": {"field": "conversations", "type": "nominal"},
            "tooltip": [{"field": name, "type": "nominal"} for name in _TOOLTIP],
            **shared,
        },
    }
    return [line, interval, points]


_TOOLTIP = ("target", "user turns", "ASR", "95 % CI", "unsafe / scored", "coverage")


def _point(row: AsrByTurn, filters: Filters, link: Links, *, several: bool) -> dict[str, Any]:
    name = plain(row.target)[:_NAMED] + (f" ({row.target_key[:8]})" if several else "")
    interval = "none yet" if row.low is None else f"{100 * row.low:.1f} - {100 * (row.high or 0):.1f}"
    return {
        "target": name,
        "turns": row.length,
        "asr": row.asr,
        "low": row.low,
        "high": row.high,
        "user turns": str(row.length),
        "ASR": f"{100 * (row.asr or 0):.1f} %",
        "95 % CI": interval + (" (small sample)" if row.small else ""),
        "unsafe / scored": f"{row.unsafe:,} / {row.scored:,}",
        "coverage": "unknown" if row.coverage is None else f"{100 * row.coverage:.1f} %",
        "conversations": link.run(
            filters, target=row.target_key, length=row.length, verdict="unsafe" if row.unsafe else "safe"
        ),
    }
