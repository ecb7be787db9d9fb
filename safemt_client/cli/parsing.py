"""The parser of a command line: what is wrong with it is said in one line, with what may have been meant."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from typing import Any, NoReturn

from safemt_client.cli.formatting import Formatter
from safemt_client.results.sanitize import plain

__all__ = ["Parser", "did_you_mean", "unknown_options"]

_SAID = (
    (r"^the following arguments are required: (.*)$", r"\1: is missing"),
    (r"invalid int value: ('.*')$", r"\1 is not a whole number"),
    (r"invalid float value: ('.*')$", r"\1 is not a number"),
    (r"expected one argument$", "needs a value"),
)
"""What argparse says, and what is said in its place."""


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line; it quotes words so that they are harmless on a screen."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**({"formatter_class": Formatter} | options))

    def error(self, message: str) -> NoReturn:
        """Print what is wrong and leave with status 2."""
        text = plain(message).removeprefix("argument ")
        for pattern, said in _SAID:
            text = re.sub(pattern, said, text)
        self.exit(2, f"safemt: {text}{' See' if text.endswith('?') else '; see'}: {self.prog} --help\n")

    def _check_value(self, action: argparse.Action, value: object) -> None:
        if action.choices is None or value in action.choices:
            return
        known = [str(choice) for choice in action.choices]
        near = did_you_mean(str(value), known)
        raise argparse.ArgumentError(
            action if action.option_strings else None,
            f"invalid choice: {value!r} (choose from {', '.join(known)}){near}",
        )


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """The known words that are near to one, as a question; empty if none is."""
    found = get_close_matches(word, list(known), n=2, cutoff=0.6)
    return f"; did you mean {' or '.join(found)}?" if found else ""


def unknown_options(parser: argparse.ArgumentParser, words: Sequence[str]) -> str:
    """What is wrong with words that a command does not know; what follows an option may be a key."""
    flags = [word.partition("=")[0] for word in words if word.startswith("-")]
    if not flags:
        return f"{words[0]}: {parser.prog} takes no such word"
    return f"{flags[0]}: {parser.prog} has no such option{did_you_mean(flags[0], flags_of(parser))}"


def flags_of(parser: argparse.ArgumentParser) -> list[str]:
    """All flags of a parser and of its actions."""
    found: list[str] = []
    for action in parser._actions:
        found += [flag for flag in action.option_strings if flag.startswith("--")]
        if isinstance(action, argparse._SubParsersAction):
            for inner in action.choices.values():
                found += flags_of(inner)
    return list(dict.fromkeys(found))
