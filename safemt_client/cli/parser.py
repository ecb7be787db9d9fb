"""The commands of the program, each stated once, and the parser that is made from them.

The arguments of a command are added, and the module that runs it is imported, only when it is called,
so that `--help` is quick.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import NoReturn

from safemt_client import __version__
from safemt_client.cli import arguments
from safemt_client.cli.formatting import Formatter
from safemt_client.results.sanitize import plain

__all__ = ["COMMANDS", "Command", "make_parser", "with_command"]

_DEFAULT_COMMAND = "run"
_EXIT_STATUSES = """'COMMAND --help' lists the options of a command.
Exit status: 0 done, 1 stopped early or coverage too low (the same command
resumes), 2 bad input; of gate: 1 broken, 3 undecided."""


@dataclass(frozen=True)
class Command:
    """One command of the program.

    Attributes:
        name: the word on the command line.
        help: what it does, in one line.
        add_arguments: adds its arguments to its parser.
        runs: `module:function` in this folder that carries it out and returns the exit status.
        usage: the line of usage where the one that argparse makes is too long to be read.
    """

    name: str
    help: str
    add_arguments: Callable[[argparse.ArgumentParser], None]
    runs: str
    usage: str | None = None

    def run(self, arguments: argparse.Namespace) -> int:
        """Carry it out; return the exit status."""
        module, _, function = self.runs.partition(":")
        carry_out: Callable[[argparse.Namespace], int] = getattr(
            import_module(f"safemt_client.cli.{module}"), function
        )
        return carry_out(arguments)


def with_command(words: Sequence[str]) -> list[str]:
    """The words of a command line with the default command where they name none."""
    named = not words or words[0] in COMMANDS or words[0] in ("-h", "--help", "--version")
    return [*words] if named else [_DEFAULT_COMMAND, *words]


class _Parser(argparse.ArgumentParser):
    """Quotes words of the command line so that they are harmless on a screen."""

    def error(self, message: str) -> NoReturn:
        super().error(plain(message))


def make_parser(words: Sequence[str] = ()) -> argparse.ArgumentParser:
    """The parser for these words: it knows all commands, and the arguments of the one that they name."""
    parser = _Parser(
        prog="safemt",
        description="Measure how a multimodal model behaves when harm is spread over a conversation.",
        usage="safemt --provider NAME --data PATH [options] | safemt COMMAND ...",
        epilog=_epilog(),
        formatter_class=Formatter,
    )
    parser.add_argument("--version", action="version", version=f"safemt_client {__version__}")
    commands = parser.add_subparsers(dest="command", prog="safemt", help=argparse.SUPPRESS)
    for command in COMMANDS.values():
        made = commands.add_parser(
            command.name,
            description=f"{command.help[0].upper()}{command.help[1:]}.",
            usage=command.usage,
            formatter_class=Formatter,
        )
        if command.name in words[:1]:
            command.add_arguments(made)
    return parser


def _epilog() -> str:
    width = max(map(len, COMMANDS))
    rows = [f"  {command.name:<{width}}  {command.help}" for command in COMMANDS.values()]
    return "\n".join([f"commands ({_DEFAULT_COMMAND} is the default):", *rows, "", _EXIT_STATUSES])


_LIST = (
    Command(
        "run",
        "ask targets, judge and score; the same command resumes",
        arguments.run,
        "commands:run",
        usage="safemt [run] --provider NAME --data PATH [options]",
    ),
    Command(
        "report",
        "print or write the scores of a run",
        arguments.report,
        "commands:report",
    ),
    Command(
        "compare",
        "compare runs, targets or moderators on the same items",
        arguments.compare,
        "commands:compare",
    ),
    Command(
        "leaderboard",
        "rank targets, as far as the data can tell them apart",
        arguments.leaderboard,
        "commands:leaderboard",
    ),
    Command(
        "sql",
        "query the store, also while a run goes on",
        arguments.sql,
        "commands:sql",
    ),
    Command(
        "runs",
        "list the runs of a store",
        arguments.runs,
        "commands:runs",
    ),
    Command(
        "judge",
        "judge a stored run again, without asking the target",
        arguments.judging_again,
        "commands:judge",
        usage="safemt judge [--db FILE] [--run ID] [options]",
    ),
    Command(
        "calibrate",
        "measure a judge on replies that people have labelled",
        arguments.calibrate,
        "calibrate:calibrate",
        usage="safemt calibrate --judge NAME --set FILE [options] | --list",
    ),
    Command(
        "view", "open a local page on a store: conversations, verdicts, SQL", arguments.view, "commands:view"
    ),
    Command(
        "label", "label a sample of replies yourself, to measure the judge", arguments.label, "label:label"
    ),
    Command(
        "export",
        "write results in another format",
        arguments.export,
        "commands:export",
    ),
    Command(
        "import",
        "take in replies and labels made elsewhere",
        arguments.import_,
        "importing:import_",
        usage="safemt import FILE [FILE ...] --target NAME [options]",
    ),
    Command(
        "doctor",
        "check a store, or what an endpoint can do, before a long run",
        arguments.doctor,
        "commands:doctor",
    ),
    Command(
        "data", "check, convert or make controls of a data set, or list maps", arguments.data, "commands:data"
    ),
    Command(
        "gate", "say whether results keep rules, for a release or a pull request", arguments.gate, "gate:gate"
    ),
    Command(
        "power",
        "say what a number of items can show, before anything is asked",
        arguments.power,
        "power:power",
    ),
    Command(
        "moderate",
        "serve the OpenAI chat API with a moderator in between",
        arguments.moderate,
        "commands:moderate",
        usage="safemt moderate --upstream URL --moderator GUARD[+DO]=WHERE [options]",
    ),
)
COMMANDS = {command.name: command for command in _LIST}
