"""The vendors that are known by name: one row of data each. A further vendor is a further row.

python -m safemt_client.providers.vendors    prints the table of docs/endpoints.md
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from difflib import get_close_matches

from safemt_client.providers.vendor import AddressVariable, ImageRule, Vendor

__all__ = [
    "DEMO",
    "DEMO_GUARD",
    "DEMO_JUDGE",
    "DEMO_NAMES",
    "DEMO_TARGET",
    "OWN",
    "PLUGIN",
    "SERVED",
    "VENDORS",
    "image_rule_of",
    "near_models",
    "near_names",
    "vendor_of",
    "vendors_table",
]

_ALL_IMAGES = ("jpeg", "png", "webp", "gif")
"""All types that this program sends."""

# Addresses and names of variables are those of the vendor's own documentation and SDK, after them those that
# litellm reads; where a row differs, a comment says so. Paths are those that the SDK adds: Groq's has
# https://api.groq.com as its base.
VENDORS: tuple[Vendor, ...] = (
    Vendor(
        "openai",
        "openai",
        "https://api.openai.com/v1",
        ("OPENAI_API_KEY",),
        bare=("gpt-", "chatgpt-", "o1", "o3", "o4"),
        also=("oai", "chatgpt"),
        # The second is that of the SDK before version 1.
        addresses=(AddressVariable("OPENAI_BASE_URL"), AddressVariable("OPENAI_API_BASE")),
        account_by_model=True,
        charging="reserved",
        batches="openai",
        keeps_marks=True,
        image_rule="openai",
        images=_ALL_IMAGES,
    ),
    Vendor(
        "openrouter",
        "openai",
        "https://openrouter.ai/api/v1",
        ("OPENROUTER_API_KEY",),
        addresses=(AddressVariable("OPENROUTER_API_BASE"),),
        images=_ALL_IMAGES,
    ),
    Vendor(
        "groq",
        "openai",
        "https://api.groq.com/openai/v1",
        ("GROQ_API_KEY",),
        addresses=(AddressVariable("GROQ_BASE_URL", "/openai/v1"), AddressVariable("GROQ_API_BASE")),
        account_by_model=True,
        batches="openai",
        keeps_marks=True,
    ),
    Vendor(
        "together_ai",
        "openai",
        "https://api.together.xyz/v1",
        ("TOGETHERAI_API_KEY", "TOGETHER_API_KEY"),
        also=("together", "togetherai"),
        addresses=(AddressVariable("TOGETHER_BASE_URL"), AddressVariable("TOGETHER_AI_API_BASE")),
    ),
    Vendor(
        "fireworks_ai",
        "openai",
        "https://api.fireworks.ai/inference/v1",
        ("FIREWORKS_AI_API_KEY", "FIREWORKS_API_KEY"),
        also=("fireworks",),
        addresses=(
            AddressVariable("FIREWORKS_BASE_URL", "/inference/v1"),
            AddressVariable("FIREWORKS_API_BASE"),
        ),
    ),
    Vendor(
        "deepseek",
        "openai",
        "https://api.deepseek.com/v1",
        ("DEEPSEEK_API_KEY",),
        bare=("deepseek-",),
        addresses=(AddressVariable("DEEPSEEK_API_BASE"),),
    ),
    Vendor(
        "mistral",
        "openai",
        "https://api.mistral.ai/v1",
        ("MISTRAL_API_KEY",),
        bare=("mistral-", "pixtral-"),
        also=("mistralai",),
        addresses=(AddressVariable("MISTRAL_API_BASE"),),
        account_by_model=True,
        images=_ALL_IMAGES,
    ),
    Vendor(
        "xai",
        "openai",
        "https://api.x.ai/v1",
        ("XAI_API_KEY",),
        bare=("grok-",),
        also=("grok", "x-ai"),
        addresses=(AddressVariable("XAI_API_BASE"),),
        account_by_model=True,
        images=("jpeg", "png"),
    ),
    Vendor(
        "anthropic",
        "litellm",
        "https://api.anthropic.com",
        ("ANTHROPIC_API_KEY",),
        bare=("claude-",),
        also=("claude",),
        # litellm's comes first, as it always has.
        addresses=(AddressVariable("ANTHROPIC_API_BASE"), AddressVariable("ANTHROPIC_BASE_URL")),
        account_by_model=True,
        batches="anthropic",
        image_rule="anthropic",
        images=_ALL_IMAGES,
    ),
    Vendor(
        "gemini",
        "litellm",
        "https://generativelanguage.googleapis.com",
        ("GEMINI_API_KEY", "GOOGLE_API_KEY"),
        bare=("gemini-",),
        also=("google", "google_ai_studio"),
        addresses=(AddressVariable("GOOGLE_GEMINI_BASE_URL", "/v1beta"), AddressVariable("GEMINI_API_BASE")),
        account_by_model=True,
        image_rule="gemini",
        images=("jpeg", "png", "webp"),
    ),
    Vendor(
        "bedrock",
        "litellm",
        also=("aws", "amazon"),
        further_keys=(
            "AWS_SECRET_ACCESS_KEY",
            "AWS_SESSION_TOKEN",
            "AWS_BEARER_TOKEN_BEDROCK",
            "AWS_ACCESS_KEY_ID",
        ),
        image_rule="anthropic",
        images=_ALL_IMAGES,
    ),
    Vendor(
        "vertex_ai",
        "litellm",
        also=("vertex", "vertexai"),
        image_rule="gemini",
        images=("jpeg", "png", "webp"),
    ),
    # https://learn.microsoft.com/azure/foundry/openai: AZURE_OPENAI_* and OPENAI_API_VERSION are what Azure's
    # own client reads.
    Vendor(
        "azure",
        "litellm",
        keys=("AZURE_API_KEY", "AZURE_OPENAI_API_KEY"),
        also=("azure_openai", "azureopenai"),
        further_keys=("AZURE_AD_TOKEN", "AZURE_CLIENT_SECRET", "AZURE_PASSWORD"),
        addresses=(AddressVariable("AZURE_API_BASE"), AddressVariable("AZURE_OPENAI_ENDPOINT")),
        parameters=(("api_version", ("AZURE_API_VERSION", "OPENAI_API_VERSION")),),
        image_rule="openai",
        images=_ALL_IMAGES,
    ),
    Vendor(
        "cohere",
        "litellm",
        "https://api.cohere.com",
        ("COHERE_API_KEY", "CO_API_KEY"),
        addresses=(AddressVariable("CO_API_URL", "/v2/chat"), AddressVariable("COHERE_API_BASE")),
    ),
    # https://help.aliyun.com/en/model-studio/base-url: each region has keys of its own.
    Vendor(
        "dashscope",
        "openai",
        "https://dashscope-intl.aliyuncs.com/compatible-mode/v1",
        ("DASHSCOPE_API_KEY",),
        also=("qwen", "alibaba", "aliyun", "model_studio"),
        # Not DASHSCOPE_HTTP_BASE_URL: that is the address of another protocol.
        addresses=(AddressVariable("DASHSCOPE_API_BASE"),),
    ),
    Vendor(
        "dashscope_cn",
        "openai",
        "https://dashscope.aliyuncs.com/compatible-mode/v1",
        ("DASHSCOPE_API_KEY",),
        also=("bailian",),
    ),
    # https://platform.moonshot.ai/docs/api, https://platform.moonshot.cn/docs
    Vendor(
        "moonshot",
        "openai",
        "https://api.moonshot.ai/v1",
        ("MOONSHOT_API_KEY",),
        also=("kimi", "moonshotai"),
        addresses=(AddressVariable("MOONSHOT_API_BASE"),),
    ),
    Vendor("moonshot_cn", "openai", "https://api.moonshot.cn/v1", ("MOONSHOT_API_KEY",)),
    # https://docs.z.ai for the world, https://docs.bigmodel.cn for China: two platforms of Zhipu.
    Vendor(
        "zai",
        "openai",
        "https://api.z.ai/api/paas/v4",
        ("ZAI_API_KEY",),
        also=("z.ai", "z-ai", "z_ai"),
        addresses=(AddressVariable("ZAI_BASE_URL"),),
    ),
    Vendor(
        "zhipu",
        "openai",
        "https://open.bigmodel.cn/api/paas/v4",
        ("ZHIPUAI_API_KEY",),
        also=("zhipuai", "bigmodel", "glm"),
    ),
    # https://docs.siliconflow.com/en/userguide/quickstart, https://docs.siliconflow.cn
    Vendor("siliconflow", "openai", "https://api.siliconflow.com/v1", ("SILICONFLOW_API_KEY",)),
    Vendor("siliconflow_cn", "openai", "https://api.siliconflow.cn/v1", ("SILICONFLOW_API_KEY",)),
    # https://inference-docs.cerebras.ai: limits are by model, and a call counts with its whole
    # max_completion_tokens.
    Vendor(
        "cerebras",
        "openai",
        "https://api.cerebras.ai/v1",
        ("CEREBRAS_API_KEY",),
        addresses=(AddressVariable("CEREBRAS_BASE_URL", "/v1"), AddressVariable("CEREBRAS_API_BASE")),
        account_by_model=True,
        charging="reserved",
    ),
    # https://docs.api.nvidia.com/nim
    Vendor(
        "nvidia_nim",
        "openai",
        "https://integrate.api.nvidia.com/v1",
        ("NVIDIA_API_KEY", "NVIDIA_NIM_API_KEY"),
        also=("nvidia", "nim"),
        addresses=(AddressVariable("NVIDIA_NIM_API_BASE"),),
    ),
    # https://huggingface.co/docs/inference-providers
    Vendor(
        "huggingface",
        "openai",
        "https://router.huggingface.co/v1",
        ("HF_TOKEN", "HUGGINGFACE_API_KEY"),
        also=("hf", "hugging_face"),
    ),
    # https://docs.perplexity.ai/docs/sonar/openai-compatibility: without /v1. It moves its users to another
    # API, which this program does not speak.
    Vendor(
        "perplexity",
        "openai",
        "https://api.perplexity.ai",
        ("PERPLEXITY_API_KEY", "PERPLEXITYAI_API_KEY"),
        also=("pplx", "sonar"),
        addresses=(AddressVariable("PERPLEXITY_BASE_URL"), AddressVariable("PERPLEXITY_API_BASE")),
        account_by_model=True,
    ),
    # https://platform.minimax.io/docs/api-reference/text-openai-api, https://platform.minimaxi.com
    Vendor(
        "minimax",
        "openai",
        "https://api.minimax.io/v1",
        ("MINIMAX_API_KEY",),
        addresses=(AddressVariable("MINIMAX_API_BASE"),),
    ),
    Vendor("minimax_cn", "openai", "https://api.minimaxi.com/v1", ("MINIMAX_API_KEY",)),
    # https://docs.ollama.com/api/openai-compatibility: a key is for ollama.com alone.
    Vendor(
        "ollama",
        "openai",
        "http://127.0.0.1:11434/v1",
        ("OLLAMA_API_KEY",),
        key_needed=False,
        also=("ollama_chat",),
        addresses=(AddressVariable("OLLAMA_HOST", "/v1", 11434), AddressVariable("OLLAMA_API_BASE", "/v1")),
        local=True,
    ),
    # https://lmstudio.ai/docs/developer/openai-compat
    Vendor(
        "lm_studio",
        "openai",
        "http://127.0.0.1:1234/v1",
        ("LM_STUDIO_API_KEY",),
        key_needed=False,
        also=("lmstudio", "lm-studio"),
        addresses=(AddressVariable("LM_STUDIO_API_BASE"),),
        local=True,
    ),
)

OWN = Vendor("local", "openai", keys=("SAFEMT_API_KEY",), key_needed=False, batches="openai")
"""An endpoint of the user's own; it may or may not take batches, and keep our name for them."""

DEMO = Vendor("demo", "demo", batches="openai")
"""The endpoint of the program itself, which answers by rules."""

SERVED = Vendor("served", "openai", key_needed=False, local=True, managed=True)
"""A model that this program serves itself."""

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


def near_names(given: str) -> list[str]:
    """The names of vendors that a wrong name may have meant, the likeliest first."""
    given = given.lower()
    called = {word: vendor.name for vendor in VENDORS for word in (vendor.name, *vendor.also)}
    if given in called:
        return [called[given]]
    return list(dict.fromkeys(called[word] for word in get_close_matches(given, called, cutoff=0.7)))


def near_models(given: str) -> list[str]:
    """What a model's name without a vendor may have meant, by the first word, such as `gpt-`."""
    word, mark, rest = given.lower().partition("-")
    known = [prefix for vendor in VENDORS for prefix in vendor.bare if prefix.endswith("-")]
    return [prefix + rest for prefix in get_close_matches(word + mark, known, cutoff=0.7)] if rest else []


def image_rule_of(identity: str) -> ImageRule:
    """By whose rule the tokens of an image are counted for a model."""
    name = identity.partition("/")[0]
    return next((vendor.image_rule for vendor in VENDORS if vendor.name == name), "flat")


_HEAD = (
    "| vendor | address | key | variables that move the address | asked through | limits | tokens count "
    "| batches | images |\n|---|---|---|---|---|---|---|---|---|"
)


def vendors_table() -> str:
    """The table of docs/endpoints.md."""
    return "\n".join([_HEAD, *(f"| {' | '.join(_cells(vendor))} |" for vendor in VENDORS)]) + "\n"


def _cells(vendor: Vendor) -> Iterator[str]:
    yield f"`{vendor.name}/`" + "".join(f", `{prefix}...`" for prefix in vendor.bare)
    elsewhere = "that of your resource" if vendor.addresses else "as its SDK finds it"
    yield f"`{vendor.base_url}`" if vendor.base_url else elsewhere
    keys = vendor.keys or vendor.further_keys
    yield (_code(keys) or "as its SDK finds it") + (
        " if set" if vendor.keys and not vendor.key_needed else ""
    )
    yield _code(tuple(variable.name for variable in vendor.addresses))
    yield "OpenAI's protocol" if vendor.kind == "openai" else "litellm"
    yield "by model" if vendor.account_by_model else "by account"
    yield "all of `max_tokens`" if vendor.charging == "reserved" else "as used"
    yield "yes" if vendor.batches else "no"
    yield ", ".join(vendor.images)


def _code(names: tuple[str, ...]) -> str:
    return ", ".join(f"`{name}`" for name in names)


if __name__ == "__main__":
    sys.stdout.write(vendors_table())
