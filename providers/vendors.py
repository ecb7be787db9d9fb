"""The vendors that are known by name: one row of data each. A further vendor is a further row."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from safemt_client.providers.tokens import Charging

__all__ = [
    "DEMO",
    "DEMO_GUARD",
    "DEMO_JUDGE",
    "DEMO_NAMES",
    "DEMO_TARGET",
    "OWN",
    "PLUGIN",
    "VENDORS",
    "Kind",
    "Vendor",
    "vendor_of",
]

Kind = Literal["openai", "litellm", "demo", "plugin"]
"""How a vendor is asked: in OpenAI's protocol (the demo too), through litellm, or as an object here."""


@dataclass(frozen=True, slots=True)
class Vendor:
    """How a vendor's models are reached, paid for and limited."""

    name: str
    """The part before the slash in a model's name and in its identity."""
    kind: Kind
    base_url: str | None = None
    """Where its API is; None where litellm knows it."""
    key: str | None = None
    """The environment variable of the key, which must be set; None where its SDK has its own way."""
    bare: tuple[str, ...] = ()
    """Prefixes of its model names that are recognised without the vendor's name."""
    further_keys: tuple[str, ...] = ()
    """Further environment variables that its SDK reads secrets from."""
    address_variables: tuple[str, ...] = ()
    """Environment variables that move its address; the first that is set counts."""
    account_by_model: bool = False
    """Whether each model has rate limits of its own, by the vendor's guide to rate limits."""
    charging: Charging = "used"
    """Whether its limit of tokens counts those used, or `max_tokens` whatever was used of it."""
    reasoning_models: str | None = None
    """How names of its reasoning models begin, as a pattern: they know the limit of tokens as
    `max_completion_tokens` and take no temperature of ours."""
    batches: Literal["openai", "anthropic"] | None = None
    """The form in which it takes batches, None if in none that this program supports."""
    keeps_marks: bool = False
    """Whether a batch is certain to carry our name for it."""


VENDORS: tuple[Vendor, ...] = (
    Vendor(
        "openai",
        "openai",
        "https://api.openai.com/v1",
        "OPENAI_API_KEY",
        bare=("gpt-", "chatgpt-", "o1", "o3", "o4"),
        account_by_model=True,
        charging="reserved",
        reasoning_models=r"o\d|gpt-5",
        batches="openai",
        keeps_marks=True,
    ),
    Vendor("openrouter", "openai", "https://openrouter.ai/api/v1", "OPENROUTER_API_KEY"),
    Vendor(
        "groq",
        "openai",
        "https://api.groq.com/openai/v1",
        "GROQ_API_KEY",
        account_by_model=True,
        batches="openai",
        keeps_marks=True,
    ),
    Vendor("together_ai", "openai", "https://api.together.xyz/v1", "TOGETHERAI_API_KEY"),
    Vendor("fireworks_ai", "openai", "https://api.fireworks.ai/inference/v1", "FIREWORKS_AI_API_KEY"),
    Vendor("deepseek", "openai", "https://api.deepseek.com/v1", "DEEPSEEK_API_KEY", bare=("deepseek-",)),
    Vendor(
        "mistral",
        "openai",
        "https://api.mistral.ai/v1",
        "MISTRAL_API_KEY",
        bare=("mistral-", "pixtral-"),
        account_by_model=True,
    ),
    Vendor("xai", "openai", "https://api.x.ai/v1", "XAI_API_KEY", bare=("grok-",), account_by_model=True),
    Vendor(
        "anthropic",
        "litellm",
        "https://api.anthropic.com",
        "ANTHROPIC_API_KEY",
        bare=("claude-",),
        address_variables=("ANTHROPIC_API_BASE", "ANTHROPIC_BASE_URL"),
        account_by_model=True,
        batches="anthropic",
    ),
    Vendor("gemini", "litellm", key="GEMINI_API_KEY", bare=("gemini-",), account_by_model=True),
    Vendor(
        "bedrock",
        "litellm",
        further_keys=(
            "AWS_SECRET_ACCESS_KEY",
            "AWS_SESSION_TOKEN",
            "AWS_BEARER_TOKEN_BEDROCK",
            "AWS_ACCESS_KEY_ID",
        ),
    ),
    Vendor("vertex_ai", "litellm"),
    Vendor(
        "azure",
        "litellm",
        key="AZURE_API_KEY",
        further_keys=("AZURE_AD_TOKEN", "AZURE_CLIENT_SECRET", "AZURE_PASSWORD"),
    ),
    Vendor("cohere", "litellm", key="COHERE_API_KEY"),
)

OWN = Vendor("local", "openai", batches="openai")
"""An endpoint of the user's own; it may or may not take batches, and keep our name for them."""

DEMO = Vendor("demo", "demo", batches="openai")
"""The endpoint of the program itself, which answers by rules."""

PLUGIN = Vendor("plugin", "plugin")
"""A user's own model, or a plug-in's."""

DEMO_TARGET = "demo"
DEMO_JUDGE = "demo-judge"
DEMO_GUARD = "demo-guard"
DEMO_NAMES = (DEMO_TARGET, DEMO_JUDGE, "demo-judge-hasty", DEMO_GUARD)
"""The models of the demo, as they are named without a vendor."""


def vendor_of(name: str) -> tuple[Vendor | None, str]:
    """The vendor and the model that a name stands for; None where the vendor is not known."""
    given, slash, model = name.partition("/")
    for vendor in VENDORS:
        if given == vendor.name if slash else name.startswith(vendor.bare):
            return vendor, model if slash else name
    return None, name
