"""What a soak finds."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field


class BrokenError(Exception):
    """The soak itself could not go on."""


@dataclass
class Report:
    """What was found: counts that must stay 0, with an example each, and what is only told."""

    counts: Counter[str] = field(default_factory=Counter)
    examples: dict[str, str] = field(default_factory=dict)
    told: Counter[str] = field(default_factory=Counter)
    kinds: set[str] = field(default_factory=set)
    lines: list[tuple[bool, str]] = field(default_factory=list)

    def broken(self, what: str, number: int, example: str) -> None:
        self.counts[what] += number
        if number:
            self.examples.setdefault(what, example)

    def check(self, name: str, good: bool, detail: str) -> None:
        self.lines.append((good, f"{name}: {detail}"))
        print(f"{'ok    ' if good else 'FAILED'} {name}: {detail}", flush=True)

    def check_none(self, name: str, what: str, more: str = "") -> None:
        number = self.counts[what]
        said = f", for example {self.examples[what]}" if number else ""
        self.check(name, number == 0, f"{number}{more}{said}")

    @property
    def good(self) -> bool:
        return all(good for good, _ in self.lines)
