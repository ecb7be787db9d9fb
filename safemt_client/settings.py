"""The settings of a run: the one list of its options.

Each field of `RunSettings` is a flag of the command line, a key of the settings file and a keyword in
Python. Flags, their help and docs/options.md are made from the field's type, checks, default and `Option`, so
that a new option is written here and where it acts, and nowhere else.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, ValidationError, ValidationInfo, field_validator

from safemt_client.option import Option, OptionGroup, words_of
from safemt_client.providers.errors import InputError
from safemt_client.providers.responses.thinking import Reasoning
from safemt_client.providers.timeouts import DEFAULT_TIMEOUTS, Timeouts
from safemt_client.providers.vendors import DEMO_JUDGE, DEMO_TARGET
from safemt_client.tables import (
    AccountSettings,
    Calls,
    MaxTokens,
    PerMinute,
    ProviderSettings,
    Temperature,
    body_of,
    check_headers,
    price_in,
    stops_of,
    system_prompt_of,
)

__all__ = [
    "TABLES",
    "AccountSettings",
    "ProviderSettings",
    "RunSettings",
    "default_of",
    "kind_of",
    "options",
    "takes_none",
    "words_of",
]

_DEFAULT_JUDGE = "gpt-4o-mini"
"""The judge of the reference."""


_target = OptionGroup("Target")
_data = OptionGroup("Data")
_judge = OptionGroup("Judge", "judge")
_moderator = OptionGroup("Moderator")
_guard = OptionGroup("Moderator", "moderate")
_served = OptionGroup("Models on this machine", "judge", "moderate", decides=False)
_rate = OptionGroup("Limits and money", "judge", "moderate", decides=False)
_limit = OptionGroup("Limits and money", "judge", decides=False)
_run = OptionGroup("Run", decides=False)
_output = OptionGroup("Output", "judge", decides=False)


class RunSettings(BaseModel):
    """All that a run needs to know. Every field but the tables is a flag of the same name."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    provider: list[str] = _target(
        ...,
        "target: gpt-4o, anthropic/NAME, NAME@http://127.0.0.1:8000/v1, ALIAS=NAME@URL, demo; served here: "
        "llama.cpp:FILE.gguf, vllm:MODEL, transformers:MODEL (docs/local-models.md); repeatable",
        "NAME",
        min_length=1,
    )
    base_url: str | None = _target(None, "OpenAI-compatible endpoint of the targets", "URL", decides=False)
    temperature: Temperature = _target(0.0, "sampling temperature; none: as the endpoint has it", "T")
    max_tokens: MaxTokens | None = _target(
        None, "longest reply, in tokens; none: not sent", "N", "1024 for NAME@URL, otherwise not sent"
    )
    top_p: float | None = _target(
        None, "share of the probability to sample from", "P", "not sent", gt=0, le=1
    )
    seed: int | None = _target(None, "seed of the sampling", "N", "not sent")
    stop: list[str] | None = _target(None, "text that ends a reply; repeatable", "TEXT")
    system_prompt: str | None = _target(
        None, "system message before the dialogue: a file that holds it, or the text itself", "FILE|TEXT"
    )
    extra_body: dict[str, Any] | None = _target(
        None,
        'fields added to each request, such as {"top_k": 20}; a value $NAME is read from the environment',
        "JSON",
    )
    reasoning: Reasoning = _target(
        "auto",
        "reasoning in the text of replies is taken out where clear marks show it (auto), at any mark (on) or "
        "not at all (off)",
    )
    reasoning_end: str | None = _target(
        None, "text that ends the reasoning of a model whose marks are not known", "TEXT", min_length=1
    )
    header: list[str] | None = _target(
        None,
        "header added to each request; a VALUE such as $NAME is read from the environment; repeatable",
        "NAME=VALUE",
        decides=False,
    )
    providers: dict[str, ProviderSettings] = _target(
        {}, "what is said of one model: target, judge or guard (docs/endpoints.md)", commands=()
    )
    data: str | None = _data(
        None, "SafeMT folder, file, archive, hf:NAME, or sample", "PATH", "sample for the demo", decides=False
    )
    data_map: str | None = _data(
        None, "map by which the data are read: of data maps, or a file", "FILE.toml|NAME", decides=False
    )
    data_value: list[str] | None = _data(
        None, "a text that the map asks for; repeatable", "NAME=TEXT", decides=False
    )
    data_config: str | None = _data(None, "configuration on the hub", "NAME", "its default", decides=False)
    data_split: str | None = _data(None, "split on the hub", "NAME", "all", decides=False)
    follow_links: bool = _data(False, "follow links that lead out of the folder of the data", decides=False)
    turns: list[int] | None = _data(None, "only conversations with these numbers of user turns", "K,K", "all")
    scenario: list[str] | None = _data(None, "only this scenario; repeatable", "NAME", "all")
    limit: int | None = _data(
        None, "only the first N items in the order of the data: no random sample", "N", "all", ge=1
    )
    sample: int | None = _data(
        None, "N items drawn at random; a larger sample contains a smaller one", "N", "all", ge=1
    )
    sample_seed: int = _data(0, "another number draws other items", "N")
    sample_by: Literal["item", "scenario"] = _data(
        "item", "draw items whatever their scenario, or each scenario in its share of the data"
    )
    samples: int = _data(1, "independent replies to each request", "K", ge=1, le=1000)
    history: Literal["scripted", "live", "none"] = _data(
        "scripted", "earlier turns: as the data has them, with the target's own replies, or left out"
    )
    images: Literal["on", "off", "blank"] = _data(
        "on", "send the images, leave them out, or send blank ones of the same size"
    )
    image_max_edge: int | None = _data(None, "scale larger images to this longer side", "PX", "2048", ge=16)
    image_max_bytes: int | None = _data(
        None, "scale larger images down to this size", "N", "4000000", ge=1024
    )
    image_format: Literal["original", "common", "jpeg", "png"] = _data(
        "original",
        "format of what is sent: JPEG, PNG, WebP and GIF as they are, others as PNG or JPEG (original); only "
        "JPEG and PNG, which every endpoint takes (common); or all in one",
    )
    image_metadata: Literal["strip", "keep"] = _data(
        "strip", "leave out what else an image's file holds (camera, position, comments), or send it too"
    )
    image_truncated: bool = _data(False, "send truncated JPEG files too: what is missing is grey")
    judge: list[str] | None = _judge(
        None,
        "model, also llama.cpp:FILE.gguf, vllm:MODEL or transformers:MODEL; guard:GUARD=WHERE; none; "
        "repeat for a panel",
        "NAME",
        _DEFAULT_JUDGE,
    )
    panel: Literal["majority", "unanimous", "chain"] = _judge(
        "majority", "how the labels of a panel become one"
    )
    judge_base_url: str | None = _judge(None, "OpenAI-compatible endpoint of the judge", "URL", decides=False)
    rubric: str = _judge("paper", "paper, by-scenario, graded, or a TOML file", "NAME")
    judge_sees: Literal["reply", "question", "dialogue", "image"] | None = _judge(
        None, "what the judge is shown; each includes those before it", shown="as the rubric says"
    )
    judge_logprobs: bool = _judge(False, "ask for token probabilities, from which confidence is computed")
    judge_temperature: Temperature = _judge(
        0.6, "sampling temperature of the judge; none: as the endpoint has it", "T"
    )
    moderator: list[str] | None = _moderator(
        None,
        "wrap each target in a guard, or in none as the baseline; DO is policy, block, output or observe; "
        "WHERE is as for --provider, also llama.cpp:FILE.gguf, vllm:MODEL or transformers:MODEL, or "
        "local-model:FOLDER; repeatable",
        "GUARD[+DO]=WHERE",
    )
    moderator_turns: Literal["last", "every"] = _moderator(
        "last", "every: also assess the conversation as it stood at each earlier turn"
    )
    policy_place: Literal["system", "developer", "user"] = _guard(
        "system", "where a policy is put: the role of its message"
    )
    policies: str | None = _guard(None, "TOML file with policies of your own", "FILE")
    on_guard_error: Literal["unassessed", "refuse", "pass"] = _guard(
        "unassessed",
        "if the guard fails or its answer cannot be read: no score (HTTP 503 from the proxy), a refusal, "
        "or as if there were no guard",
    )
    controversial: Literal["unsafe", "safe"] = _guard(
        "unsafe", "how to count what a guard calls controversial"
    )
    guard_template: str | None = _guard(
        None, "TOML file with the prompt of a guard that takes one (docs/guards.md)", "FILE"
    )
    guard_option: list[str] | None = _guard(
        None, "option of a guard (docs/guards.md), such as generation=4.1; repeatable", "NAME=VALUE"
    )
    serve_option: list[str] | None = _served(
        None, "option of the servers that are started here (docs/local-models.md); repeatable", "NAME=VALUE"
    )
    serve_python: Path | None = _served(None, "interpreter that has the engine", "FILE", "its own")
    gpus: list[int] | None = _served(None, "numbers of the GPUs that the servers may use", "N,N", "all")
    rpm: PerMinute | None = _rate(
        None, "requests per minute, for each account", "N", "as the endpoint states"
    )
    tpm: PerMinute | None = _rate(None, "tokens per minute, for each account", "N", "as the endpoint states")
    max_concurrency: Calls | None = _rate(None, "calls in flight, for each account", "N", "adapts")
    accounts: dict[str, AccountSettings] = _limit(
        {}, "rpm, tpm and max_concurrency of one account (docs/limits.md)", commands=()
    )
    max_cost: float | None = _limit(
        None, "cost at which the run stops, its resumes included", "USD", "no cap", gt=0
    )
    price: list[str] | None = _limit(
        None,
        "US dollars per million tokens, for a model whose price is unknown or wrong; repeatable",
        "NAME=IN/OUT",
    )
    batch: bool = _limit(False, "ask in batches: answered within a day, at half the price")
    max_wait: float = _limit(
        DEFAULT_TIMEOUTS.max_wait_s,
        "seconds of waiting: between a turn's attempts, and for an outage of a target to end",
        "S",
        ge=0,
    )
    attempt_timeout: float = _limit(DEFAULT_TIMEOUTS.attempt_s, "seconds per attempt", "S", gt=0)
    turn_timeout: float = _limit(DEFAULT_TIMEOUTS.turn_s, "seconds in total per turn", "S", gt=0)
    stop_when: list[str] | None = _run(None, "end once it is decided (docs/stopping.md); repeatable", "RULE")
    min_coverage: float = _run(0.98, "coverage below which the exit status is 1", "X", ge=0, le=1)
    db: Path = _run(
        Path("safemt.duckdb"), "store: the DuckDB file with all results", "FILE", commands=("run", "judge")
    )
    dry_run: bool = _run(False, "print the plan with what it may cost, and stop")
    fresh: bool = _run(False, "ask everything again, as another sample")
    new_run: bool = _run(False, "start another run if the data set has changed")
    workers: int | None = _run(
        None, "processes that ask, on this machine or with --ray on the cluster", "N", "none", ge=1, le=1000
    )
    ray: str | None = _run(None, "run on the Ray cluster of this machine, or at an address", "auto|HOST:PORT")
    ray_insecure: bool = _run(False, "use a cluster across a network without tokens and TLS")
    ray_accounts: str | None = _run(
        None, "share limits with the other runs on the cluster that give this name", "NAME", "none"
    )
    shard_size: int = _run(150, "conversations that a worker is given at a time, at most", "N", ge=1)
    quiet: bool = _output(False, "print neither the plan nor progress")
    si_rounds: Literal["1,2,4,6,8", "0,2,4,6,8"] = _output(
        "1,2,4,6,8",
        "rounds of the printed Safety Index: 1,2,4,6,8, or 0,2,4,6,8 with one turn as round 0",
        "ROUNDS",
        commands=("run", "judge", "report"),
    )
    log: str | None = _output(None, "where to write the log in JSON Lines, or none", "FILE", "DB.RUN.log")
    log_level: Literal["debug", "info", "warning", "error"] = _output("info", "least severe level to log")
    log_texts: bool = _output(False, "log messages, replies and the wording of errors too")
    on_finish: str | None = _output(
        None, "run this command when the run has ended, however it did (docs/operations.md)", "COMMAND"
    )
    otel: bool = _output(False, "send traces to where the OTEL_... variables say")

    @field_validator("*", mode="before")
    @classmethod
    def _text_as_a_list(cls, value: Any, info: ValidationInfo) -> Any:
        """One name, or numbers with commas between them, where a list is wanted."""
        kind = kind_of(info.field_name or "")
        if not isinstance(value, str) or get_origin(kind) is not list:
            return value
        return [value] if kind == list[str] else [part.strip() for part in value.split(",")]

    @field_validator("on_finish")
    @classmethod
    def _divisible(cls, value: str | None) -> str | None:
        if value is not None:
            words_of(value)
        return value

    @field_validator("header", "system_prompt", "stop")
    @classmethod
    def _readable(cls, value: Any, info: ValidationInfo) -> Any:
        read: dict[str | None, Callable[[Any], Any]] = {
            "header": check_headers,
            "system_prompt": system_prompt_of,
            "stop": stops_of,
        }
        return None if value is None else read[info.field_name](value)

    @field_validator("extra_body", mode="before")
    @classmethod
    def _body(cls, value: object) -> object:
        return None if value is None else body_of(value)

    @property
    def prices(self) -> dict[str, dict[str, float]]:
        """The user's own prices: US dollars per token for input and output, by the name of the model."""
        return dict(price_in(text) for text in self.price or ())

    def price_of(self, name: str) -> dict[str, float] | None:
        """The user's own prices of a model; those of NAME are those of every NAME@URL that has none."""
        return self.prices.get(name, self.prices.get(name.partition("@http")[0]))

    @property
    def timeouts(self) -> Timeouts:
        """How long a request may take."""
        return Timeouts(self.max_wait, self.attempt_timeout, self.turn_timeout)

    @property
    def demo(self) -> bool:
        """Whether every target is the built-in demo endpoint."""
        return all(name == DEMO_TARGET for name in self.provider)

    @property
    def dataset(self) -> str:
        """The data set to read; the demo has its own."""
        if self.data is None and self.demo:
            return "sample"
        if self.data is None:
            raise InputError(
                "--data is missing: name the SafeMT folder, a .jsonl file, or 'sample' for the benign one"
            )
        return self.data

    @property
    def judge_names(self) -> list[str]:
        """The judges' provider names, none for no judging. The default is the reference's model."""
        if self.judge is None:
            return [DEMO_JUDGE if self.demo else _DEFAULT_JUDGE]
        if "none" in self.judge:
            if len(self.judge) > 1:
                raise InputError("--judge none: cannot be combined with other judges: leave one of them out")
            return []
        return self.judge

    @property
    def deciding(self) -> dict[str, Any]:
        """What decides the replies or the labels, as JSON has it: what a store keeps of a run's settings."""
        kept = {name for name, option in options().items() if option.decides}
        tables = {name: said for name, table in self.providers.items() if (said := table.kept)}
        return self.model_dump(mode="json", include=kept) | {"judge": self.judge_names, "providers": tables}

    @property
    def deciding_labels(self) -> dict[str, Any]:
        """The part of `deciding` that is about the judges."""
        return {name: value for name, value in self.deciding.items() if options()[name].group == _judge.name}

    def decide_as(self, kept: Mapping[str, Any]) -> bool:
        """Whether these decide the same as those that a store keeps, perhaps of another version's run.

        A setting that is not stored has its default, and one that is unknown here is ignored.
        """
        try:
            other = RunSettings.model_validate(
                {name: value for name, value in kept.items() if name in RunSettings.model_fields}
            )
        except ValidationError:
            return False
        return other.deciding == self.deciding


def options(command: str | None = None) -> dict[str, Option]:
    """The options of all settings, or of those that `command` has a flag for, by the name of their field."""
    found = {name: field.json_schema_extra for name, field in RunSettings.model_fields.items()}
    return {
        name: option
        for name, option in found.items()
        if isinstance(option, Option) and (command is None or command in option.commands)
    }


TABLES = tuple(name for name, option in options().items() if not option.commands)
"""The settings that are tables of the settings file, one for each account or model, and have no flag."""


def kind_of(name: str) -> Any:
    """The type of a setting's value: that of its field, without None, `none` and checks."""
    kind: Any = RunSettings.model_fields[name].annotation
    if get_origin(kind) in (Union, UnionType):
        (kind,) = (part for part in get_args(kind) if part not in (NoneType, Literal["none"]))
    return get_args(kind)[0] if get_origin(kind) is Annotated else kind


def takes_none(name: str) -> bool:
    """Whether the word `none` is a value of a setting, beside those of its type."""
    return Literal["none"] in get_args(RunSettings.model_fields[name].annotation)


def default_of(name: str) -> str | None:
    """The default of a setting in words; None if it is required or has no default."""
    default = RunSettings.model_fields[name].default
    if (shown := options()[name].shown) is not None:
        return shown
    if isinstance(default, int | float) and not isinstance(default, bool):
        return f"{default:g}"
    return str(default) if isinstance(default, str | Path) else None
