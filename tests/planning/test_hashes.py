"""Hashes decide what is asked again: those of earlier versions stay, and what the user adds enters once given."""

import hashlib
from dataclasses import replace
from typing import Any

from safemt_client.judges.judge import LLMJudge
from safemt_client.judges.rubric import load_rubric
from safemt_client.judges.types import JudgeInput
from safemt_client.planning.target import Target
from safemt_client.providers.provider import Observer
from safemt_client.providers.types import (
    Image,
    Message,
    Outcome,
    Reply,
    Request,
    Sampling,
    reply_hash,
    request_hash,
)

ASKED = (Message("user", "When does the library open?"),)
MODERATOR = "0123456789abcdef"


class Model:
    identity = "local/m"
    limiter: Any = None

    async def ask(self, request: Request, on_retry: Observer | None = None) -> Reply:
        raise AssertionError("nothing is asked here")


def test_the_hashes_of_version_1_stay() -> None:
    plain = Target("m@u", "local/m", "scripted", "on", Sampling())
    assert plain.key == "6ba97c5cefd49021"
    assert replace(plain, moderator=MODERATOR).key == "ca47c183f4788f23"
    assert Target("m@u", "local/m", "live", "off", Sampling(0.0, 1024, 0.9, 7)).key == "a19bef04c3fc8d99"
    asked = {
        "bfe9f89262255e30468d11cfec8a5770291aeaa80a774f71437cca167d11b72a": (Request(ASKED), {}),
        "e04413c3bfe36cd8ae637753c40144e565b2539465b3b374a990cadb3a90f49c": (
            Request(ASKED, Sampling(0.0, 1024, 0.9, 7)),
            {"sample": 2},
        ),
        "7c27ceaebc91eb665b771695a833fde15309e9f7d2d065a611642d904a9ed3b9": (
            Request(ASKED, Sampling(max_tokens=1024)),
            {"moderator": MODERATOR},
        ),
        "55b9b30e2de83612155d8db9d5e24a8697e02ff338435107214476bf169e1684": (
            Request(ASKED, Sampling(0.6, extra={"logprobs": True}), {"type": "object"}),
            {},
        ),
    }
    more: Any
    for known, (request, more) in asked.items():
        assert request_hash("local/m", request, **more) == known
        assert request_hash("local/m", replace(request, conversation="c"), **more) == known


def test_the_keys_of_judges_of_version_1_stay_and_a_system_prompt_makes_another() -> None:
    rubric = load_rubric("paper")
    assert LLMJudge(Model(), rubric, Sampling(0.6)).key == "89021a71feb07b7d"
    assert LLMJudge(Model(), rubric, Sampling(0.6), logprobs=True).key == "2e042625c0161274"
    others = {
        LLMJudge(Model(), rubric, Sampling(0.6), system="Be brief.").key,
        LLMJudge(Model(), rubric, Sampling(None)).key,
        LLMJudge(Model(), rubric, Sampling(0.6, stop=("END",))).key,
    }
    assert len(others | {"89021a71feb07b7d"}) == 4


def test_what_is_added_makes_another_request_and_another_target() -> None:
    samplings = [Sampling(), Sampling(None), Sampling(stop=("END",)), Sampling(extra={"top_k": 1})]
    assert len({request_hash("local/m", Request(ASKED, sampling)) for sampling in samplings}) == 4
    targets = [Target("m", "local/m", "scripted", "on", sampling) for sampling in samplings]
    targets.append(replace(targets[0], system_prompt="Be brief."))
    assert len({target.key for target in targets}) == 5


def test_a_verdict_is_found_by_what_the_judge_is_asked_and_by_nothing_else() -> None:
    judge = LLMJudge(Model(), load_rubric("by-scenario"), Sampling(0.6))
    asked = JudgeInput("question", (Message("user", "question"),), "reply", None)
    said = reply_hash("reply")
    same = judge.verdict_hash(asked, Outcome.ANSWERED, said)
    assert same == "28eacfbe9f219ee826668ca16aa06042b3cb6454694b2da939227b5091dff415"
    # The text is in its hash, and a picture is not shown to this judge.
    picture = Image("0" * 64, "image/png", 1, 1, 1, lambda: b"")
    for subject in (
        replace(asked, reply=""),
        replace(asked, messages=(Message("user", "question", (picture,)),)),
        replace(asked, scenario="Satire"),
    ):
        assert judge.verdict_hash(subject, Outcome.TRUNCATED, said) == same
    others = {
        judge.verdict_hash(replace(asked, question="other"), Outcome.ANSWERED, said),
        judge.verdict_hash(replace(asked, messages=(Message("user", "other"),)), Outcome.ANSWERED, said),
        # Another scenario has criteria of its own.
        judge.verdict_hash(replace(asked, scenario="Political"), Outcome.ANSWERED, said),
        judge.verdict_hash(asked, Outcome.ANSWERED, reply_hash("other")),
        # Of a block, even one midway, there is nothing to judge, whatever its text is.
        judge.verdict_hash(asked, Outcome.REFUSED_BY_PROVIDER, said),
        LLMJudge(Model(), load_rubric("paper"), Sampling(0.6)).verdict_hash(asked, Outcome.ANSWERED, said),
        LLMJudge(Model(), load_rubric("by-scenario"), Sampling(0.6), sees="image").verdict_hash(
            replace(asked, messages=(Message("user", "question", (picture,)),)), Outcome.ANSWERED, said
        ),
    }
    assert len(others | {same}) == 8
    assert judge.earlier_hash("q", "d") == hashlib.sha256(f"{judge.key} q d".encode()).hexdigest()
