"""What is known of a vendor: the form of the rows in `vendors`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["AddressVariable", "Charging", "ImageRule", "Kind", "Vendor"]

Kind = Literal["openai", "litellm", "demo", "plugin"]
"""How a vendor is asked: in OpenAI's protocol (the demo too), through litellm, or as an object here."""

Charging = Literal["used", "reserved"]
"""What counts against a limit of tokens: those used, or the prompt and all of `max_tokens`."""

ImageRule = Literal["flat", "openai", "anthropic", "gemini"]
"""By whose rule the tokens of an image are counted: `providers.limits.tokens` has the rules."""


@dataclass(frozen=True, slots=True)
class AddressVariable:
    """An environment variable that moves a vendor's address."""

    name: str
    path: str = ""
    """What the SDK that reads it adds to its value."""
    port: int | None = None
    """The port where the value may be a mere host."""


@dataclass(frozen=True, slots=True)
class Vendor:
    """How a vendor's models are reached, paid for and limited."""

    name: str
    """The part before the slash in a model's name and in its identity."""
    kind: Kind
    base_url: str | None = None
    """Where its API is; None where that depends on a region or an account."""
    keys: tuple[str, ...] = ()
    """The environment variables of the key; the first that is set counts."""
    key_needed: bool = True
    """Whether one of `keys`, if it has any, or of `further_keys` must be set."""
    bare: tuple[str, ...] = ()
    """Prefixes of its model names that are recognised without the vendor's name."""
    also: tuple[str, ...] = ()
    """What others call it: such a name is answered by a hint."""
    further_keys: tuple[str, ...] = ()
    """Further environment variables that its SDK reads secrets from."""
    addresses: tuple[AddressVariable, ...] = ()
    """What moves its address; the first that is set counts."""
    parameters: tuple[tuple[str, tuple[str, ...]], ...] = ()
    """Parameters of litellm's, each with the environment variables that state it."""
    local: bool = False
    """Whether it is a program on the user's own machine."""
    managed: bool = False
    """Whether this program starts and ends what is asked, at another port each time."""
    account_by_model: bool = False
    """Whether each model has rate limits of its own, by the vendor's guide to rate limits."""
    charging: Charging = "used"
    """Whether its limit of tokens counts those used, or `max_tokens` whatever was used of it."""
    batches: Literal["openai", "anthropic"] | None = None
    """The form in which it takes batches, None if in none that this program supports."""
    keeps_marks: bool = False
    """Whether a batch is certain to carry our name for it."""
    image_rule: ImageRule = "flat"
    """By whose rule the tokens of an image are counted."""
    images: tuple[str, ...] = ()
    """The types of images that it takes, by its guide to vision; none where that depends on the model, or is
    not known here."""
