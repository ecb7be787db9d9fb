"""What the template of the results page is given: the chosen targets, cells by place, and sentences."""

from __future__ import annotations

import hashlib
import unicodedata
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from safemt_client.results.scores.typed import AsrByScenario
from safemt_client.results.scores.wording import effect as sentence
from safemt_client.viewer.filters import Filters
from safemt_client.viewer.links import Links
from safemt_client.viewer.plots import asr_by_turns
from safemt_client.viewer.results import Results

__all__ = ["page_of"]

_PLOTTED = 6
"""So many lines can be told apart; the others are chosen by the reader."""


def page_of(found: Results, filters: Filters, wanted: Sequence[str], link: Links) -> dict[str, Any]:
    """The values of the template. `wanted`: keys of the targets to plot; unknown ones are ignored.

    Without any, the targets with the highest ASR over all lengths are plotted. The first that is plotted is
    the one whose scenarios are shown.
    """
    keys = [key for key, _ in found.targets]
    chosen = [key for key in wanted if key in keys] or _highest(found)[:_PLOTTED]
    scenario_key = chosen[0] if chosen else ""
    names = dict(found.targets)
    by_name = {name: key for key, name in found.targets}
    return {
        "chosen": chosen,
        "plot": asr_by_turns(found.rates, chosen, filters, link),
        "by_cell": {(row.target_key, row.length): row for row in found.rates},
        "scenarios": _scenarios(found, scenario_key),
        "scenario_key": scenario_key,
        "of_one": names.get(scenario_key, ""),
        "value_of": _filtered_by,
        "heat": _heat,
        "effects": [row | {"key": by_name.get(row["target"], "")} for row in found.effects],
        "sentence": sentence,
    }


def _highest(found: Results) -> list[str]:
    unsafe: dict[str, int] = defaultdict(int)
    scored: dict[str, int] = defaultdict(int)
    for row in found.rates:
        unsafe[row.target_key] += row.unsafe
        scored[row.target_key] += row.scored
    return sorted(scored, key=lambda key: (-unsafe[key] / max(1, scored[key]), key))


def _scenarios(found: Results, target_key: str) -> dict[str | None, dict[int, AsrByScenario]]:
    cells: dict[str | None, dict[int, AsrByScenario]] = defaultdict(dict)
    for row in found.scenarios:
        if row.target_key == target_key:
            cells[row.scenario][row.length] = row
    return dict(cells)


def _filtered_by(scenario: str | None) -> str:
    """A scenario as the filter of conversations names it: see `filters.SCENARIO`."""
    if scenario is None or not any(unicodedata.category(one) in ("Cc", "Cf") for one in scenario):
        return scenario or ""
    return "md5:" + hashlib.md5(scenario.encode(), usedforsecurity=False).hexdigest()


def _heat(rate: float) -> int:
    """The step of a rate's colour: 0 for none at all, then fifths."""
    return 0 if rate == 0 else min(5, 1 + int(rate * 5 - 1e-9))
