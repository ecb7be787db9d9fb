"""Whether a server that was just started does what guards rely on: engines pass over unknown fields."""

from __future__ import annotations

from safemt_client.providers.errors import InputError, TargetStoppedError
from safemt_client.providers.provider import Provider
from safemt_client.providers.types import Message, Request, Sampling
from safemt_client.serving.engines import PROBE, Served

__all__ = ["prove"]


async def prove(provider: Provider, served: Served) -> None:
    """One short request: it must be answered, and in the only word that its grammar allows.

    Raises:
        InputError: it is not.
    """
    name = served.spec.name
    extra = {} if served.constrains is None else served.constrains(f'root ::= "{PROBE}"')
    asked = Request(
        (Message("user", "Answer with one word."),), Sampling(temperature=0.0, max_tokens=16, extra=extra)
    )
    try:
        reply = await provider.ask(asked)
    except TargetStoppedError as error:
        raise InputError(f"{name}: its server does not answer: {error}") from None
    if not reply.outcome.observed:
        raise InputError(f"{name}: its server does not answer: {reply.error}")
    if served.constrains is not None and reply.text.strip() != PROBE:
        raise InputError(
            f"{name}: {served.engine} {served.version} does not hold an answer to a grammar: update it"
        )
