"""What one call may cost at most: the bound of its prompt, and the largest reply that it can get.

A bound, where `planning.estimate` is a range: no tokenizer makes more tokens of a text than it has bytes.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from safemt_client.judges.panel import Judge, Panel
from safemt_client.models import Models
from safemt_client.moderator.types import NotAssessableError
from safemt_client.planning.costs import money
from safemt_client.planning.plan import LONGEST, Plan
from safemt_client.pricing import longest_of
from safemt_client.providers.adjusted import Adjusted
from safemt_client.providers.limits.tokens import image_tokens
from safemt_client.providers.registry import ProviderSpec
from safemt_client.providers.types import Image, Message, Request, Sampling

if TYPE_CHECKING:
    from safemt_client.moderator.assessor import Assessor

__all__ = ["FIRST_REPLY", "LIMITS", "Ceiling", "cap_notes", "ceilings_of", "limit_of"]

FIRST_REPLY = 1000
"""Tokens of a reply whose bound is not known, until one has come."""
LIMITS = ("max_completion_tokens", "max_tokens")
"""The names of the limit of a reply."""

# Beside the bytes of the texts: what a chat template adds, and a vendor to a request.
_A_REQUEST, _A_MESSAGE = 100, 16
# More than any published rule counts for an image of that size.
_AN_IMAGE, _PIXELS_A_TOKEN = 3000, 400
# Fewer calls in flight are worth a note; the longest conversations come first.
_FEW, _LOOKED_AT = 16, LONGEST


@dataclass(frozen=True, slots=True)
class Ceiling:
    """What bounds the price of a call to one model.

    `prices` are US dollars a token; `largest` is the model's largest output by litellm's list, in tokens,
    reasoning included, None if it is not known. `limit` is the limit of a reply that its requests have, and
    `name` is for messages.
    """

    identity: str
    prices: Mapping[str, float]
    largest: int | None = None
    name: str = ""
    limit: int | None = None

    @property
    def bound(self) -> int | None:
        """Tokens of a reply at most, None if that is not known."""
        return self.largest if self.limit is None else self.limit

    @property
    def free(self) -> bool:
        """Whether no call costs anything."""
        return not any(self.prices.values())

    def prompt(self, request: Request) -> int:
        """Tokens of the prompt at most."""
        tokens = _A_REQUEST
        for message in request.messages:
            said = message.text if message.reasoning is None else message.text + message.reasoning
            tokens += _A_MESSAGE + len(said.encode("utf-8", "surrogatepass"))
            tokens += sum(_image(self.identity, image) for image in message.images)
        for more in (request.response_schema, request.sampling.extra):
            tokens += len(json.dumps(more)) if more else 0
        return tokens

    def output(self, sampling: Sampling) -> int | None:
        """Tokens of a reply at most: the limit that is sent, else the model's own; None is unknown."""
        limit = limit_of(sampling)
        return self.largest if limit is None else limit

    def usd(self, prompt: int, output: int, sampling: Sampling) -> float:
        """US dollars of so many tokens, none of them from a cache."""
        answers = sampling.extra.get("n")
        count = answers if type(answers) is int and answers > 1 else 1
        return prompt * self.prices.get("input", 0.0) + count * output * self.prices.get("output", 0.0)


def limit_of(sampling: Sampling) -> int | None:
    """The limit of a reply that is sent, in tokens, under whichever of its names; None if none is."""
    for name in LIMITS:
        if type(limit := sampling.extra.get(name)) is int:
            return limit
    return sampling.max_tokens


def _image(identity: str, image: Image) -> int:
    by_area = math.ceil(image.width * image.height / _PIXELS_A_TOKEN)
    return max(image_tokens(identity, image), by_area, _AN_IMAGE)


def ceilings_of(plan: Plan, models: Models, judge: Judge | None) -> dict[str, Ceiling]:
    """The ceilings of all that a run asks and that has a price.

    By the key of the target, the judge (of a panel: each of them) or the guard.
    """
    found: dict[str, Ceiling] = {}
    for target in plan.targets:
        if target.key in models.providers and target.prices is not None:
            on = models.spec(target.model_name)
            found[target.key] = _ceiling(target.name, target.identity, target.prices, target.sampling, on)
    priced = {row.judge_key: row for row in (plan.judge, *plan.members) if row is not None and row.prices}
    for one in judge.members if isinstance(judge, Panel) else (judge,):
        if one is not None and (row := priced.get(one.key)) is not None:
            spec, prices = models.judge_specs.get(one.key), json.loads(row.prices or "{}")
            found[one.key] = _ceiling(f"the judge {row.name}", one.identity, prices, one.sampling, spec)
    assessors = {m.assessor.key: m.assessor for m in models.moderators.values()}
    for guard in plan.moderators:
        key, asked = guard.guard_key, assessors.get(guard.guard_key)
        if asked is not None and guard.prices is not None:
            spec, prices = models.guards_on.get(key), json.loads(guard.prices)
            sampling = _sampling_of(asked)
            found[key] = _ceiling(f"the guard {guard.guard}", asked.provider.identity, prices, sampling, spec)
    return found


def cap_notes(plan: Plan, cap_usd: float, left_usd: float, ceilings: Mapping[str, Ceiling]) -> Iterator[str]:
    """Where a cost cap, of which `left_usd` is left, cannot be promised or lets few calls be in flight."""
    cap = f"--max-cost {money(cap_usd)}"
    for ceiling in ceilings.values():
        if not ceiling.free and ceiling.bound is None:
            yield (
                f"{cap} cannot be promised: how long a reply of {ceiling.name} can be is not known: limit it "
                "(--max-tokens, for a judge or a guard max-tokens in its table); without, money is set aside "
                "for replies twice as long as the longest so far"
            )
    targets = {target.key for target in plan.targets}
    for key, ceiling in ceilings.items():
        reply = ceiling.usd(0, ceiling.bound or 0, Sampling())
        if key not in targets and reply > left_usd:
            yield (
                f"{cap}: one reply of {ceiling.name} may cost {money(reply)}, and "
                f"{money(max(left_usd, 0.0))} is left: raise --max-cost, or lower max-tokens in its table"
            )
    for target in plan.targets:
        found = ceilings.get(target.key)
        mine = [conversation.next()[0] for conversation in plan.longest(target, _LOOKED_AT)]
        if plan.batch or found is None or found.free or found.bound is None or not mine:
            continue
        most = max(found.usd(found.prompt(request), found.bound, request.sampling) for request in mine)
        if most > left_usd:
            yield (
                f"{cap}: one call to {target.name} may cost {money(most)}, and {money(max(left_usd, 0.0))} "
                "is left: raise --max-cost, or lower --max-tokens (in a run of its own)"
            )
        elif (count := int(left_usd / most)) < _FEW:
            yield (
                f"{cap}: one call to {target.name} may cost {money(most)}, so that at most {count} are in "
                "flight: a higher --max-cost or a lower --max-tokens allows more"
            )


def _ceiling(
    name: str, identity: str, prices: Mapping[str, float], sampling: Sampling, spec: ProviderSpec | None
) -> Ceiling:
    limit = limit_of(sampling)
    # The list is long to load: only where it is needed.
    return Ceiling(identity, prices, longest_of(spec) if limit is None else None, name, limit)


def _sampling_of(assessor: Assessor) -> Sampling:
    """What a guard is asked with."""
    try:
        request = assessor.guard.request((Message("user", "hello"),), "input")
    except NotAssessableError:
        request = Request(())
    provider = assessor.provider
    return (provider.adjusted(request) if isinstance(provider, Adjusted) else request).sampling
