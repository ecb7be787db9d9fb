"""What was odd about the replies of a run, said in words: once while it goes on, and as a sum at its end."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from safemt_client.planning.plan import Plan
from safemt_client.providers.responses.oddities import (
    CUT_WHILE_THINKING,
    ESTIMATED_USAGE,
    NO_CHOICES,
    REASONING_ONLY,
    UNKNOWN_FINISH,
    UNREAD_TAG,
)
from safemt_client.results.store.rows import Row, TurnRow
from safemt_client.telemetry.events import RunResult
from safemt_client.telemetry.names import shown_names

if TYPE_CHECKING:
    from safemt_client.results.store.store import Store

__all__ = ["Oddities", "odd_lines"]

_ENOUGH = 50
"""Replies of a target before a share of them is spoken of while the run goes on."""


@dataclass(frozen=True, slots=True)
class _Kind:
    """What is said of an oddity once more than a share of a target's replies has it.

    `early` ones are also said while the run goes on: they may be a reason to end it.
    """

    word: str
    text: str
    share: float = 0.0
    early: bool = False


_KINDS = (
    _Kind(
        NO_CHOICES,
        "{n} came without any choice, although tokens were counted: a filter may withhold them",
        0.02,
        early=True,
    ),
    _Kind(
        REASONING_ONLY,
        "{n} are reasoning without an answer: the server's reasoning parser may swallow answers",
        0.1,
        early=True,
    ),
    _Kind(
        UNREAD_TAG,
        "{n} hold a closing tag of reasoning and were left whole, since they may merely talk about it; "
        "if the model thinks in its answers, add --reasoning on",
    ),
    _Kind(ESTIMATED_USAGE, "the tokens of {n} are partly an estimate, and so is their cost"),
    # What to do about it is in the last line of all.
    _Kind(CUT_WHILE_THINKING, "{n} were cut off while thinking"),
)


class Oddities:
    """A `Watcher` that says what is odd as soon as it is clear, each thing once."""

    def __init__(self, plan: Plan, store: Store, say: Callable[[str], object]) -> None:
        """What the store has of a target was said when it was asked."""
        self._say = say
        shown = shown_names(plan)
        self._names = {target.key: shown[target.key] for target in plan.targets}
        self._replies: Counter[str] = Counter()
        self._found: defaultdict[str, Counter[str]] = defaultdict(Counter)
        found = store.query("SELECT DISTINCT target_key, oddities FROM turns WHERE oddities IS NOT NULL").rows
        self._said = {(key, word) for key, words in found for word in words.split() if _is_unknown(word)}

    def saved(self, rows: Sequence[Row]) -> None:
        """Rows are in the store: replies are counted."""
        for row in rows:
            if isinstance(row, TurnRow) and row.intervention is None and row.target_key in self._names:
                self._replies[row.target_key] += not row.outcome.startswith("error_")
                if row.oddities:
                    self._count(row.target_key, row.oddities.split())

    def _count(self, key: str, words: Sequence[str]) -> None:
        self._found[key].update(words)
        for word in words:
            if _is_unknown(word):
                reason = word.partition(":")[2]
                self._once(
                    key,
                    word,
                    f"the finish reason {reason} is not known: a reply with text counts as answered, "
                    "one without is asked again",
                )
        if self._replies[key] >= _ENOUGH:
            for kind, text in _due(self._found[key], self._replies[key]):
                if kind.early:
                    self._once(key, kind.word, text)

    def _once(self, key: str, word: str, text: str) -> None:
        if (key, word) not in self._said:
            self._said.add((key, word))
            self._say(f"{self._names[key]}: {text}")

    def ended(self, closing: RunResult, error: BaseException | None = None) -> None:
        """The session is over: the sum is shown with its results."""

    def close(self) -> None:
        """Nothing more will come."""


def odd_lines(plan: Plan, store: Store) -> list[str]:
    """What was odd about the replies that the store has of a run, a line for each target and kind."""
    rows = store.query(
        """WITH asked AS (
               -- Under a moderator: what the model itself was asked.
               SELECT DISTINCT s.target_key, coalesce(m.model_request_hash, s.request_hash) AS request_hash
               FROM steps s
               LEFT JOIN turns m ON m.request_hash = s.request_hash AND m.model_request_hash IS NOT NULL
               WHERE s.run_id = $1
           )
           SELECT asked.target_key, coalesce(t.oddities, ''), count(DISTINCT request_hash)
           FROM asked JOIN turns t USING (request_hash)
           WHERE t.outcome NOT LIKE 'error_%' AND t.intervention IS NULL GROUP BY ALL""",
        [plan.run.run_id],
    ).rows
    replies: Counter[str] = Counter()
    found: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for key, words, count in rows:
        replies[key] += count
        for word in words.split():
            found[key][word] += count
    names = shown_names(plan)
    return [
        f"{names[target.key]}: {text}"
        for target in plan.targets
        for _, text in _due(found[target.key], replies[target.key])
    ]


def _is_unknown(word: str) -> bool:
    return word.startswith(UNKNOWN_FINISH)


def _due(found: Counter[str], replies: int) -> Iterator[tuple[_Kind, str]]:
    """The kinds that are to be spoken of, with what is said of each."""
    for kind in _KINDS:
        number = found[kind.word]
        if number and number > kind.share * replies:
            yield kind, kind.text.format(n=f"{number} of {replies} replies")
