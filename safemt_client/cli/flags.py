"""Flags that mean nothing beside others are refused: whoever gives one expects something of it."""

from __future__ import annotations

import argparse

from safemt_client.providers.errors import InputError

__all__ = ["refuse_flags"]


def refuse_flags(arguments: argparse.Namespace, names: tuple[str, ...], why: str) -> None:
    """Refuse those of the arguments that were given, that is, are not None.

    Raises:
        InputError: one of them was given; `why` says what it does not go with, and what to do.
    """
    for name in names:
        if getattr(arguments, name) is not None:
            raise InputError(f"--{name.replace('_', '-')}: {why}")
