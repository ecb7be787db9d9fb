"""The commands of the program, each stated once, and the parser that is made from them.

The arguments of a command are added, and the module that runs it is imported, only when it is called,
so that `--help` is quick.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from itertools import groupby

from safemt_client import __version__
from safemt_client.cli import arguments, merging
from safemt_client.cli.formatting import Formatter
from safemt_client.cli.parsing import Parser

__all__ = ["COMMANDS", "Command", "make_parser", "with_command"]

_DEFAULT_COMMAND = "run"
_EXIT_STATUSES = """'safemt help COMMAND' lists the options of a command.
Exit status: 0 done, 1 stopped early or coverage too low (the same command
resumes), 2 bad input; of gate: 1 broken, 3 undecided."""


@dataclass(frozen=True)
class Command:
    """One command of the program.

    Attributes:
        topic: the heading that it is listed under.
        name: the word on the command line.
        help: what it does, in one line.
        add_arguments: adds its arguments to its parser.
        runs: `module:function` in this folder that carries it out and returns the exit status.
        usage: the line of usage where the one that argparse makes is too long to be read, without the name.
        examples: command lines to begin with, without the name of the program.
    """

    topic: str
    name: str
    help: str
    add_arguments: Callable[[argparse.ArgumentParser], None]
    runs: str
    usage: str | None = None
    examples: Sequence[str] = ()

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


def make_parser(words: Sequence[str] = ()) -> argparse.ArgumentParser:
    """The parser for these words: it knows all commands, and the arguments of the one that they name."""
    parser = Parser(
        prog="safemt",
        description="Measure how a multimodal model behaves when harm is spread over a conversation.",
        usage="safemt --provider NAME --data PATH [options] | safemt COMMAND ...",
        epilog=_epilog(),
    )
    parser.add_argument(
        "--version",
        action="version",
        version=f"safemt_client {__version__}",
        help="show the version and exit",
    )
    commands = parser.add_subparsers(
        dest="command", prog="safemt", help=argparse.SUPPRESS, parser_class=Parser
    )
    for command in COMMANDS.values():
        if command.name in words[:1]:
            command.add_arguments(_added(commands, command))
        else:
            commands.add_parser(command.name)
    return parser


def _added(commands: argparse._SubParsersAction[Parser], command: Command) -> Parser:
    examples = "\n".join(["examples:", *(f"  safemt {line}" for line in command.examples)])
    return commands.add_parser(
        command.name,
        description=f"{command.help[0].upper()}{command.help[1:]}.",
        usage=None if command.usage is None else f"safemt {command.usage}",
        epilog=examples if command.examples else None,
        formatter_class=Formatter,
    )


def _epilog() -> str:
    width = max(map(len, COMMANDS))
    lines = []
    for topic, listed in groupby(COMMANDS.values(), key=lambda command: command.topic):
        lines += [f"{topic}:", *(f"  {command.name:<{width}}  {command.help}" for command in listed), ""]
    start = ["start here:", "  safemt --provider demo    # all of it on a harmless sample, without a key", ""]
    return "\n".join([*start, *lines, _EXIT_STATUSES])


_LIST = (
    Command(
        "run (run is the default command)",
        "run",
        "ask targets, judge and score; the same command resumes",
        arguments.run,
        "commands:run",
        "[run] --provider NAME --data PATH [options]",
        (
            "--provider demo",
            "--provider gpt-4o --data SafeMT/ --dry-run",
            "--provider gpt-4o --data SafeMT/ --max-cost 20",
            "--provider NAME@http://127.0.0.1:8000/v1 --data SafeMT/ --sample 300",
            "--config safemt.toml",
        ),
    ),
    Command(
        "run (run is the default command)",
        "judge",
        "judge a stored run again, without asking the target",
        arguments.judging_again,
        "commands:judge",
        "judge [--db FILE] [--run ID] [options]",
        ("judge --judge gpt-4o --rubric by-scenario", "judge --anchor 200"),
    ),
    Command(
        "run (run is the default command)",
        "import",
        "take in replies and labels made elsewhere",
        arguments.import_,
        "importing:import_",
        "import FILE [FILE ...] --target NAME [options]",
        ("import round/ --target gpt-4o --data SafeMT/",),
    ),
    Command(
        "run (run is the default command)",
        "moderate",
        "serve the OpenAI chat API with a moderator in between",
        arguments.moderate,
        "commands:moderate",
        "moderate --upstream URL --moderator GUARD[+DO]=WHERE [options]",
        ("moderate --upstream demo --moderator demo-guard+block",),
    ),
    Command(
        "before a run",
        "init",
        "write a settings file with every option explained",
        arguments.init,
        "words:init",
        "init [FILE]",
        ("init", "--config safemt.toml --dry-run"),
    ),
    Command(
        "before a run",
        "data",
        "check, convert or make controls of a data set, or list maps",
        arguments.data,
        "commands:data",
        "data check | maps | convert | build ...",
        ("data check SafeMT/",),
    ),
    Command(
        "before a run",
        "power",
        "say what a number of items can show, before anything is asked",
        arguments.power,
        "power:power",
        examples=("power --items 300", 'power --want "difference 3"'),
    ),
    Command(
        "before a run",
        "doctor",
        "check a store, or what an endpoint can do, before a long run",
        arguments.doctor,
        "commands:doctor",
        examples=("doctor --provider gpt-4o", "doctor --db safemt.duckdb"),
    ),
    Command(
        "before a run",
        "calibrate",
        "measure a judge on replies that people have labelled",
        arguments.calibrate,
        "calibrate:calibrate",
        "calibrate --judge NAME --set FILE [options] | --list",
        ("calibrate --judge gpt-4o --set replies.csv",),
    ),
    Command(
        "results",
        "report",
        "print or write the scores of a run",
        arguments.report,
        "commands:report",
        "report [--run ID] [--html FILE] [options]",
        ("report", "report --html report.html", "report --analysis turns"),
    ),
    Command(
        "results",
        "compare",
        "compare runs, targets or moderators on the same items",
        arguments.compare,
        "commands:compare",
        "compare [NAME ...] [options]",
        ("compare gpt-4o gpt-4o-mini", "compare RUN_A RUN_B", "compare"),
    ),
    Command(
        "results",
        "leaderboard",
        "rank targets, as far as the data can tell them apart",
        arguments.leaderboard,
        "commands:leaderboard",
        "leaderboard [NAME ...] [options]",
        ("leaderboard",),
    ),
    Command(
        "results",
        "gate",
        "say whether results keep rules, for a release or a pull request",
        arguments.gate,
        "gate:gate",
        "gate --rule RULE [options]",
        ('gate --rule "asr@8 < 10%" --rule "coverage > 98%"',),
    ),
    Command(
        "results",
        "label",
        "label a sample of replies yourself, to measure the judge",
        arguments.label,
        "label:label",
        "label [--n N] [options]",
        ("label --n 200",),
    ),
    Command(
        "results",
        "view",
        "open a local page on a store: conversations, verdicts, SQL",
        arguments.view,
        "commands:view",
        "view [--db FILE] [--export DIR] [options]",
        ("view", "view --export shared/ --redact"),
    ),
    Command(
        "results",
        "sql",
        "query the store, also while a run goes on",
        arguments.sql,
        "commands:sql",
        "sql [QUERY] [options]",
        ('sql "SELECT target, length, asr FROM asr"', "sql"),
    ),
    Command(
        "results",
        "runs",
        "list the runs of a store, or of several",
        arguments.runs,
        "listing:runs",
        "runs [STORE ...] [options]",
        ("runs", "runs first.duckdb second.duckdb"),
    ),
    Command(
        "results",
        "merge",
        "make one store of several, as of several people or machines",
        merging.add_arguments,
        "merging:merge",
        examples=("merge all.duckdb mine.duckdb theirs.duckdb",),
    ),
    Command(
        "results",
        "export",
        "write results in another format",
        arguments.export,
        "commands:export",
        "export --out FOLDER [--format FORMAT] [options]",
        ("export --format parquet --out results/ --redact",),
    ),
    Command(
        "about the program",
        "help",
        "show the help of a command",
        arguments.help_,
        "words:help_",
        "help [COMMAND]",
    ),
    Command("about the program", "version", "show the version", arguments.nothing, "words:version"),
    Command(
        "about the program",
        "completion",
        "print what makes a shell complete commands and options",
        arguments.completion,
        "completion:completion",
        "completion bash | zsh | fish",
        ("completion bash >> ~/.bashrc", "completion fish > ~/.config/fish/completions/safemt.fish"),
    ),
)
COMMANDS = {command.name: command for command in _LIST}
