"""The keywords of the API with their types, for editors and type checkers.

Made from the settings by `python -m safemt_client.cli.options --keywords`.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypedDict

__all__ = ["JudgeKeywords", "RunKeywords"]


class JudgeKeywords(TypedDict, total=False):
    """What `rejudge` takes beside the store and the run."""

    judge: object | Sequence[object] | None
    panel: Literal["majority", "unanimous", "chain"]
    judge_base_url: str | None
    rubric: str
    judge_sees: Literal["reply", "question", "dialogue", "image"] | None
    judge_logprobs: bool
    judge_temperature: float | Literal["none"]
    serve_option: str | Sequence[str] | None
    serve_python: str | Path
    gpus: str | Sequence[int] | None
    rpm: float | None
    tpm: float | None
    max_concurrency: int | None
    max_cost: float | None
    price: str | Sequence[str] | None
    batch: bool
    max_wait: float
    attempt_timeout: float
    turn_timeout: float
    quiet: bool
    si_rounds: Literal["1,2,4,6,8", "0,2,4,6,8"]
    log: str | None
    log_level: Literal["debug", "info", "warning", "error"]
    log_texts: bool
    on_finish: str | None
    otel: bool
    providers: Mapping[str, Mapping[str, Any]]
    accounts: Mapping[str, Mapping[str, float]]


class RunKeywords(JudgeKeywords, total=False):
    """What `run`, `arun` and `plan` take."""

    provider: object | Sequence[object]
    base_url: str | None
    temperature: float | Literal["none"]
    max_tokens: int | Literal["none"] | None
    top_p: float | None
    seed: int | None
    stop: str | Sequence[str] | None
    system_prompt: str | None
    extra_body: str | Mapping[str, Any] | None
    reasoning: Literal["auto", "on", "off"]
    reasoning_end: str | None
    header: str | Sequence[str] | None
    data: str | None
    data_map: str | None
    data_value: str | Sequence[str] | None
    data_config: str | None
    data_split: str | None
    follow_links: bool
    turns: str | Sequence[int] | None
    scenario: str | Sequence[str] | None
    limit: int | None
    sample: int | None
    sample_seed: int
    sample_by: Literal["item", "scenario"]
    samples: int
    history: Literal["scripted", "live", "none"]
    images: Literal["on", "off", "blank"]
    image_max_edge: int | None
    image_max_bytes: int | None
    image_format: Literal["original", "common", "jpeg", "png"]
    image_metadata: Literal["strip", "keep"]
    image_truncated: bool
    moderator: str | Sequence[str] | None
    moderator_turns: Literal["last", "every"]
    policy_place: Literal["system", "developer", "user"]
    policies: str | None
    on_guard_error: Literal["unassessed", "refuse", "pass"]
    controversial: Literal["unsafe", "safe"]
    guard_template: str | None
    guard_option: str | Sequence[str] | None
    stop_when: str | Sequence[str] | None
    min_coverage: float
    db: str | Path
    dry_run: bool
    fresh: bool
    new_run: bool
    workers: int | None
    ray: str | None
    ray_insecure: bool
    ray_accounts: str | None
    shard_size: int
