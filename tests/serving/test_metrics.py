"""What servers say of their work, in the words of real ones."""

import pytest

from safemt_client.serving.metrics import Metrics, read_metrics

# llama.cpp as xllamacpp 2026.10 serves it.
LLAMA_CPP = """\
# HELP llamacpp:prompt_tokens_total Number of prompt tokens processed, excluding cached tokens
# TYPE llamacpp:prompt_tokens_total counter
llamacpp:prompt_tokens_total 72
# TYPE llamacpp:prompt_tokens_cached_total counter
llamacpp:prompt_tokens_cached_total 138
llamacpp:prompt_seconds_total 3.17275
llamacpp:tokens_predicted_total 24
llamacpp:requests_deferred 0
"""
# vLLM 0.32 with two engines behind one address.
VLLM = """\
# TYPE vllm:prompt_tokens_total counter
vllm:prompt_tokens_total{engine="0",model_name="a b (vllm 0.32, bfloat16)"} 1.2e+03
vllm:prompt_tokens_total{engine="1",model_name="a b (vllm 0.32, bfloat16)"} 800.0
vllm:prompt_tokens_created{engine="0",model_name="a b (vllm 0.32, bfloat16)"} 1.8e+09
vllm:prompt_tokens_cached_total{engine="0",model_name="a b (vllm 0.32, bfloat16)"} 500.0
vllm:prefix_cache_hits_total{engine="0",model_name="a b (vllm 0.32, bfloat16)"} 400.0
vllm:generation_tokens_total{engine="0",model_name="a b (vllm 0.32, bfloat16)"} 24.0
vllm:request_queue_time_seconds_bucket{engine="0",le="+Inf",model_name="x"} 4.0
vllm:request_queue_time_seconds_count{engine="0",model_name="x"} 3.0
vllm:request_queue_time_seconds_count{engine="1",model_name="x"} 1.0
vllm:request_queue_time_seconds_sum{engine="0",model_name="x"} 2.0
"""


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (LLAMA_CPP, Metrics(210, 138, 24)),
        (VLLM, Metrics(2000, 500, 24, 2.0, 4)),
        # Before it had that name.
        (VLLM.replace("vllm:prompt_tokens_cached_total", "x"), Metrics(2000, 400, 24, 2.0, 4)),
        ("llamacpp:prompt_tokens_total 7", Metrics(7, None, 0)),
        ("vllm:prompt_tokens_total 7\nvllm:request_queue_time_seconds_count 0", Metrics(7, None, 0)),
        ("llamacpp:prompt_tokens_total much", None),
        ("<html>Not found</html>", None),
        ("", None),
    ],
)
def test_what_a_server_says(text: str, found: Metrics | None) -> None:
    assert read_metrics(text) == found
