"""Replies that wait for a verdict."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from safemt_client.judges.panel import Judge, Panel
from safemt_client.judges.types import JudgeInput, Verdict
from safemt_client.planning.conversation import Conversation
from safemt_client.providers.types import Message, Outcome, reply_hash
from safemt_client.results.store.lookups import JudgedText
from safemt_client.results.store.store import Store

__all__ = ["JudgingTask", "judging", "submitted", "unjudged", "with_known"]


@dataclass(frozen=True, slots=True)
class JudgingTask:
    """A reply that waits for its verdict; `known` are those that members of a panel have given already."""

    subject: JudgeInput
    outcome: Outcome
    request_hash: str
    dialogue_key: str
    target_key: str
    known: Mapping[str, Verdict] = field(default_factory=dict)

    @property
    def reply_hash(self) -> str:
        """The hash of the text that is judged."""
        return reply_hash(self.subject.reply)

    def verdict_of(self, judge: Judge) -> JudgedText:
        """What finds a judge's verdict of this text in the store."""
        return judge.verdict_hash(self.request_hash, self.dialogue_key), self.reply_hash


@dataclass(frozen=True, slots=True)
class _Ended:
    """A conversation one of whose replies is in the store; its verdict is kept under `judged_hash`."""

    conversation: Conversation
    messages: tuple[Message, ...]
    outcome: Outcome
    request_hash: str
    judged_hash: str


def submitted(
    pending: Sequence[Conversation], judgings: Sequence[JudgingTask], judge: Judge | None, store: Store | None
) -> frozenset[str]:
    """Hashes of requests and verdicts that a batch under way holds; live turns are never asked in one."""
    hashes = [c.next()[1] for c in pending if c.target.history != "live"]
    if judge is not None:
        hashes += [judge.verdict_hash(task.request_hash, task.dialogue_key) for task in judgings]
    found = [] if store is None else store.open_batches(hashes)
    return frozenset(hashes).intersection(*[{h for batch in found for h in batch.hashes}])


def judging(
    conversation: Conversation, messages: tuple[Message, ...], outcome: Outcome, text: str, key: str
) -> JudgingTask:
    """What the judge is to see of a conversation's reply to these messages."""
    question = conversation.dialogue.question or messages[-1].text
    subject = JudgeInput(
        question=question, messages=messages, reply=text, scenario=conversation.dialogue.scenario
    )
    return JudgingTask(subject, outcome, key, conversation.key, conversation.target.key)


def _judgings(ended: Sequence[_Ended], store: Store | None) -> tuple[JudgingTask, ...]:
    texts = {} if store is None else store.texts([end.request_hash for end in ended])
    return tuple(
        judging(end.conversation, end.messages, end.outcome, texts[end.request_hash], end.judged_hash)
        for end in ended
    )


def unjudged(
    replies: Sequence[tuple[str, str, str]], judge: Judge | None, store: Store | None
) -> set[tuple[str, str, str]]:
    """Those of the replies that this judge has not labelled.

    Each is the hash of its verdict's request, its dialogue's key and the hash of its text.
    """
    if judge is None or store is None:
        return set()
    wanted = {
        (judge.verdict_hash(key, dialogue), said): (key, dialogue, said) for key, dialogue, said in replies
    }
    known = store.final(list(wanted))
    return {reply for key, reply in wanted.items() if key not in known}


def with_known(judgings: Sequence[JudgingTask], panel: Panel, store: Store | None) -> tuple[JudgingTask, ...]:
    """The replies with the verdicts that the store holds of the panel's members."""
    places = {
        task.verdict_of(member): (place, member.key)
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
