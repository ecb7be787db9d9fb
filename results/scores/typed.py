"""The scores of a run as typed rows, read from the store's views."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, NamedTuple, TypeVar

from safemt_client.results.scores.checks import CorrectedRate, corrected_rates
from safemt_client.results.scores.collect import as_dict, checks_known, corrections_known, deciding_judge
from safemt_client.results.scores.indices import indices, rounds_of
from safemt_client.results.scores.samples import hit_rates
from safemt_client.results.scores.stopped import stop_rules, with_sequences
from safemt_client.results.scores.turn_labels import flat_labelled_turns, labelled_turns
from safemt_client.results.scores.twins import flat_twins, twins
from safemt_client.results.scores.unfinished import only_known, unfinished
from safemt_client.results.scores.views import view_rows
from safemt_client.results.stats.safety_index import ROUNDS
from safemt_client.results.store.queries import Queryable
from safemt_client.results.table import Table

__all__ = [
    "AsrByMethod",
    "AsrByScenario",
    "AsrByTurn",
    "CorrectedRate",
    "HitAtK",
    "LabelledTurns",
    "OutcomeCount",
    "RefusalRate",
    "SafetyIndexRow",
    "Scores",
    "Spend",
    "StopRule",
    "TwinsRow",
    "UnfinishedTarget",
]


class AsrByTurn(NamedTuple):
    """A row of the view `asr_by_turn`: how often a target was unsafe in dialogues of one length.

    `low` and `high` are the 95 % CI of `asr`, None of a target that is not finished; `small` marks a small
    sample. Of a target that was `stopped` as its rules were decided, they are those of a confidence sequence.
    """

    target: str
    judge: str | None
    length: int
    unsafe: int
    safe: int
    scored: int
    by_guard: int
    attempted: int
    planned: int
    asr: float | None
    low: float | None
    high: float | None
    small: bool
    coverage: float | None
    asr_best: float | None
    asr_worst: float | None
    target_key: str
    judge_key: str | None
    imported_from: str | None
    stopped: bool


class AsrByScenario(NamedTuple):
    """A row of the view `asr_by_scenario`; the interval is that of `AsrByTurn`."""

    target: str
    judge: str | None
    scenario: str | None
    length: int
    unsafe: int
    safe: int
    scored: int
    attempted: int
    planned: int
    asr: float | None
    low: float | None
    high: float | None
    small: bool
    coverage: float | None
    target_key: str
    judge_key: str | None
    imported_from: str | None


class AsrByMethod(NamedTuple):
    """A row of the view `asr_by_method`; the interval is that of `AsrByTurn`."""

    target: str
    judge: str | None
    method: str | None
    length: int
    unsafe: int
    safe: int
    scored: int
    attempted: int
    planned: int
    asr: float | None
    low: float | None
    high: float | None
    small: bool
    coverage: float | None
    target_key: str
    judge_key: str | None
    imported_from: str | None


class HitAtK(NamedTuple):
    """A row of the view `hit_at_k`, of runs with several samples; with the 95 % interval, items resampled."""

    target: str
    judge: str | None
    length: int
    k: int
    items: int
    planned_items: int
    hit: float | None
    low: float | None
    high: float | None
    small: bool
    hit_best: float | None
    hit_worst: float | None
    target_key: str
    judge_key: str | None
    imported_from: str | None


class OutcomeCount(NamedTuple):
    """A row of the view `outcomes`: how many conversations of one length had this outcome."""

    target: str
    length: int
    outcome: str
    conversations: int
    target_key: str
    imported_from: str | None


class RefusalRate(NamedTuple):
    """A row of the view `refusals`: how often a target declined, by rules and by the judge."""

    target: str
    judge: str | None
    length: int
    benign: bool
    replies: int
    declined_by_rule: int
    judged: int
    declined_by_judge: int
    blocked: int
    rate_by_rule: float | None
    rate_by_judge: float | None
    rate_with_blocks: float | None
    rate_by_judge_with_blocks: float | None
    target_key: str
    judge_key: str | None
    imported_from: str | None


class Spend(NamedTuple):
    """A row of the view `spend`: what a session paid to a target, a guard or a judge, in US dollars."""

    who: str
    session_id: str
    calls: int
    prompt_tokens: int | None
    completion_tokens: int | None
    cached_tokens: int | None
    cost_usd: float | None
    calls_of_unknown_cost: int
    calls_in_batches: int


class SafetyIndexRow(NamedTuple):
    """The Safety Index of a target under a judge, or in `refused` why there is none.

    `low` and `high` are the 95 % interval when items are resampled; `best` and `worst` are the greatest and
    the least index that the replies without a label leave open; `small` marks a small sample.
    """

    target: str
    judge: str
    safety_index: float | None
    exposure: float | None
    consistency: float | None
    low: float | None
    high: float | None
    best: float | None
    worst: float | None
    small: bool
    refused: str | None
    target_key: str
    judge_key: str


class TwinsRow(NamedTuple):
    """What a target does with harmful items and their benign twins: see `scores.twins`, here in counts.

    `length` is None for all lengths together. Of the `compared` pairs, the harmful twins of so many are
    declined, and so on; `difference` is the share of harmful twins declined minus that of benign ones, with
    its 95 % CI. `scored` harmful twins are labelled, `unsafe` of them unsafe.
    """

    target: str
    judge: str | None
    length: int | None
    pairs: int
    compared: int
    scored: int
    unsafe: int
    harmful_declined: int
    benign_declined: int
    harmful_blocked: int
    benign_blocked: int
    told_apart: int
    both_declined: int
    both_answered: int
    reversed: int
    both_right: int
    difference: float
    low: float
    high: float
    p: float
    p_holm: float
    small: bool
    target_key: str
    judge_key: str | None


class LabelledTurns(NamedTuple):
    """What the moderator of a target finds in turns that the data label: see `scores.turn_labels`.

    `turn` is None for all turns together. `harmful` and `harmless` turns have a verdict of the guard;
    `undecided` ones have none, `not_assessed` ones were not shown to it, and the labels of `other_labels` say
    neither. Intervals are 95 % CIs.
    """

    target: str
    moderator: str
    turn: int | None
    harmful: int
    detected: int
    sensitivity: float | None
    sensitivity_low: float | None
    sensitivity_high: float | None
    harmless: int
    passed: int
    specificity: float | None
    specificity_low: float | None
    specificity_high: float | None
    undecided: int
    not_assessed: int
    other_labels: int
    target_key: str
    moderator_key: str


class StopRule(NamedTuple):
    """A rule of `--stop-when` for a target, with its confidence sequence: see `scores.stopped.Followed`."""

    rule: str
    target: str
    state: str
    decided_at: int | None
    estimate: float | None
    low: float
    high: float
    items: int
    population: int
    alpha: float
    anew: bool
    stopped: bool
    unlabelled: int
    target_key: str


class UnfinishedTarget(NamedTuple):
    """A target some of whose `planned` conversations are pending, or wait for the judge that decides.

    Also one that was `stopped` as its rules were decided, so that some were `not_needed`.
    """

    target: str
    planned: int
    pending: int
    unjudged: int
    target_key: str
    not_needed: int
    stopped: bool


R = TypeVar("R", bound=tuple[Any, ...])


class Scores:
    """The scores of one run. Each table is read when it is first asked for, and kept."""

    def __init__(self, reader: Queryable, run_id: str, si_rounds: str | Sequence[int] = ROUNDS) -> None:
        self._reader = reader
        self._si_rounds = rounds_of(si_rounds)
        self.run_id = run_id

    @cached_property
    def asr_by_turn(self) -> Table[AsrByTurn]:
        """Attack success rates by target, judge and length."""
        rows = self._known("asr_by_turn", view_rows(self._reader, self.run_id, "asr_by_turn"))
        return _table(AsrByTurn, with_sequences(self._reader, self.run_id, rows))

    @cached_property
    def by_scenario(self) -> Table[AsrByScenario]:
        """Attack success rates by scenario and length."""
        return self._of(AsrByScenario, "asr_by_scenario")

    @cached_property
    def by_method(self) -> Table[AsrByMethod]:
        """Attack success rates by attack method and length."""
        return self._of(AsrByMethod, "asr_by_method")

    @cached_property
    def hit_at_k(self) -> Table[HitAtK]:
        """The chance of an unsafe reply among k; empty of a run with one sample."""
        return _table(HitAtK, self._known("hit_at_k", hit_rates(self._reader, self.run_id)))

    @cached_property
    def outcomes(self) -> Table[OutcomeCount]:
        """How the conversations ended."""
        return self._of(OutcomeCount, "outcomes")

    @cached_property
    def refusals(self) -> Table[RefusalRate]:
        """How often the targets declined."""
        return self._of(RefusalRate, "refusals")

    @cached_property
    def twins(self) -> Table[TwinsRow]:
        """Harmful items and their benign twins; empty where the data have no pairs."""
        return _table(TwinsRow, flat_twins(self._known("twins", twins(self._reader, self.run_id))))

    @cached_property
    def labelled_turns(self) -> Table[LabelledTurns]:
        """Moderators beside the labels of single turns; empty without either."""
        found = self._known("labelled_turns", labelled_turns(self._reader, self.run_id))
        return _table(LabelledTurns, flat_labelled_turns(found))

    @cached_property
    def corrected(self) -> Table[CorrectedRate]:
        """Rates corrected by labels of people or of a stronger judge; empty without any."""
        found = corrections_known(self._reader, self.run_id) + checks_known(self._reader, self.run_id)
        known = self._known("corrections", found)
        return _table(CorrectedRate, corrected_rates(known))

    @cached_property
    def spend(self) -> Table[Spend]:
        """Calls, tokens and money by who was asked."""
        return self._of(Spend, "spend")

    @cached_property
    def safety_index(self) -> Table[SafetyIndexRow]:
        """The Safety Index of each target under each judge. Its interval takes a moment to compute."""
        return _table(SafetyIndexRow, indices(self._reader, self.run_id, self._si_rounds))

    @cached_property
    def unfinished(self) -> Table[UnfinishedTarget]:
        """The targets of which something is to come, or that were stopped: no index is given of them."""
        return _table(UnfinishedTarget, unfinished(self._reader, self.run_id))

    @cached_property
    def stop_rules(self) -> Table[StopRule]:
        """The rules that the run stops by, as they stand; empty of a run without."""
        return _table(StopRule, stop_rules(self._reader, self.run_id, self.deciding_judge))

    @cached_property
    def deciding_judge(self) -> str | None:
        """The key of the judge whose labels count, a panel's where there is one; None without a judge."""
        return deciding_judge(self._reader, self.run_id)

    def as_dict(self) -> dict[str, Any]:
        """All scores as JSON-able data: what `report --json` prints."""
        return as_dict(self._reader, self.run_id, self._si_rounds)

    def _of(self, kind: type[R], view: str) -> Table[R]:
        return _table(kind, self._known(view, view_rows(self._reader, self.run_id, view)))

    def _known(self, name: str, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return only_known(name, rows, {row.target for row in self.unfinished})


def _table(kind: type[R], rows: Sequence[Mapping[str, Any]]) -> Table[R]:
    columns: tuple[str, ...] = kind._fields  # type: ignore[attr-defined]
    return Table(columns, [kind(*(row[name] for name in columns)) for row in rows])
