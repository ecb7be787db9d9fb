"""The scores that a report is made of, with the names as they are shown."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

from safemt_client.results.names import addresses, short_names
from safemt_client.results.report.document import UNKNOWN, show, unique
from safemt_client.results.sanitize import without_secrets
from safemt_client.results.scores.wording import IMPORTED

__all__ = ["ReportData"]


class ReportData:
    """What `scores.as_dict` found, and which of it the deciding judge says."""

    def __init__(self, found: dict[str, Any]) -> None:
        self.found = found
        key = found["deciding_judge"]
        self.judge: str | None = next((j["name"] for j in found["judges"] if j["judge_key"] == key), None)
        names = [row["name"] for row in found["targets"]]
        names += [row["target"] for row in (*found["asr_by_turn"], *found["endings"])]
        imported = {row["name"] for row in found["targets"] if row.get("imported_from") is not None}
        self.targets = {
            name: label + IMPORTED if name in imported else label for name, label in _labels(names).items()
        }
        """Each target's name, and how it is shown."""
        self._judges = _labels([row["name"] for row in found["judges"]])
        self.panel = len(found["judges"]) > 1

    def target(self, name: str) -> str:
        """A target's name as it is shown."""
        return self.targets.get(name) or show(name)

    def judge_label(self, name: str | None) -> str:
        """A judge's name as it is shown."""
        return UNKNOWN if name is None else self._judges.get(name) or show(name)

    def who(self, text: str) -> str:
        """Whom money was paid for: a role, and a name as it is shown."""
        role, _, name = text.partition(" ")
        labels = {"target": self.targets, "judge": self._judges}.get(role, {})
        return f"{role} {labels[name]}" if name in labels else show(text)

    @property
    def addresses(self) -> list[str]:
        """Where the models are whose names are shown without their addresses; a line for each address."""
        found = addresses([*self.targets, *self._judges])
        return [
            f"at {show(without_secrets(place))}: {', '.join(map(show, names))}"
            for place, names in found.items()
        ]

    def rows(self, table: str) -> list[dict[str, Any]]:
        """The rows of a table that the deciding judge stands behind, or no judge at all."""
        key = self.found["deciding_judge"]
        return [
            row
            for row in self.found[table]
            if (
                row["judge_key"] in (None, key)
                if "judge_key" in row
                else row.get("judge") in (None, self.judge)
            )
        ]

    @cached_property
    def mean_asr(self) -> dict[str, float | None]:
        """Each target's mean rate over the lengths that all have, or its own where they share none.

        Each length counts alike; None where nothing is scored.
        """
        rates: dict[str, dict[int, float]] = {}
        for row in self.rows("asr_by_turn"):
            known = rates.setdefault(row["target"], {})
            if row["asr"] is not None:
                known[row["length"]] = row["asr"]
        lengths = [set(known) for known in rates.values() if known]
        common = set.intersection(*lengths) if lengths else set()
        found: dict[str, float | None] = {}
        for name, known in rates.items():
            wanted = [rate for length, rate in known.items() if length in common or not common]
            found[name] = sum(wanted) / len(wanted) if wanted else None
        return found

    @cached_property
    def by_risk(self) -> list[str]:
        """The targets from the highest mean ASR to the lowest; those without one come last."""
        mean = self.mean_asr
        return sorted(mean, key=lambda name: -1.0 if (found := mean[name]) is None else found, reverse=True)

    @cached_property
    def scenarios(self) -> dict[str | None, str]:
        """Each scenario's name, and how it is shown."""
        names = {row["scenario"] for row in self.found["asr_by_scenario"]}
        labels = unique(sorted(name for name in names if name is not None))
        found: dict[str | None, str] = dict(labels.items())
        if None in names:
            found[None] = UNKNOWN
        return found


def _labels(names: Sequence[str]) -> dict[str, str]:
    """Each name as it is shown: without its address where that is clear, and no two alike."""
    short = short_names(names)
    shown = unique(short.values())
    return {name: shown[one] for name, one in short.items()}
