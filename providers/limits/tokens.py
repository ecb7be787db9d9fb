"""Tokens of a request before it is sent: a rule for the text and the images, corrected by what comes back."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from safemt_client.providers.types import Image, Request, Usage
from safemt_client.providers.vendor import Charging, ImageRule
from safemt_client.providers.vendors import image_rule_of

__all__ = ["CHARACTERS_A_TOKEN", "Charging", "TokenEstimator", "image_tokens"]

CHARACTERS_A_TOKEN = 4
_A_REPLY = 350
_AN_IMAGE = 800
_WEIGHT = 0.05


def image_tokens(identity: str, image: Image) -> int:
    """Tokens of an image by its vendor's published rule, else a middle figure."""
    return _RULES[image_rule_of(identity)](identity.partition("/")[2], image)


def _by_tiles(model: str, image: Image) -> int:
    """OpenAI's guide to vision: tiles of 512 pixels after scaling to 2048 and to a shorter side of 768.

    gpt-4o counts 85 + 170 a tile, gpt-4o-mini 2833 + 5667.
    """
    width, height = image.width, image.height
    base, tile = (2833, 5667) if "4o-mini" in model else (85, 170)
    scale = min(1.0, 2048 / max(width, height))
    scale = min(scale, 768 / (min(width, height) or 1))
    return base + tile * math.ceil(width * scale / 512) * math.ceil(height * scale / 512)


def _by_area(model: str, image: Image) -> int:
    """Anthropic's guide to vision: width x height / 750, scaled to 1568."""
    scale = min(1.0, 1568 / max(image.width, image.height))
    return math.ceil(image.width * scale * image.height * scale / 750)


def _by_large_tiles(model: str, image: Image) -> int:
    """Google's guide to Gemini: 258 up to 384 x 384, else 258 a tile of 768."""
    if max(image.width, image.height) <= 384:
        return 258
    return 258 * math.ceil(image.width / 768) * math.ceil(image.height / 768)


_RULES: Mapping[ImageRule, Callable[[str, Image], int]] = {
    "flat": lambda model, image: _AN_IMAGE,
    "openai": _by_tiles,
    "anthropic": _by_area,
    "gemini": _by_large_tiles,
}


class TokenEstimator:
    """What requests to one model need, by the rules above times what has been seen so far."""

    def __init__(
        self,
        identity: str,
        charging: Charging = "used",
        image_rule: Callable[[str, Image], int] = image_tokens,
    ) -> None:
        self._identity = identity
        self._charging = charging
        self._image_rule = image_rule
        self._ratio = 1.0
        self._completion: float | None = None

    def prompt(self, request: Request) -> float:
        """Tokens of the messages, by rule."""
        characters = images = 0
        for message in request.messages:
            characters += len(message.text)
            for image in message.images:
                images += self._image_rule(self._identity, image)
        return characters / CHARACTERS_A_TOKEN + images

    def need(self, request: Request, prompt: float) -> float:
        """Tokens that the request will count for, with `prompt` tokens by rule."""
        most = request.sampling.max_tokens
        if self._charging == "reserved" and most:
            completion: float = most
        elif self._completion is None:
            completion = min(most or _A_REPLY, _A_REPLY)
        else:
            completion = self._completion
        return prompt * self._ratio + completion

    def learn(self, request: Request, prompt: float, usage: Usage) -> float | None:
        """Tokens that the request did count for, None where the endpoint does not say."""
        if usage.prompt_tokens is None:
            return None
        if prompt > 0:
            self._ratio += _WEIGHT * (usage.prompt_tokens / prompt - self._ratio)
        done = float(usage.completion_tokens or 0)
        before = done if self._completion is None else self._completion
        self._completion = before + _WEIGHT * (done - before)
        if self._charging == "reserved" and request.sampling.max_tokens:
            done = request.sampling.max_tokens
        return usage.prompt_tokens + done
