"""The settings of a run, from flags and a TOML file. Flags win."""

from __future__ import annotations

import math
import shlex
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from safemt_client.providers.errors import InputError

__all__ = ["RunSettings", "load_settings", "words_of"]


# Everything that decides the replies or the labels is part of a run; these are not.
_NOT_DECIDING = {
    *("base_url", "data", "db", "dry_run", "fresh", "new_run", "quiet", "min_coverage"),
    *("rpm", "tpm", "max_concurrency", "accounts", "max_wait", "attempt_timeout", "turn_timeout"),
    *("max_cost", "price", "batch"),
    *("judge_base_url", "follow_links"),
    *("log", "log_level", "log_texts", "on_finish", "otel"),
}


def words_of(command: str) -> list[str]:
    """The words of a command, as a shell would divide them.

    Raises:
        ValueError: a quotation is not closed, or there is no word.
    """
    words = shlex.split(command)
    if not words:
        raise ValueError("no command")
    return words


class AccountSettings(BaseModel):
    """Limits of one account: a table `[accounts.NAME]` of the settings file, which has no flag."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    rpm: float | None = Field(None, gt=0)
    tpm: float | None = Field(None, gt=0)
    max_concurrency: int | None = Field(None, ge=1, le=10_000)


class RunSettings(BaseModel):
    """All that a run needs to know. Every field but `accounts` is a flag of the same name."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    provider: list[str] = Field(min_length=1)
    data: str | None = None
    base_url: str | None = None
    follow_links: bool = False
    turns: list[int] | None = None
    scenario: list[str] | None = None
    limit: int | None = Field(None, ge=1)
    history: Literal["scripted", "live", "none"] = "scripted"
    images: Literal["on", "off", "blank"] = "on"
    image_max_edge: int | None = Field(None, ge=16)
    image_max_bytes: int | None = Field(None, ge=1024)
    temperature: float | None = Field(0.0, ge=0, le=2)
    max_tokens: int | None = Field(None, ge=1)
    top_p: float | None = Field(None, gt=0, le=1)
    seed: int | None = None
    judge: list[str] | None = None
    panel: Literal["majority", "unanimous", "chain"] = "majority"
    judge_base_url: str | None = None
    rubric: str = "paper"
    judge_sees: Literal["reply", "question", "dialogue", "image"] | None = None
    judge_logprobs: bool = False
    judge_temperature: float = Field(0.6, ge=0, le=2)
    moderator: list[str] | None = None
    policy_place: Literal["system", "developer", "user"] = "system"
    policies: str | None = None
    on_guard_error: Literal["unassessed", "refuse", "pass"] = "unassessed"
    controversial: Literal["unsafe", "safe"] = "unsafe"
    moderator_turns: Literal["last", "every"] = "last"
    guard_template: str | None = None
    guard_option: list[str] | None = None
    rpm: float | None = Field(None, gt=0)
    tpm: float | None = Field(None, gt=0)
    max_concurrency: int | None = Field(None, ge=1, le=10_000)
    accounts: dict[str, AccountSettings] = Field(default_factory=dict)
    max_cost: float | None = Field(None, gt=0)
    price: list[str] | None = None
    batch: bool = False
    max_wait: float = Field(3600, ge=0)
    attempt_timeout: float = Field(180, gt=0)
    turn_timeout: float = Field(7200, gt=0)
    min_coverage: float = Field(0.98, ge=0, le=1)
    db: Path = Path("safemt.duckdb")
    dry_run: bool = False
    fresh: bool = False
    new_run: bool = False
    quiet: bool = False
    log: str | None = None
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_texts: bool = False
    on_finish: str | None = None
    otel: bool = False

    @field_validator("provider", "judge", "moderator", "guard_option", mode="before")
    @classmethod
    def _one_as_a_list(cls, value: Any) -> Any:
        return [value] if isinstance(value, str) else value

    @field_validator("turns", mode="before")
    @classmethod
    def _split_numbers(cls, value: Any) -> Any:
        return [part.strip() for part in value.split(",")] if isinstance(value, str) else value

    @field_validator("on_finish")
    @classmethod
    def _divisible(cls, value: str | None) -> str | None:
        if value is not None:
            words_of(value)
        return value

    @property
    def prices(self) -> dict[str, dict[str, float]]:
        """The user's own prices: US dollars a token for input and output, by the name of the model."""
        return dict(_price(text) for text in self.price or ())

    @property
    def demo(self) -> bool:
        """Whether every target is the built-in demo endpoint."""
        return all(name == "demo" for name in self.provider)

    @property
    def dataset(self) -> str:
        """The data set to read; the demo has one of its own."""
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
            return ["demo-judge" if self.demo else "gpt-4o-mini"]
        if "none" in self.judge:
            if len(self.judge) > 1:
                raise InputError("--judge none: stands alone: leave the other judges out, or the none")
            return []
        return self.judge

    @property
    def deciding(self) -> dict[str, Any]:
        """What decides the replies or the labels, as JSON has it: what a store keeps of a run's settings."""
        return self.model_dump(mode="json", exclude=_NOT_DECIDING) | {"judge": self.judge_names}

    def decide_as(self, kept: Mapping[str, Any]) -> bool:
        """Whether these decide the same as those that a store keeps, perhaps of another version's run.

        A setting that is not kept has its default, and one that is not known here is passed over.
        """
        try:
            other = RunSettings.model_validate(
                {name: value for name, value in kept.items() if name in RunSettings.model_fields}
            )
        except ValidationError:
            return False
        return other.deciding == self.deciding


def _price(text: str) -> tuple[str, dict[str, float]]:
    name, _, figures = text.rpartition("=")
    parts = figures.split("/")
    try:
        values = [float(part) for part in parts]
    except ValueError:
        values = []
    if not name or len(values) != 2 or not all(0 <= value < math.inf for value in values):
        raise InputError(
            f"--price {text!r}: write NAME=INPUT/OUTPUT in US dollars a million tokens, such as gpt-4o=2.5/10"
        )
    return name, {"input": values[0] / 1e6, "output": values[1] / 1e6}


def _underscored(table: Mapping[str, Any]) -> dict[str, Any]:
    return {name.replace("-", "_"): value for name, value in table.items()}


def load_settings(flags: Mapping[str, Any], config: Path | None) -> RunSettings:
    """Settings from the flags that were given and from a TOML file.

    Raises:
        InputError: the file cannot be read, or a value is not allowed.
    """
    given: dict[str, Any] = {}
    if config is not None:
        try:
            given = tomllib.loads(config.read_text(encoding="utf-8"))
        except OSError as error:
            raise InputError(f"{config}: {error.strerror}: name an existing TOML file") from error
        except (ValueError, RecursionError) as error:
            raise InputError(f"{config}: not TOML: {error}") from error
        given = _underscored(given)
        if isinstance(accounts := given.get("accounts"), dict):
            given["accounts"] = {
                name: _underscored(table) if isinstance(table, dict) else table
                for name, table in accounts.items()
            }
    given |= {name: value for name, value in flags.items() if value is not None}
    try:
        return RunSettings.model_validate(given)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = "--" + str(first["loc"][0]).replace("_", "-") if first["loc"] else "settings"
        if first["loc"][:1] == ("accounts",):
            field = ".".join(str(part).replace("_", "-") for part in first["loc"])
        where = f"{config}: " if config is not None else ""
        if first["type"] == "missing":
            raise InputError(f"{where}{field} is missing: for example --provider gpt-4o") from None
        if first["type"] == "extra_forbidden":
            raise InputError(f"{where}{field}: there is no such setting") from None
        raise InputError(f"{where}{field} {first['input']!r}: {first['msg'].lower()}") from None
