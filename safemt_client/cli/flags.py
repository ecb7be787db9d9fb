"""Flags: those made from the settings, and those that do not go with others."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from safemt_client.providers.errors import InputError
from safemt_client.settings import RunSettings, default_of, kind_of, options, takes_none

__all__ = [
    "DEFAULT_DB",
    "FEW_NEED",
    "SERVING",
    "add_setting",
    "add_settings",
    "flag_of",
    "refuse_facts",
    "refuse_flags",
]

DEFAULT_DB: Path = RunSettings.model_fields["db"].default

_HEADINGS = {"Target": "What to ask", "Data": "What to ask", "Run": "Output"}
_ELSEWHERE = {"fresh": "What to ask", "dry_run": "Limits and money", "stop_when": "Limits and money"}
_ADVANCED = "Advanced"
FEW_NEED = frozenset(
    (
        *("base_url", "top_p", "seed", "stop", "extra_body", "reasoning", "reasoning_end", "header"),
        *("data_map", "data_value", "data_config", "data_split", "follow_links", "sample_seed", "sample_by"),
        *("image_max_edge", "image_max_bytes", "image_format", "image_metadata", "image_truncated"),
        *("judge_base_url", "judge_logprobs", "judge_temperature"),
        *("policy_place", "policies", "on_guard_error", "controversial", "guard_template", "guard_option"),
        *("max_wait", "attempt_timeout", "turn_timeout", "min_coverage", "new_run"),
        *("log_level", "log_texts", "otel", "serve_option", "serve_python", "gpus"),
    )
)
"""Settings that help lists last."""

SERVING = ("serve_option", "serve_python", "gpus")
"""Settings of the servers of models on this machine."""


def flag_of(name: str) -> str:
    """The flag of a setting."""
    return "--" + name.replace("_", "-")


def add_settings(parser: argparse.ArgumentParser, command: str) -> None:
    """Add the flags of all settings that a command has, under their headings."""
    listed: dict[str, list[str]] = {}
    for name, option in options(command).items():
        heading = _ADVANCED if name in FEW_NEED else _HEADINGS.get(option.group, option.group)
        listed.setdefault(_ELSEWHERE.get(name, heading), []).append(name)
    last = listed.pop(_ADVANCED, [])
    for heading, names in (listed | ({_ADVANCED: last} if last else {})).items():
        group = parser.add_argument_group(heading)
        for name in names:
            add_setting(group, name)


def add_setting(
    parser: argparse._ActionsContainer, name: str, *, help: str | None = None, default: str | None = None
) -> None:
    """Add the flag of one setting; where it is not given its value is None.

    `help` and `default` (in words) replace those of the setting where a command means something else.
    """
    option, kind, default = options()[name], kind_of(name), default or default_of(name)
    text = (help or option.help) + (f" (default: {default})" if default else "")
    form: dict[str, Any] = {"metavar": option.metavar}
    if kind is bool:
        form = {"action": "store_true"}
    elif get_origin(kind) is Literal:
        form |= {"choices": get_args(kind)}
    elif kind == list[str]:
        form["action"] = "append"
    elif kind in (int, float, Path) and not takes_none(name):
        form["type"] = kind
    parser.add_argument(flag_of(name), default=None, help=text.replace("%", "%%"), **form)


def refuse_flags(arguments: argparse.Namespace, names: tuple[str, ...], why: str) -> None:
    """Refuse those of the arguments that were given, that is, are not None.

    Raises:
        InputError: one of them was given; `why` says what it does not go with, and what to do.
    """
    for name in names:
        if getattr(arguments, name) is not None:
            raise InputError(f"{flag_of(name)}: {why}")


def refuse_facts(db: Path, command: str) -> None:
    """Refuse what stands where a store's path is expected if it is a folder or a bucket.

    Raises:
        InputError: it is.
    """
    from safemt_client.results.store.facts_folder import is_facts

    if is_facts(db):
        raise InputError(f"{command}: facts have no texts: name a store with --db")
