"""Flags: those made from the settings, and those that do not go with others."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from safemt_client.providers.errors import InputError
from safemt_client.settings import RunSettings, default_of, kind_of, options, takes_none

__all__ = ["DEFAULT_DB", "add_setting", "add_settings", "flag_of", "refuse_flags"]

DEFAULT_DB: Path = RunSettings.model_fields["db"].default


def flag_of(name: str) -> str:
    """The flag of a setting."""
    return "--" + name.replace("_", "-")


def add_settings(parser: argparse.ArgumentParser, command: str) -> None:
    """Add the flags of all settings that a command has, under the headings of their groups."""
    groups: dict[str, argparse._ArgumentGroup] = {}
    for name, option in options(command).items():
        if option.group not in groups:
            groups[option.group] = parser.add_argument_group(option.group)
        add_setting(groups[option.group], name)


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
