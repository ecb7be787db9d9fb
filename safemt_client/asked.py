"""What is asked of the API: settings made from keywords, and the objects that they name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from safemt_client.judges.plugin import PluginJudge
from safemt_client.loading import load_settings
from safemt_client.providers.errors import InputError
from safemt_client.providers.plugins import adopt
from safemt_client.settings import TABLES, RunSettings
from safemt_client.settings import options as options_of

__all__ = ["Again", "Asked", "asked_of", "judging", "no_dry_run", "rejudging"]


@dataclass(frozen=True)
class Asked:
    """Settings, and the provider objects that they name."""

    settings: RunSettings
    given: Mapping[str, object] = field(default_factory=dict)


class Again(NamedTuple):
    """What of a judging again asks about a part, or more than once; at most one of these."""

    anchor: int | None
    judge_samples: int | None
    adaptive: int | None

    def check(self) -> None:
        """Make sure that one thing is asked for, of some size.

        Raises:
            InputError: it is not.
        """
        samples = self.judge_samples
        if samples is not None and (samples < 2 or self.anchor is not None):
            other = self.anchor is not None
            wrong = "leave --anchor out" if other else "at least 2: the run's labels are the first"
            raise InputError(f"--judge-samples {samples}: {wrong}")
        for name, replies in (("--anchor", self.anchor), ("--adaptive", self.adaptive)):
            if replies is not None and replies < 1:
                raise InputError(
                    f"{name} {replies}: judges so many replies again: at least 1, such as {name} 50"
                )
        if self.adaptive is not None and (self.anchor is not None or samples is not None):
            raise InputError(
                "--adaptive: asks another judge, --anchor and --judge-samples the run's own: "
                "leave one of them out"
            )


def asked_of(settings: RunSettings | None, options: Mapping[str, object]) -> Asked:
    """The settings, or those that the keywords make; provider objects are named by their identity.

    Raises:
        InputError: a keyword or its value is wrong.
    """
    if settings is not None:
        if options:
            raise InputError(f"{next(iter(options))}: give either settings or keywords")
        return Asked(settings)
    given: dict[str, object] = {}
    named: dict[str, Any] = dict(options)
    for name in named:
        if name not in RunSettings.model_fields:
            raise InputError(f"{name}: there is no such keyword: docs/options.md lists them")
    for name in ("provider", "judge"):
        value = named.get(name)
        if value is not None:
            several = list(value) if isinstance(value, list | tuple) else [value]
            named[name] = [
                one if isinstance(one, str) else _named(one, given, judge=name == "judge") for one in several
            ]
    if given and named.get("batch"):
        raise InputError("batch: a provider object has no batch API: leave batch=True out")
    return Asked(load_settings(named, None), given)


def _named(model: object, given: dict[str, object], *, judge: bool) -> str:
    """The name of a model or a judge, under which `given` then holds it."""
    labels = judge and hasattr(model, "judge")
    name = PluginJudge(model).identity if labels else adopt(model).identity
    if given.setdefault(name, model) is not model:
        raise InputError(f"{type(model).__name__}: two objects have the identity {name!r}: give each its own")
    return name


def no_dry_run(settings: RunSettings) -> None:
    """Make sure that a run is meant.

    Raises:
        InputError: it is a plan that is asked for.
    """
    if settings.dry_run:
        raise InputError("dry_run: call plan() with the same keywords")


def rejudging(db: Path, options: Mapping[str, object], dry_run: bool) -> Asked:
    """The settings of a new judging; the targets are those of the stored run, read once it is open.

    Raises:
        InputError: a keyword does not belong to judging.
    """
    for name in options:
        if name in RunSettings.model_fields and name not in (*options_of("judge"), *TABLES):
            raise InputError(f"{name}: is part of the stored run and cannot be changed: leave it out")
    return judging({**options, "data": "stored", "db": db, "dry_run": dry_run})


def judging(options: Mapping[str, object]) -> Asked:
    """The settings of a judging of replies that are there: no target is asked."""
    return asked_of(None, {**options, "provider": ["stored"]})
