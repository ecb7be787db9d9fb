"""The criteria by which a run's judges label, as people who label the same replies should read them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePath

from safemt_client.judges.rubric import Rubric, load_rubric
from safemt_client.providers.errors import InputError
from safemt_client.results.store.reader import Queryable

__all__ = ["Criteria", "criteria_of"]


@dataclass(frozen=True, slots=True)
class Criteria:
    """Criteria by the name of their file or preset.

    `texts` are pairs of what they are for (empty where there is but one text) and what they say. There
    are none if they are not known any more: the store has only their hash.
    """

    name: str
    texts: tuple[tuple[str, str], ...]


def criteria_of(reader: Queryable, run_id: str | None = None) -> list[Criteria]:
    """The criteria of the judges of a run, or of all runs, by name."""
    rows = reader.query(
        "SELECT DISTINCT rubric, rubric_hash FROM run_judges WHERE ? IS NULL OR run_id = ? ORDER BY ALL",
        [run_id, run_id],
    ).rows
    return [Criteria(PurePath(name).name, _texts(name, mark)) for name, mark in rows if name]


def _texts(name: str, mark: str) -> tuple[tuple[str, str], ...]:
    try:
        rubric = load_rubric(name)
    except InputError:
        return ()
    # Other criteria than those that the judge had would be worse than none.
    return _told(rubric) if rubric.hash == mark else ()


def _told(rubric: Rubric) -> tuple[tuple[str, str], ...]:
    if len(rubric.criteria) == 1:
        return tuple(("", text.strip()) for text in rubric.criteria.values())
    scenarios = {
        name: ", ".join(sorted(one for one, of in rubric.scenarios.items() if of == name))
        for name in rubric.criteria
    }
    return tuple(
        (scenarios[name] or ("all others" if name == "general" else name), text.strip())
        for name, text in rubric.criteria.items()
    )
