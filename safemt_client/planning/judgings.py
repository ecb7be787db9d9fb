"""Replies that wait for a verdict."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from safemt_client.judges.judge import to_be_judged
from safemt_client.judges.panel import Judge, Panel
from safemt_client.judges.refusal import RefusalKind
from safemt_client.judges.types import JudgeInput, Reason, Verdict
from safemt_client.planning.conversation import Conversation
from safemt_client.planning.resolved import Known, StoredReply
from safemt_client.providers.types import Message, Outcome, reply_hash
from safemt_client.results.store.queries import VerdictKey

__all__ = ["JudgingTask", "reply_of", "submitted", "task_of", "unjudged", "with_known"]


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

    def verdict_of(self, judge: Judge) -> VerdictKey:
        """What finds a judge's verdict of this text in the store."""
        return _key_of(judge, self, self.reply_hash)


def _key_of(judge: Judge, task: JudgingTask, said: str) -> VerdictKey:
    """What finds a judge's verdict of a reply; `said` is the hash of its text."""
    return VerdictKey(
        judge.key,
        judge.verdict_hash(task.subject, task.outcome, said),
        judge.earlier_hash(task.request_hash, task.dialogue_key),
        said,
        task.request_hash,
        task.dialogue_key,
    )


def submitted(
    pending: Sequence[Conversation], judgings: Sequence[JudgingTask], judge: Judge | None, known: Known
) -> frozenset[str]:
    """Hashes of requests and verdicts of batches under way; live turns are never asked in one."""
    hashes = [c.next()[1] for c in pending if c.target.history != "live"]
    if judge is not None:
        keys = [task.verdict_of(judge) for task in judgings]
        hashes += [key.hash for key in keys] + [key.earlier for key in keys]
    return frozenset(hashes) & {h for batch in known.open_batches(hashes) for h in batch.hashes}


def reply_of(
    conversation: Conversation, messages: tuple[Message, ...], outcome: Outcome, request_hash: str
) -> StoredReply:
    """A conversation's reply to these messages; its verdict is kept under `request_hash`."""
    dialogue = conversation.dialogue
    return StoredReply(
        conversation.target.key,
        conversation.key,
        request_hash,
        request_hash,
        outcome,
        messages,
        dialogue.question,
        dialogue.scenario,
    )


def task_of(reply: StoredReply, text: str) -> JudgingTask:
    """What the judge is to see of a reply: what was said, which a system prompt or a policy is not."""
    # Of an imported reply there may be neither: then the judge sees the reply alone.
    question = reply.question or (reply.messages[-1].text if reply.messages else "")
    said = tuple(message for message in reply.messages if message.role in ("user", "assistant"))
    subject = JudgeInput(question=question, messages=said, reply=text, scenario=reply.scenario)
    return JudgingTask(subject, reply.outcome, reply.judged_hash, reply.dialogue_key, reply.target_key)


def unjudged(
    replies: Sequence[StoredReply], judge: Judge | None, known: Known
) -> tuple[tuple[JudgingTask, ...], tuple[VerdictKey, ...]]:
    """The replies that this judge has not labelled, with the verdicts that a panel's members have given.

    And the verdicts that are known of the same texts elsewhere: these replies take them over.
    """
    if judge is None:
        return (), ()
    said = known.reply_hashes([reply.request_hash for reply in replies])
    # Without their texts, which the hashes stand for: few replies wait for a verdict.
    asked = [task_of(reply, "") for reply in replies]
    wanted = [
        _key_of(judge, task, said[reply.request_hash]) for task, reply in zip(asked, replies, strict=True)
    ]
    here, elsewhere = known.final(list(dict.fromkeys(wanted)))
    waiting = [
        reply for reply, key in zip(replies, wanted, strict=True) if key not in here and key not in elsewhere
    ]
    texts = known.texts([reply.request_hash for reply in waiting])
    tasks = tuple(task_of(reply, texts[reply.request_hash]) for reply in waiting)
    taken = [key for key in dict.fromkeys(wanted) if key in elsewhere]
    if isinstance(judge, Panel):
        members = [
            _key_of(member, task, key.reply_hash)
            for task, key in zip(asked, wanted, strict=True)
            if key not in here
            for member in judge.members
        ]
        given_elsewhere = known.final(list(dict.fromkeys(members)))[1]
        taken += [key for key in dict.fromkeys(members) if key in given_elsewhere]
        tasks = with_known(tasks, judge, known)
    return tasks, tuple(taken)


def distinct(tasks: Sequence[JudgingTask], judge: Judge | None) -> tuple[JudgingTask, ...]:
    """Those that a judge is asked about: one of each text under the same criteria, if it says anything."""
    if judge is None:
        return ()
    found: dict[str, JudgingTask] = {}
    for task in tasks:
        if to_be_judged(task.subject, task.outcome):
            found.setdefault(task.verdict_of(judge).hash, task)
    return tuple(found.values())


def with_known(tasks: Sequence[JudgingTask], panel: Panel, known: Known) -> tuple[JudgingTask, ...]:
    """The replies with the verdicts of the panel's members that are known."""
    places = [
        (task.verdict_of(member), place) for place, task in enumerate(tasks) for member in panel.members
    ]
    found = known.final_verdicts([key for key, _ in places])
    given: dict[int, dict[str, Verdict]] = defaultdict(dict)
    for key, place in places:
        if key in found:
            given[place][key.judge_key] = _verdict(*found[key])
    return tuple(replace(task, known=given.get(place, {})) for place, task in enumerate(tasks))


def _verdict(
    label: Literal["safe", "unsafe", "unscored"],
    reason: Reason | None,
    refusal: RefusalKind | None,
    explanation: str | None,
    *grades: Any,
) -> Verdict:
    category, severity, specificity, confidence, kind = grades[:5]
    return Verdict(
        label,
        reason,
        refusal,
        explanation,
        category=category,
        severity=severity,
        specificity=specificity,
        confidence=confidence,
        confidence_kind=kind,
        calls=0,
    )
