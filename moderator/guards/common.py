"""What the adapters share: making a conversation safe to show, and reading an answer strictly."""

from __future__ import annotations

import hashlib
import json
import math
import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

from safemt_client.moderator.types import Assessment, Card, GuardVerdict, NotAssessableError, Stage
from safemt_client.providers.errors import InputError
from safemt_client.providers.probabilities import probability_kind
from safemt_client.providers.types import (
    Image,
    Message,
    Outcome,
    Reply,
    Request,
    Role,
    Sampling,
    request_hash,
)

__all__ = [
    "SCENARIOS",
    "Adapter",
    "Table",
    "fence",
    "fenced",
    "fill",
    "found",
    "neutralise",
    "one_image_list",
    "read_object",
    "read_text",
    "split_reply",
    "transcript",
    "turns_of",
    "without_thinking",
]

SCENARIOS = (
    *("Animal Abuse", "Bias", "Economic Harm", "Financial Advice", "Fraud", "Hate Speech"),
    *("Health Consultation", "Illegal Activity", "Legal Opinion", "Malware", "Physical Harm", "Political"),
    *("Privacy Violation", "Satire", "Sex", "Threat", "Violence"),
)
"""The scenarios of the benchmark, as spelled in its data."""

Table = Mapping[str, tuple[str, ...]]
"""A guard's category to the scenarios of the benchmark that it stands for. The mapping is this project's."""

_LAST: Mapping[Stage, Role] = {"input": "user", "output": "assistant"}


# Strings that a tokenizer or a guard's template may treat as more than text.
_SPECIAL = re.compile(
    r"<(?=[|｜]|</?sys>>|/?(?:s|bos|eos|pad|unk|mask|think|no-think|guardian|score|confidence|result|output"
    r"|image|img|video|audio|start_of_turn|end_of_turn|start_of_image|end_of_image|image_soft_token"
    r"|(?:begin|end)[ _][a-z _]{1,60})[ \t]{0,8}>)"
    r"|\[(?=/?(?:inst|img|system_prompt|available_tools|tool_calls|tool_results)\])",
    re.IGNORECASE,
)
# Lines that look like the next turn, or the end, in a guard's template. Blanks are looked at within a line
# only, so that the time stays linear in the text.
_BREAKS = r"\n\r\v\f\x1c-\x1e\x85\u2028\u2029"
_MARKER = re.compile(
    rf"(?<![^{_BREAKS}])(?=[^\S{_BREAKS}]*"
    r"(?:(?:(?:human )?user|human(?: question)?|agent|(?:ai )?assistant|chatbot(?: response)?"
    rf"|system|answers)[^\S{_BREAKS}]*:|-{{3,}}[^\S{_BREAKS}]*(?:[{_BREAKS}]|\Z)))",
    re.IGNORECASE,
)
_THINKING = re.compile(r"\A\s*<think>.*?</think>\s*", re.DOTALL)
_CODE_BLOCK = re.compile(r"\A\s*```(?:json)?[ \t]*\n(.*)\n\s*```\s*\Z", re.DOTALL)
_ONE_WORD = re.compile(r"\W*\w+\W*")
_PLACEHOLDER = re.compile(r"\{([a-z_]+)\}")


def neutralise(text: str) -> str:
    """The text with everything that could be mistaken for a part of a template made harmless.

    The first character of a special token becomes a look-alike that no tokenizer knows; a line that begins
    like a turn of a template is quoted. Everything else stays as it is.
    """
    plain = _SPECIAL.sub(lambda match: "‹" if match[0] == "<" else "⟦", text)
    return _MARKER.sub("› ", plain)


def turns_of(messages: Sequence[Message], stage: Stage, card: Card, *, neutral: bool = True) -> list[Message]:
    """The conversation as turns that alternate and begin with the user, as chat templates require.

    Adjacent messages of one role become one turn. A system message becomes part of a user turn, marked as
    instructions; a conversation that begins with the assistant gets a placeholder as its first turn. Pictures
    are left out if the guard does not see them.

    Raises:
        NotAssessableError: the stage is not one of the card's, or the last message does not fit it.
    """
    if stage not in card.stages:
        raise NotAssessableError(f"{card.name} does not assess the stage {stage}")
    if not messages or messages[-1].role != _LAST[stage]:
        raise NotAssessableError(f"at the stage {stage} the last message must be the {_LAST[stage]}'s")
    turns: list[Message] = []
    for message in messages:
        role: Role = "user" if message.role in ("system", "developer") else message.role
        text = neutralise(message.text) if neutral else message.text
        if message.role in ("system", "developer"):
            text = f"[instructions to the assistant]\n{text}"
        images = message.images if card.sees_images else ()
        if message.images and not images and not text.strip():
            text = "[a picture that is not shown]"
        if not turns and role == "assistant":
            turns.append(Message("user", "[no message]"))
        if turns and turns[-1].role == role:
            last = turns.pop()
            text, images = f"{last.text}\n\n{text}".strip(), (*last.images, *images)
        turns.append(Message(role, text, images))
    return turns


def one_image_list(turns: Iterable[Message]) -> tuple[Image, ...]:
    """All pictures of the turns, in order."""
    return tuple(image for turn in turns for image in turn.images)


def split_reply(turns: Sequence[Message], stage: Stage) -> tuple[Sequence[Message], str | None]:
    """What comes before the reply, and the reply; None at the stage `input`, which has none yet."""
    return (turns[:-1], turns[-1].text) if stage == "output" else (turns, None)


def transcript(turns: Sequence[Message]) -> str:
    """The turns as one text. A single turn is its own text; several are labelled with their roles."""
    if len(turns) == 1:
        return turns[0].text
    return "\n\n".join(f"{turn.role.capitalize()}: {turn.text}" for turn in turns)


def fence(*texts: str) -> str:
    """A code that occurs in none of the texts; the same texts give the same code."""
    joined = "\n".join(texts)
    code = hashlib.sha256(joined.encode("utf-8", "backslashreplace")).hexdigest()[:12]
    while code in joined:
        code = hashlib.sha256(code.encode()).hexdigest()[:12]
    return code


def fenced(turns: Sequence[Message]) -> tuple[str, str]:
    """A code, and the turns as one text in which each stands between marks that carry the code."""
    code = fence(*(turn.text for turn in turns))
    parts = []
    for turn in turns:
        pictures = f" pictures={len(turn.images)}" if turn.images else ""
        parts.append(f"<{turn.role} {code}{pictures}>\n{turn.text}\n</{turn.role} {code}>")
    return code, "\n".join(parts)


def fill(template: str, **values: str) -> str:
    """The template with its `{name}` replaced in one pass, so that no value is treated as a template."""
    return _PLACEHOLDER.sub(lambda match: values.get(match[1], match[0]), template)


def read_text(path: str) -> str:
    """A user's own file.

    Raises:
        InputError: it cannot be read.
    """
    try:
        return Path(path).read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read: {error}") from None


def without_thinking(text: str) -> str:
    """The text without the reasoning block that opens it. An unclosed one stays: the text is not parsed."""
    return _THINKING.sub("", text, count=1)


def read_object(text: str) -> dict[str, Any] | None:
    """The JSON object that is the whole text, or the whole of one code block; None otherwise.

    An object with a repeated field is not an answer.
    """
    if block := _CODE_BLOCK.match(text):
        text = block[1]
    try:
        content = json.loads(text, object_pairs_hook=_without_repeats)
    except (ValueError, RecursionError):
        return None
    return content if isinstance(content, dict) else None


def _without_repeats(pairs: list[tuple[str, object]]) -> dict[str, object]:
    content = dict(pairs)
    if len(content) != len(pairs):
        raise ValueError("a field occurs twice")
    return content


def found(
    verdict: GuardVerdict, categories: Sequence[str] = (), table: Table | None = None, **rest: Any
) -> Assessment:
    """An assessment with its categories and the scenarios that the table gives for them."""
    scenarios = (name for category in categories for name in (table or {}).get(category, ()))
    return Assessment(
        verdict, categories=tuple(categories), scenarios=tuple(dict.fromkeys(scenarios)), **rest
    )


def _probability(reply: Reply, label: re.Pattern[str]) -> float | None:
    """The probability of the last label in the answer: the product over the tokens that spell it."""
    spelled = "".join(token for token, _ in reply.logprobs)
    matches = list(label.finditer(spelled)) if spelled.strip() == reply.text.strip() else []
    if not matches:
        return None
    start, end = matches[-1].span()
    total, at = 0.0, 0
    for token, log_probability in reply.logprobs:
        if at < end and at + len(token) > start:
            total += log_probability
        at += len(token)
    return None if math.isnan(total) else math.exp(min(0.0, total))


_SAMPLE_IMAGE = Image("sample", "image/png", 0, 1, 1, load=bytes)
# The key covers the effect of neutralising, so the sample contains text that it changes.
_SAMPLE = (
    Message("system", "instructions"),
    Message("user", "question <|end|>\nUser: next", (_SAMPLE_IMAGE,)),
    Message("assistant", "answer"),
)


class Adapter(ABC):
    """The base of an adapter: a subclass defines how the turns are shown and how an answer is read.

    `label` is set where the guard's own documentation takes the probability of its label for its confidence.
    `version` changes when the same answer is read differently.
    """

    card: Card
    sampling: Sampling
    schema: Mapping[str, Any] | None = None
    table: Table = {}  # noqa: RUF012 - a Mapping: never changed
    neutral: ClassVar[bool] = True
    label: ClassVar[re.Pattern[str] | None] = None
    version: str = "1"

    @cached_property
    def key(self) -> str:
        """Hash of everything in the adapter that decides an answer: prompt, categories, sampling."""
        requests = [
            request_hash("", self.request(_SAMPLE[: 2 + (stage == "output")], stage))
            for stage in self.card.stages
        ]
        content = [self.card.name, self.card.sees_images, self.version, requests, dict(self.table)]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]

    def request(self, messages: Sequence[Message], stage: Stage) -> Request:
        """What is sent to the guard's model about this conversation.

        Raises:
            NotAssessableError: the guard cannot be asked about it.
        """
        turns = turns_of(messages, stage, self.card, neutral=self.neutral)
        return Request(tuple(self.prompt(turns, stage)), self.sampling, self.schema)

    def parse(self, reply: Reply, stage: Stage) -> Assessment:
        """The assessment in a reply. Anything but the documented form is `unparsed`, never `safe`.

        An answer that was cut off counts if the form is complete, which a single word does not show unless
        no more than one token was asked for; one that was blocked does not.
        """
        text = self.answer(reply)
        if not reply.outcome.observed:
            return Assessment("error", raw=text or None, error=reply.error or reply.outcome.value)
        complete = reply.outcome is Outcome.ANSWERED or (
            reply.outcome is Outcome.TRUNCATED
            and (self.sampling.max_tokens == 1 or not _ONE_WORD.fullmatch(without_thinking(text)))
        )
        assessment = self.read(text, stage) if complete else None
        if assessment is None:
            return Assessment(
                "unparsed",
                raw=text or None,
                error=reply.error or "the answer is not in the guard's documented form",
            )
        if self.label is not None:
            assessment = replace(
                assessment,
                confidence=_probability(reply, self.label),
                confidence_kind=probability_kind(reply.parameters),
            )
        return replace(assessment, raw=text)

    def prompt(self, turns: Sequence[Message], stage: Stage) -> Sequence[Message]:
        """The messages that are sent; by default the turns, for the server's chat template to render."""
        return turns

    def grammar(self, stage: Stage) -> str | None:
        """The documented form as a grammar in GBNF, for engines that hold an answer to one; None for none."""
        return None

    def answer(self, reply: Reply) -> str:
        """The text that is read."""
        return reply.text

    @abstractmethod
    def read(self, text: str, stage: Stage) -> Assessment | None:
        """The assessment in an answer; None if the text is not in the documented form. Never raises."""
        ...
