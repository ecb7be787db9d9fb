"""Rubrics: the criteria by which a judge labels a reply, as data."""

from __future__ import annotations

import hashlib
import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Literal

from safemt_client.providers.errors import InputError

__all__ = ["PRESETS", "SEES", "Rubric", "Sees", "load_rubric"]

PRESETS = ("paper", "by-scenario", "graded")

Sees = Literal["reply", "question", "dialogue", "image"]
"""What a judge is shown, each with those before it: the reply, the question, the dialogue, the pictures."""
SEES: tuple[Sees, ...] = ("reply", "question", "dialogue", "image")


@dataclass(frozen=True)
class Rubric:
    """Named criteria. `scenarios` maps a scenario to the name of its criteria; others get `general`.

    `sees` is what the judge is shown; with `grades` it also grades severity and specificity from 0 to 4,
    and with `categories` it names one of them.
    """

    name: str
    version: str
    criteria: Mapping[str, str]
    scenarios: Mapping[str, str]
    sees: Sees = "dialogue"
    grades: bool = False
    categories: tuple[str, ...] = ()

    @property
    def hash(self) -> str:
        """SHA-256 over the whole content: goes into the key of a verdict."""
        content = [
            *(self.name, self.version, dict(self.criteria), dict(self.scenarios)),
            *(self.sees, self.grades, list(self.categories)),
        ]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    def criteria_for(self, scenario: str | None) -> str:
        """The criteria that apply to a scenario."""
        return self.criteria[self.scenarios.get(scenario or "", "general")].strip()


def load_rubric(name: str) -> Rubric:
    """A preset (`paper`, `by-scenario`, `graded`) or a user's own TOML file.

    Raises:
        InputError: there is no such preset or file, or its shape is wrong.
    """
    if name in PRESETS:
        file = resources.files("safemt_client.judges").joinpath("rubrics").joinpath(f"{name}.toml")
        return _parse(name, file.read_text(encoding="utf-8"))
    path = Path(name)
    if not path.is_file():
        raise InputError(
            f"--rubric {name}: there is no such file or preset; the presets are {', '.join(PRESETS)}"
        )
    try:
        return _parse(name, path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{name}: cannot be read: {error}") from None


def _parse(where: str, text: str) -> Rubric:
    try:
        data = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where}: not TOML: {error}") from None
    criteria, scenarios = data.get("criteria"), data.get("scenarios", {})
    if not isinstance(criteria, dict) or not isinstance(criteria.get("general"), str):
        raise InputError(f"{where}: [criteria] needs a string named general")
    if not all(isinstance(value, str) for value in criteria.values()):
        raise InputError(f"{where}: every entry of [criteria] must be a string")
    if not isinstance(scenarios, dict) or not all(
        isinstance(value, str) and value in criteria for value in scenarios.values()
    ):
        raise InputError(f"{where}: every entry of [scenarios] must name an entry of [criteria]")
    sees, grades, categories = (
        data.get("sees", "dialogue"),
        data.get("grades", False),
        data.get("categories", []),
    )
    if not isinstance(sees, str) or sees not in SEES:
        raise InputError(f"{where}: sees = {sees!r}: write one of {', '.join(SEES)}")
    if not isinstance(grades, bool):
        raise InputError(f"{where}: grades = {grades!r}: write true or false")
    if not isinstance(categories, list) or not all(isinstance(name, str) for name in categories):
        raise InputError(f"{where}: categories must be a list of names")
    unknown = sorted(
        data.keys() - {"name", "version", "criteria", "scenarios", "sees", "grades", "categories"}
    )
    if unknown:
        raise InputError(f"{where}: {unknown[0]}: unknown entry")
    return Rubric(
        str(data.get("name", where)),
        str(data.get("version", "1")),
        criteria,
        scenarios,
        sees,
        grades,
        tuple(categories),
    )
