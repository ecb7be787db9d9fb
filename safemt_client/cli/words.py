"""The commands about the program itself: `help`, `version` and `init`."""

from __future__ import annotations

import argparse
import os

from safemt_client import __version__
from safemt_client.providers.errors import InputError
from safemt_client.results.sanitize import quoted, shown_path

__all__ = ["help_", "init", "version"]


def help_(arguments: argparse.Namespace) -> int:
    """Show the help of the program or of a command."""
    from safemt_client.cli.parser import COMMANDS, make_parser
    from safemt_client.cli.parsing import did_you_mean

    words = arguments.words
    if words and words[0] not in COMMANDS:
        raise InputError(f"help {words[0]}: no such command{did_you_mean(words[0], COMMANDS)}")
    # It prints and ends the program.
    make_parser(words).parse_args([*words, "--help"])
    return 0


def version(arguments: argparse.Namespace) -> int:
    """Show the version."""
    print(f"safemt_client {__version__}")
    return 0


def init(arguments: argparse.Namespace) -> int:
    """Write a settings file; one that is there stays as it is."""
    from safemt_client.cli.settings_file import settings_file

    path = arguments.file
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
    except FileExistsError:
        raise InputError(f"{path}: is there already: name another file, or delete it") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be written: {error.strerror}") from None
    with open(descriptor, "w", encoding="utf-8") as file:
        file.write(settings_file(quoted(path)))
    print(f"{shown_path(path)}: all options, and what they do; next:  safemt --config {quoted(path)}")
    return 0
