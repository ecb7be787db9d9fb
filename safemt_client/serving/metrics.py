"""What a server says of its own work: tokens, prefix cache and queue, as Prometheus text."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["Metrics", "Use", "read_metrics"]

# A name, labels perhaps, and a value.
_LINE = re.compile(r"^([A-Za-z_:][\w:]*)(?:\{.*\})?[ \t]+(\S+)", re.MULTILINE)


@dataclass(frozen=True)
class Metrics:
    """Sums over some time. None is what an engine does not count."""

    prompt_tokens: int
    """Tokens of prompts, those from the cache included."""
    cached_tokens: int | None
    """How many of them came from the prefix cache."""
    completion_tokens: int
    queued_s: float = 0.0
    """Seconds that requests waited before the server began with them, all together."""
    queued: int = 0
    """How many requests that is the time of; 0 where the engine does not say."""

    @property
    def queue_s(self) -> float | None:
        """Seconds that a request waited on average."""
        return self.queued_s / self.queued if self.queued else None

    def since(self, earlier: Metrics | None) -> Metrics:
        """What was added to earlier sums of the same start of a server."""
        if earlier is None:
            return self
        cached = self.cached_tokens
        return Metrics(
            self.prompt_tokens - earlier.prompt_tokens,
            None if cached is None else cached - (earlier.cached_tokens or 0),
            self.completion_tokens - earlier.completion_tokens,
            self.queued_s - earlier.queued_s,
            self.queued - earlier.queued,
        )


@dataclass(frozen=True)
class Use:
    """What a server did in a part of one session."""

    server: str
    """Its name, as the user wrote it."""
    requests: int
    """Requests that were sent to it."""
    seconds: float
    """How long that part was; it begins when the server is first ready."""
    metrics: Metrics | None
    """What it says itself; None where it says nothing."""


def read_metrics(text: str) -> Metrics | None:
    """What vLLM or llama.cpp tells; None if it is neither."""
    sums = _sums(text)
    if "vllm:prompt_tokens_total" in sums:
        return Metrics(
            int(sums["vllm:prompt_tokens_total"]),
            # The second is the name in earlier versions.
            _whole(sums, "vllm:prompt_tokens_cached_total", "vllm:prefix_cache_hits_total"),
            int(sums.get("vllm:generation_tokens_total", 0)),
            sums.get("vllm:request_queue_time_seconds_sum", 0.0),
            int(sums.get("vllm:request_queue_time_seconds_count", 0)),
        )
    if "llamacpp:prompt_tokens_total" in sums:
        cached = _whole(sums, "llamacpp:prompt_tokens_cached_total")
        return Metrics(
            # It does not count those from the cache among the others.
            int(sums["llamacpp:prompt_tokens_total"]) + (cached or 0),
            cached,
            int(sums.get("llamacpp:tokens_predicted_total", 0)),
        )
    return None


def _sums(text: str) -> dict[str, float]:
    """The value of each name, over all its labels: each of several engines of a server has its own."""
    sums: dict[str, float] = {}
    for name, value in _LINE.findall(text):
        try:
            sums[name] = sums.get(name, 0.0) + float(value)
        except ValueError:
            continue
    return sums


def _whole(sums: Mapping[str, float], *names: str) -> int | None:
    return next((int(sums[name]) for name in names if name in sums), None)
