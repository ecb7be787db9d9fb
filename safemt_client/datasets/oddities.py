"""Oddities of a data set by their kind."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from safemt_client.datasets.model import Oddity

__all__ = ["OddKind", "by_kind"]


@dataclass(frozen=True, slots=True)
class OddKind:
    """A kind of oddity, how many there are, and the first of them: where and what."""

    kind: str
    count: int
    example: str


def by_kind(oddities: Iterable[Oddity]) -> tuple[OddKind, ...]:
    """The kinds, the most frequent first."""
    counts: Counter[str] = Counter()
    first: dict[str, str] = {}
    for one in oddities:
        counts[one.kind] += 1
        first.setdefault(one.kind, f"{one.where}: {one.text}")
    return tuple(OddKind(kind, count, first[kind]) for kind, count in counts.most_common())
