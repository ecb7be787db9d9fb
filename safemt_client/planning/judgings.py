"""Replies that wait for a verdict."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from safemt_client.judges.panel import Judge, Panel
from safemt_client.judges.types import JudgeInput, Verdict
from safemt_client.planning.conversation import Conversation
from safemt_client.planning.resolved import Known, StoredReply
from safemt_client.providers.types import Message, Outcome, reply_hash
from safemt_client.results.store.lookups import JudgedText

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

    def verdict_of(self, judge: Judge) -> JudgedText:
        """What finds a judge's verdict of this text in the store."""
        return judge.verdict_hash(self.request_hash, self.dialogue_key), self.reply_hash


def submitted(
    pending: Sequence[Conversation], judgings: Sequence[JudgingTask], judge: Judge | None, known: Known
) -> frozenset[str]:
    """Hashes of requests and verdicts of batches under way; live turns are never asked in one."""
    hashes = [c.next()[1] for c in pending if c.target.history != "live"]
    if judge is not None:
        hashes += [judge.verdict_hash(task.request_hash, task.dialogue_key) for task in judgings]
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
    question = reply.question or reply.messages[-1].text
    said = tuple(message for message in reply.messages if message.role in ("user", "assistant"))
    subject = JudgeInput(question=question, messages=said, reply=text, scenario=reply.scenario)
    return JudgingTask(subject, reply.outcome, reply.judged_hash, reply.dialogue_key, reply.target_key)


def unjudged(replies: Sequence[StoredReply], judge: Judge | None, known: Known) -> tuple[JudgingTask, ...]:
    """The replies that this judge has not labelled, with the verdicts that a panel's members have given."""
    if judge is None:
        return ()
    said = known.reply_hashes([reply.request_hash for reply in replies])

    def verdict_of(reply: StoredReply) -> JudgedText:
        return judge.verdict_hash(reply.judged_hash, reply.dialogue_key), said[reply.request_hash]

    wanted = [verdict_of(reply) for reply in replies]
    final = known.final(list(dict.fromkeys(wanted)))
    waiting = [reply for reply, verdict in zip(replies, wanted, strict=True) if verdict not in final]
    texts = known.texts([reply.request_hash for reply in waiting])
    tasks = tuple(task_of(reply, texts[reply.request_hash]) for reply in waiting)
    return with_known(tasks, judge, known) if isinstance(judge, Panel) else tasks


def with_known(tasks: Sequence[JudgingTask], panel: Panel, known: Known) -> tuple[JudgingTask, ...]:
    """The replies with the verdicts of the panel's members that are known."""
    places = {
        task.verdict_of(member): (place, member.key)
        for place, task in enumerate(tasks)
        for member in panel.members
    }
    given: dict[int, dict[str, Verdict]] = defaultdict(dict)
    for key, row in known.final_verdicts(list(places)).items():
        place, member_key = places[key]
        label, reason, refusal, explanation, category, severity, specificity, confidence = row
        given[place][member_key] = Verdict(
            label,
            reason,
            refusal,
            explanation,
            category=category,
            severity=severity,
            specificity=specificity,
            confidence=confidence,
        )
    return tuple(replace(task, known=given.get(place, {})) for place, task in enumerate(tasks))
