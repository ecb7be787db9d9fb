"""Tokens and cost, in the names and forms of many vendors."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from safemt_client.providers.responses.usage import usage_of, usage_stated
from safemt_client.providers.types import Usage


def openai(
    prompt: Any, completion: Any, total: Any = None, *, cached: Any = None, reasoning: Any = None
) -> Any:
    usage = {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": total}
    usage["prompt_tokens_details"] = {"cached_tokens": cached}
    usage["completion_tokens_details"] = {"reasoning_tokens": reasoning}
    return usage


@pytest.mark.parametrize(
    ("stated", "prompt", "completion"),
    [
        (openai(7, 3, 10), 7, 3),
        (openai("12", "5", "17"), 12, 5),
        (openai(12.0, 5.0), 12, 5),
        ({"input_tokens": 12, "output_tokens": 5}, 12, 5),
        ({"inputTokens": 12, "outputTokens": 5, "totalTokens": 17}, 12, 5),
        ({"promptTokenCount": 12, "candidatesTokenCount": 5, "totalTokenCount": 17}, 12, 5),
        ({"promptTokenCount": 12, "totalTokenCount": 12}, 12, 0),
        (openai(None, 5, 17), 12, 5),
        (openai(7, 3, 5), 7, 3),
    ],
)
def test_names_and_forms(stated: Any, prompt: int, completion: int) -> None:
    assert usage_of(stated) == Usage(prompt, completion)


@pytest.mark.parametrize(
    ("stated", "prompt", "completion", "estimated"),
    [
        # A cache that cannot be in the prompt, then reasoning that cannot be in the completion.
        (openai(20, 5, 125, cached=100), 120, 5, False),
        (openai(12, 1, 399, reasoning=386), 12, 387, False),
        (openai(20, 5, 175, cached=100, reasoning=50), 120, 55, False),
        # The cache is in the prompt: the surplus is the reasoning.
        (openai(200, 1, 587, cached=64, reasoning=386), 200, 387, False),
        (openai(200, 5, 355, cached=100, reasoning=50), 300, 55, False),
        (openai(20, 5, 127, cached=100) | {"cache_creation_input_tokens": 2}, 122, 5, False),
        (
            {
                "promptTokenCount": 9,
                "candidatesTokenCount": 1,
                "thoughtsTokenCount": 20,
                "totalTokenCount": 30,
            },
            9,
            21,
            False,
        ),
        # What nothing explains is the completion's, as an estimate.
        (openai(10, 5, 30), 10, 20, True),
        (openai(10, 5, 40, reasoning=12), 10, 30, True),
        ({"total_tokens": 50}, 0, 50, True),
        # Without a total, only what cannot be otherwise.
        (openai(12, 1, reasoning=386), 12, 387, False),
        (openai(12, 400, reasoning=386), 12, 400, False),
        (openai(20, 5, cached=100), 120, 5, False),
        ({"input_tokens": 500, "output_tokens": 5, "cache_read_input_tokens": 100}, 600, 5, False),
        (
            {"inputTokens": 500, "outputTokens": 5, "totalTokens": 505, "cacheReadInputTokens": 100},
            600,
            5,
            False,
        ),
    ],
)
def test_what_belongs_to_prompt_and_completion(
    stated: Any, prompt: int, completion: int, estimated: bool
) -> None:
    found = usage_of(stated)
    assert (found.prompt_tokens, found.completion_tokens, found.estimated) == (prompt, completion, estimated)


@pytest.mark.parametrize(
    ("stated", "cached"),
    [
        (openai(100, 5, cached=64), 64),
        (openai(100, 5) | {"prompt_cache_hit_tokens": 64, "prompt_cache_miss_tokens": 36}, 64),
        (openai(100, 5) | {"cached_tokens": "64"}, 64),
        ({"input_tokens": 36, "output_tokens": 5, "cache_read_input_tokens": 64}, 64),
        ({"promptTokenCount": 100, "cachedContentTokenCount": 64}, 64),
    ],
)
def test_cache_hits(stated: Any, cached: int) -> None:
    assert usage_of(stated).cached_tokens == cached


@pytest.mark.parametrize("odd", [True, -1, 5.5, "five", "", [], {}, None, float("nan"), 10**12, "1e400"])
def test_what_is_no_count_is_unknown(odd: Any) -> None:
    assert usage_of(openai(odd, odd, odd, cached=odd, reasoning=odd)) == Usage()


def test_costs_in_several_forms() -> None:
    assert usage_of({"cost": 0.5}).cost_usd == 0.5
    assert usage_of({"cost": "0.5"}).cost_usd == 0.5
    assert usage_of({"cost": {"total_cost": 0.5}}).cost_usd == 0.5
    assert usage_of({"estimated_cost": 0.5}).cost_usd == 0.5
    assert usage_of({"cost": -1}).cost_usd is None
    assert usage_of({"cost_in_usd_ticks": 37756000}).cost_usd == pytest.approx(0.0037756)


@pytest.mark.parametrize(
    ("byok", "upstream", "cost"),
    [(True, 0.25, 0.5), (False, 0.25, 0.25), (True, None, 0.25), (True, "x", 0.25)],
)
def test_a_router_s_price_leaves_out_what_a_key_of_ones_own_pays(
    byok: bool, upstream: Any, cost: float
) -> None:
    stated = {"cost": 0.25, "is_byok": byok, "cost_details": {"upstream_inference_cost": upstream}}
    assert usage_of(stated).cost_usd == cost


def test_where_it_is_stated() -> None:
    assert usage_stated({"usage": {"a": 1}}) == {"a": 1}
    assert usage_stated({"usageMetadata": {"a": 1}}) == {"a": 1}
    assert usage_stated({"usage": None, "x_groq": {"usage": {"a": 1}}}) == {"a": 1}
    assert usage_stated({"usage": [1]}) == {}


counts = st.one_of(st.none(), st.integers(0, 2_000))


@given(counts, counts, counts, counts, counts, counts)
def test_never_negative_and_never_less_than_the_total(
    prompt: int | None,
    completion: int | None,
    total: int | None,
    cached: int | None,
    reasoning: int | None,
    created: int | None,
) -> None:
    stated = openai(prompt, completion, total, cached=cached, reasoning=reasoning)
    found = usage_of(stated | {"cache_creation_input_tokens": created})
    assert (found.prompt_tokens or 0) >= (prompt or 0)
    assert (found.completion_tokens or 0) >= (completion or 0)
    if total is not None:
        assert found.prompt_tokens is not None
        assert found.completion_tokens is not None
        both = found.prompt_tokens + found.completion_tokens
        assert both >= total
        if total > (prompt or 0) + (completion or 0):
            assert both == total
    # The price of what did not come from the cache is never negative.
    assert found.prompt_tokens is None or (found.cached_tokens or 0) <= found.prompt_tokens
