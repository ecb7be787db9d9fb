"""A guard, a model and a cache under test: providers that answer by a function, and a guard of one word."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import anyio
import anyio.lowlevel

from safemt_client.moderator.assessor import Assessor
from safemt_client.moderator.moderator import (
    Moderated,
    ModeratedReply,
    Moderation,
    Moderator,
)
from safemt_client.moderator.policies import Policies
from safemt_client.moderator.types import Assessment, Card, NotAssessableError, Stage
from safemt_client.providers.errors import TargetStoppedError
from safemt_client.providers.limits.limiter import AccountLimiter
from safemt_client.providers.provider import Observer
from safemt_client.providers.types import Image, Message, Outcome, Reply, Request, Sampling, Usage

Answer = Callable[[Request], Awaitable[Reply]]
POLICIES = Policies("test", "1", {"general": "Be careful.", "Satire": "Mind the joke."})
PICTURE = Image("a" * 64, "image/png", 3, 1, 1, load=lambda: b"png")
ASKED = (
    Message("user", "What is a kite?"),
    Message("assistant", "A toy."),
    Message("user", "How does it fly?"),
)
REQUEST = Request(ASKED, Sampling(temperature=0.0))
STOP = TargetStoppedError("the key is wrong")


@dataclass
class Scripted:
    """A provider that answers by a function, or always the same; an exception is raised."""

    answer: Answer | Reply | Exception | str
    identity: str = "test/model"
    asked: list[Request] = field(default_factory=list)

    @property
    def limiter(self) -> AccountLimiter:
        return AccountLimiter(concurrency=9)

    async def ask(self, request: Request, on_retry: Observer | None = None) -> Reply:
        self.asked.append(request)
        if isinstance(self.answer, Exception):
            raise self.answer
        if isinstance(self.answer, str):
            return Reply(Outcome.ANSWERED, self.answer, usage=Usage(7, 2), latency_s=0.5)
        if isinstance(self.answer, Reply):
            return self.answer
        return await self.answer(request)


class WordGuard:
    """Sends the conversation as it is; the answer's first word is the verdict, the rest its policy.

    An `unsafe` conversation has the category `joke`, which stands for Satire.
    """

    key = "words"

    def __init__(self, *, sees_images: bool = False, stages: tuple[Stage, ...] = ("input", "output")) -> None:
        self.card = Card("words", "", "", "", "", sees_images, stages, ())

    def request(self, messages: Sequence[Message], stage: Stage) -> Request:
        if stage not in self.card.stages:
            raise NotAssessableError(f"words does not assess the stage {stage}")
        return Request((Message("system", stage), *messages))

    def parse(self, reply: Reply, stage: Stage) -> Assessment:
        word, _, policy = reply.text.partition(" ")
        if word == "safe":
            return Assessment("safe")
        if word == "controversial":
            return Assessment("controversial", policy=policy or None)
        if word == "unsafe":
            return Assessment("unsafe", categories=("joke",), scenarios=("Satire",), policy=policy or None)
        return Assessment("unparsed", raw=reply.text)


@dataclass
class Memory:
    """A cache."""

    kept: dict[str, Assessment] = field(default_factory=dict)
    saved: list[tuple[str, Stage, Assessment]] = field(default_factory=list)

    def find(self, key: str) -> Assessment | None:
        return self.kept.get(key)

    async def keep(self, key: str, stage: Stage, assessment: Assessment) -> None:
        await anyio.lowlevel.checkpoint()
        self.saved.append((key, stage, assessment))
        if assessment.verdict != "error":
            self.kept[key] = assessment


def by_stage(**answers: str | Reply) -> Answer:
    """The guard's answer by the stage that it is asked about."""

    async def answer(request: Request) -> Reply:
        said = answers[request.messages[0].text]
        return said if isinstance(said, Reply) else Reply(Outcome.ANSWERED, said, latency_s=0.25)

    return answer


FAILED = Reply(Outcome.ERROR_TRANSIENT, error="busy", status_code=503)
NONSENSE = "perhaps"


def build(
    guard: Answer | Reply | Exception | str,
    *interventions: str,
    model: Answer | Reply | Exception | str = "It is the wind.",
    cache: Memory | None = None,
    adapter: WordGuard | None = None,
    **settings: Any,
) -> tuple[Moderated, Scripted, Scripted]:
    """A moderated model, with the guard's model and the model."""
    asked = Scripted(guard, identity="test/guard")
    target = Scripted(model)
    assessor = Assessor(adapter or WordGuard(), asked, cache)
    moderation = Moderation(frozenset(interventions), POLICIES, **settings)  # type: ignore[arg-type]
    return Moderated(target, Moderator("words", assessor, moderation)), asked, target


def ask(moderated: Moderated, request: Request = REQUEST) -> ModeratedReply:
    return anyio.run(moderated.ask, request)


def actions(reply: ModeratedReply) -> list[tuple[str, str, str]]:
    return [(step.stage, step.assessment.verdict, step.action) for step in reply.steps]
