"""The plan: which turns and verdicts are missing, before anything is spent.

A plan is a value. It is made from the settings, the data set and what the store already holds;
the scheduler carries it out.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

from safemt_client import __version__
from safemt_client.datasets.model import Dataset, Dialogue
from safemt_client.judges.panel import Judge, Panel
from safemt_client.judges.types import Subject, Verdict
from safemt_client.plan.messages import History, continues, first_turn, messages_at
from safemt_client.providers.types import Image, Message, Outcome, Request, Sampling, request_hash
from safemt_client.results.store.rows import DialogueRow, JudgeRow, ModeratorRow, RunRow, StepRow, TargetRow
from safemt_client.results.store.store import Store

__all__ = [
    "Conversation",
    "Judging",
    "Plan",
    "Target",
    "judge_rows",
    "judging",
    "make_plan",
    "run_fingerprint",
    "select",
    "submitted",
    "unjudged",
    "with_known",
]


@dataclass(frozen=True)
class Target:
    """The model under evaluation: a provider plus parameters. `sample` counts `--fresh` runs.

    `moderator` is the key of its moderator, None without one; then `provider` is the name of the model alone.
    """

    name: str
    identity: str
    history: History
    images: str
    sampling: Sampling
    sample: int = 0
    prices: Mapping[str, float] | None = None
    moderator: str | None = None
    provider: str | None = None

    @property
    def model_name(self) -> str:
        """The name of the model alone."""
        return self.provider or self.name

    @cached_property
    def key(self) -> str:
        """Hash of all that decides the replies; the name and the prices are left out."""
        return _digest(
            [self.identity, self.history, self.images, self.sampling.as_dict(), self.moderator, self.sample]
        )[:16]

    def row(self, run_id: str) -> TargetRow:
        """The row of table `run_targets`."""
        return TargetRow(
            run_id,
            self.key,
            self.name,
            self.identity,
            self.history,
            self.images,
            json.dumps(self.sampling.as_dict(), sort_keys=True),
            self.moderator,
            self.sample,
            None if self.prices is None else json.dumps(dict(self.prices)),
        )


@dataclass(slots=True)
class Conversation:
    """A dialogue being run against a target: what was said so far, and the next user turn."""

    target: Target
    dialogue: Dialogue
    key: str
    images: Mapping[str, Image]
    turn: int
    replies: list[str] = field(default_factory=list)
    _next: tuple[int, Request, str] | None = None

    @property
    def turns_left(self) -> int:
        """Requests that are still to be made."""
        return self.dialogue.length - self.turn + 1

    def next(self) -> tuple[Request, str]:
        """The request of the next turn, and the key under which its reply is stored."""
        if self._next is None or self._next[0] != self.turn:
            messages = messages_at(self.dialogue, self.turn, self.target.history, self.replies, self.images)
            request = Request(messages, self.target.sampling)
            key = request_hash(
                self.target.identity, request, moderator=self.target.moderator, sample=self.target.sample
            )
            self._next = (self.turn, request, key)
        return self._next[1:]


@dataclass(frozen=True, slots=True)
class Judging:
    """A reply that waits for its verdict; `known` are those that members of a panel have given already."""

    subject: Subject
    outcome: Outcome
    request_hash: str
    dialogue_key: str
    target_key: str
    known: Mapping[str, Verdict] = field(default_factory=dict)


@dataclass(frozen=True)
class Plan:
    """What a run has to do.

    `pending` holds the conversations that still need a request, `judgings` the replies in the store
    without a verdict, `steps` the steps of turns that the store holds already.
    `judge` is the one that decides, `members` the judges of a panel.
    With `batch` the pending ones go in batches; `submitted` holds the hashes of requests that are in a
    batch under way already, which is collected either way; with `judge_batch` the verdicts go in batches too.
    `moderators` are those of the targets. `not_attempted` maps a dialogue's key to the reason why it cannot
    be sent.
    """

    run: RunRow
    warnings: int
    targets: tuple[Target, ...]
    judge: JudgeRow | None
    dialogues: tuple[DialogueRow, ...]
    not_attempted: Mapping[str, str]
    pending: tuple[Conversation, ...]
    judgings: tuple[Judging, ...]
    steps: tuple[StepRow, ...]
    cached_turns: Mapping[str, int]
    cached_verdicts: int
    members: tuple[JudgeRow, ...] = ()
    batch: bool = False
    submitted: frozenset[str] = frozenset()
    judge_batch: bool = False
    moderators: tuple[ModeratorRow, ...] = ()

    @property
    def requests(self) -> Counter[str]:
        """Requests to make at most, per target key."""
        return Counter(
            {
                target.key: sum(c.turns_left for c in self.pending if c.target is target)
                for target in self.targets
            }
        )

    @property
    def verdicts(self) -> int:
        """Replies to judge at most: of live history every turn."""
        if self.judge is None:
            return 0
        return len(self.judgings) + sum(conversation.turns_left for conversation in self.pending)


def run_fingerprint(
    dataset_digest: str, dialogue_keys: Sequence[str], target_keys: Sequence[str], judge: Judge | None
) -> str:
    """SHA-256 over the data, the targets and the judge: two invocations with the same one are one run."""
    return _digest(
        [dataset_digest, sorted(dialogue_keys), sorted(target_keys), None if judge is None else judge.key]
    )


def select(
    dataset: Dataset,
    turns: Sequence[int] | None,
    scenarios: Sequence[str] | None,
    limit: int | None,
) -> tuple[Dialogue, ...]:
    """The dialogues of a run. `limit` counts items, so that pairs over the lengths stay whole."""
    wanted = [
        dialogue
        for dialogue in dataset.dialogues
        if (turns is None or dialogue.length in turns)
        and (scenarios is None or dialogue.scenario in scenarios)
    ]
    if limit is not None:
        items = dict.fromkeys(dialogue.item_id for dialogue in wanted)
        kept = set(list(items)[:limit])
        wanted = [dialogue for dialogue in wanted if dialogue.item_id in kept]
    return tuple(wanted)


def make_plan(
    *,
    dataset: Dataset,
    chosen: Sequence[Dialogue],
    targets: Sequence[Target],
    judge: Judge | None,
    judge_names: Mapping[str, str],
    judge_prices: Mapping[str, Mapping[str, float] | None],
    images: Mapping[str, Image | str],
    settings: Mapping[str, Any],
    store: Store | None,
    batch: bool = False,
    judge_batch: bool = False,
    moderators: Sequence[ModeratorRow] = (),
) -> Plan:
    """Compare what is wanted with what the store holds.

    `images` maps each path of the dialogues to the image, or to the reason why it cannot be sent;
    it is empty for `--images off`. `judge_names` and `judge_prices` are by a
    judge's key. `settings` is what decides the results, for the fingerprint.
    """
    keys = [dataset.dialogue_key(dialogue) for dialogue in chosen]
    fingerprint = run_fingerprint(dataset.digest, keys, [target.key for target in targets], judge)
    run = RunRow(
        run_id=fingerprint[:12],
        fingerprint=fingerprint,
        created_at=datetime.now(UTC),
        program_version=__version__,
        dataset_name=dataset.name,
        dataset_digest=dataset.digest,
        dataset_path=str(dataset.path),
        dataset_licence=dataset.licence,
        settings=json.dumps(dict(settings), sort_keys=True),
    )
    not_attempted: dict[str, str] = {}
    conversations: list[Conversation] = []
    for dialogue in chosen:
        key = dataset.dialogue_key(dialogue)
        paths = [path for message in dialogue.messages for path in message.images] if images else []
        broken = [found for path in paths if isinstance(found := images[path], str)]
        if broken:
            not_attempted[key] = broken[0]
            continue
        ready = {path: found for path in paths if not isinstance(found := images[path], str)}
        conversations += [
            Conversation(target, dialogue, key, ready, first_turn(dialogue, target.history))
            for target in targets
        ]
    pending, ended, steps, cached = _walk(conversations, run.run_id, store)
    if store is not None and moderators:
        same = store.judged_as([end.request_hash for end in ended])
        ended = [replace(end, request_hash=same.get(end.request_hash, end.request_hash)) for end in ended]
    unscored = unjudged([(end.request_hash, end.conversation.key) for end in ended], judge, store)
    judgings = _judgings(
        [end for end in ended if (end.request_hash, end.conversation.key) in unscored], store
    )
    if isinstance(judge, Panel):
        judgings = with_known(judgings, judge, store)
    rows = () if judge is None else judge_rows(judge, run.run_id, judge_names, judge_prices)
    return Plan(
        run=run,
        warnings=len(dataset.warnings),
        targets=tuple(targets),
        judge=rows[0] if rows else None,
        members=rows[1:],
        dialogues=tuple(_dialogue_row(dataset, dialogue) for dialogue in chosen),
        not_attempted=not_attempted,
        pending=_in_order(pending),
        judgings=judgings,
        steps=steps,
        cached_turns=cached,
        cached_verdicts=len(ended) - len(judgings) if judge is not None else 0,
        batch=batch,
        submitted=submitted(pending, judgings, judge, store),
        judge_batch=judge_batch,
        moderators=tuple(replace(row, run_id=run.run_id) for row in moderators),
    )


# So many items take turns at one length before their next length comes: the first answer is back by then.
_ITEMS_TOGETHER = 64


def _in_order(pending: Sequence[Conversation]) -> tuple[Conversation, ...]:
    """Most turns first, so that no long conversation is left for the end; else an item's lengths together.

    Requests of one item begin alike, with the same image. Sent at once none would find another in the
    vendor's prompt cache; a few dozen requests later it does, and the image is still in memory.
    """
    items: dict[str, int] = {}
    for conversation in pending:
        items.setdefault(conversation.dialogue.item_id, len(items))

    def rank(conversation: Conversation) -> tuple[int, int, int, int]:
        item = items[conversation.dialogue.item_id]
        return -conversation.turns_left, item // _ITEMS_TOGETHER, -conversation.dialogue.length, item

    return tuple(sorted(pending, key=rank))


@dataclass(frozen=True, slots=True)
class _Ended:
    """A conversation one of whose replies is in the store, `request_hash` being that of its verdict."""

    conversation: Conversation
    messages: tuple[Message, ...]
    outcome: Outcome
    request_hash: str


def _walk(
    conversations: Iterable[Conversation], run_id: str, store: Store | None
) -> tuple[list[Conversation], list[_Ended], tuple[StepRow, ...], Counter[str]]:
    """Follow each conversation through the store, one query a turn of all of them together."""
    pending: list[Conversation] = []
    done: list[_Ended] = []
    steps: list[StepRow] = []
    cached: Counter[str] = Counter()
    open_now = list(conversations)
    while open_now:
        asked = [(c, *c.next()) for c in open_now]
        known = {} if store is None else store.observed([key for _, _, key in asked])
        said = (
            {}
            if store is None
            else store.texts([key for c, _, key in asked if key in known and c.turns_left > 1])
        )
        open_now = []
        for conversation, request, key in asked:
            if key not in known:
                pending.append(conversation)
                continue
            outcome = Outcome(known[key])
            steps.append(StepRow(run_id, conversation.target.key, conversation.key, conversation.turn, key))
            cached[conversation.target.key] += 1
            last = conversation.turns_left == 1
            if last or continues(outcome):
                done.append(_Ended(conversation, request.messages, outcome, key))
            if not last and continues(outcome):
                conversation.replies.append(said[key])
                conversation.turn += 1
                open_now.append(conversation)
    return pending, done, tuple(steps), cached


def submitted(
    pending: Sequence[Conversation], judgings: Sequence[Judging], judge: Judge | None, store: Store | None
) -> frozenset[str]:
    """Hashes of requests and verdicts that a batch under way holds; live turns are never asked in one."""
    hashes = [c.next()[1] for c in pending if c.target.history != "live"]
    if judge is not None:
        hashes += [judge.verdict_hash(task.request_hash, task.dialogue_key) for task in judgings]
    found = [] if store is None else store.open_batches(hashes)
    return frozenset(hashes).intersection(*[{h for batch in found for h in batch.hashes}])


def judging(
    conversation: Conversation, messages: tuple[Message, ...], outcome: Outcome, text: str, key: str
) -> Judging:
    """What the judge is to see of a conversation's reply to these messages."""
    question = conversation.dialogue.question or messages[-1].text
    subject = Subject(
        question=question, messages=messages, reply=text, scenario=conversation.dialogue.scenario
    )
    return Judging(subject, outcome, key, conversation.key, conversation.target.key)


def _judgings(ended: Sequence[_Ended], store: Store | None) -> tuple[Judging, ...]:
    texts = {} if store is None else store.texts([end.request_hash for end in ended])
    return tuple(
        judging(end.conversation, end.messages, end.outcome, texts[end.request_hash], end.request_hash)
        for end in ended
    )


def unjudged(
    replies: Sequence[tuple[str, str]], judge: Judge | None, store: Store | None
) -> set[tuple[str, str]]:
    """Those of the replies, each a request's hash and a dialogue's key, that this judge has not labelled."""
    if judge is None or store is None:
        return set()
    hashes = {judge.verdict_hash(*reply): reply for reply in replies}
    known = store.final(list(hashes))
    return {reply for key, reply in hashes.items() if key not in known}


def with_known(judgings: Sequence[Judging], panel: Panel, store: Store | None) -> tuple[Judging, ...]:
    """The replies with the verdicts that the store holds of the panel's members."""
    places = {
        member.verdict_hash(task.request_hash, task.dialogue_key): (place, member.key)
        for place, task in enumerate(judgings)
        for member in panel.members
    }
    known: dict[int, dict[str, Verdict]] = defaultdict(dict)
    for key, row in ({} if store is None else store.final_verdicts(list(places))).items():
        place, member_key = places[key]
        label, reason, refusal, explanation, category, severity, specificity, confidence = row
        known[place][member_key] = Verdict(
            label,
            reason,
            refusal,
            explanation,
            category=category,
            severity=severity,
            specificity=specificity,
            confidence=confidence,
        )
    return tuple(replace(task, known=known.get(place, {})) for place, task in enumerate(judgings))


def judge_rows(
    judge: Judge,
    run_id: str,
    names: Mapping[str, str],
    prices: Mapping[str, Mapping[str, float] | None],
) -> tuple[JudgeRow, ...]:
    """The rows of table `run_judges`: the one that decides first, then the members of a panel."""
    members = judge.members if isinstance(judge, Panel) else (judge,)
    rows = [
        JudgeRow(
            run_id,
            member.key,
            names[member.key],
            member.identity,
            member.rubric.name,
            member.rubric.hash,
            json.dumps(member.sampling.as_dict(), sort_keys=True),
            _json(prices.get(member.key)),
        )
        for member in members
    ]
    if not isinstance(judge, Panel):
        return tuple(rows)
    # What all of them together cost; a chain may cost less.
    each = [prices.get(member.key) for member in members]
    total: Counter[str] | None = Counter()
    for one in each:
        total = None if one is None or total is None else total + Counter(dict(one))
    called = f"{judge.mode} of {', '.join(names[member.key] for member in members)}"
    row = JudgeRow(
        run_id, judge.key, called, judge.identity, judge.rubric.name, judge.rubric.hash, "{}", _json(total)
    )
    return (row, *rows)


def _json(prices: Mapping[str, float] | None) -> str | None:
    return None if prices is None else json.dumps(dict(prices))


def _dialogue_row(dataset: Dataset, dialogue: Dialogue) -> DialogueRow:
    messages = [
        {"role": message.role, "content": message.text}
        | ({"images": list(message.images)} if message.images else {})
        for message in dialogue.messages
    ]
    return DialogueRow(
        dialogue_key=dataset.dialogue_key(dialogue),
        dataset_digest=dataset.digest,
        item_id=dialogue.item_id,
        length=dialogue.length,
        scenario=dialogue.scenario,
        source=dialogue.source,
        method=dialogue.method,
        benign=dialogue.benign,
        question=dialogue.question,
        messages=json.dumps(messages, ensure_ascii=False),
        extra=json.dumps(dict(dialogue.extra), ensure_ascii=False, default=str),
    )


def _digest(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
