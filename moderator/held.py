"""A guard whose answer the engine that serves its model holds to the guard's own form."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

from safemt_client.moderator.types import Assessment, Card, Guard, Stage
from safemt_client.providers.errors import InputError
from safemt_client.providers.types import Message, Reply, Request

__all__ = ["HeldGuard", "held"]


Constrains = Callable[[str], Mapping[str, Any]]
"""From a grammar to the fields of a request that hold the answer to it."""


def held(guard: Guard, constrains: Constrains | None, called: str) -> Guard:
    """The guard held to its form by its engine, or as it is if it has no grammar.

    `constrains` is None for an engine that heeds neither grammars nor schemas and tells no probabilities.

    Raises:
        InputError: the guard needs such an engine; the message names it as `called`.
    """
    # All guards come with it: only whoever has one loads them.
    from safemt_client.moderator.guards.common import Adapter

    if not isinstance(guard, Adapter):
        return guard
    if constrains is None:
        if guard.schema is None and guard.label is None:
            return guard
        raise InputError(
            f"{called}: {guard.card.name} needs a form or probabilities, which transformers' server leaves "
            "out without a word: use llama.cpp:FILE.gguf or vllm:FOLDER"
        )
    grammars = {stage: found for stage in guard.card.stages if (found := guard.grammar(stage)) is not None}
    return HeldGuard(guard, grammars, constrains) if grammars else guard


class HeldGuard:
    """A `Guard` with the grammar of its form in its requests, as fields that the engine understands.

    Another answer can then not be given: so the key is another one, and assessments with and without the
    grammar are never taken for each other.
    """

    def __init__(self, guard: Guard, grammars: Mapping[Stage, str], constrains: Constrains) -> None:
        self._guard = guard
        self._fields = {stage: dict(constrains(grammar)) for stage, grammar in grammars.items()}

    @property
    def card(self) -> Card:
        """The guard's card."""
        return self._guard.card

    @cached_property
    def key(self) -> str:
        """Hash of the guard's own and of the grammars."""
        content = json.dumps([self._guard.key, self._fields], sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()[:16]

    def request(self, messages: Sequence[Message], stage: Stage) -> Request:
        """See `Guard.request`."""
        request = self._guard.request(messages, stage)
        extra = dict(request.sampling.extra) | self._fields.get(stage, {})
        return replace(request, sampling=replace(request.sampling, extra=extra))

    def parse(self, reply: Reply, stage: Stage) -> Assessment:
        """See `Guard.parse`."""
        return self._guard.parse(reply, stage)
