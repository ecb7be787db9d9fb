"""The commands of the program, each stated once, and the parser that is made from them.

The arguments of a command are added, and the module that runs it is imported, only when it is called,
so that `--help` is quick.
"""

from __future__ import annotations

import argparse
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import NoReturn

from safemt_client import __version__
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


class _Formatter(argparse.RawDescriptionHelpFormatter):
    """Help whose lines break only at spaces, so that a name such as `local-model:FOLDER` stays whole."""

    def _split_lines(self, text: str, width: int) -> list[str]:
        return textwrap.wrap(" ".join(text.split()), width, break_on_hyphens=False)


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
        formatter_class=_Formatter,
    )
    parser.add_argument("--version", action="version", version=f"safemt_client {__version__}")
    commands = parser.add_subparsers(dest="command", prog="safemt", help=argparse.SUPPRESS)
    for command in COMMANDS.values():
        made = commands.add_parser(
            command.name,
            description=f"{command.help[0].upper()}{command.help[1:]}.",
            usage=command.usage,
            formatter_class=_Formatter,
        )
        if command.name in words[:1]:
            command.add_arguments(made)
    return parser


def _epilog() -> str:
    width = max(map(len, COMMANDS))
    rows = [f"  {command.name:<{width}}  {command.help}" for command in COMMANDS.values()]
    return "\n".join([f"commands ({_DEFAULT_COMMAND} is the default):", *rows, "", _EXIT_STATUSES])


def _report(parser: argparse.ArgumentParser) -> None:
    from safemt_client.cli.flags import add_setting

    # The analyses themselves import numpy and scipy.
    from safemt_client.results.scores.wording import UNANSWERED

    _db(parser)
    _run_id(parser)
    _json(parser)
    for form, what in (("html", "one page with plots"), ("md", "Markdown"), ("latex", "LaTeX tables")):
        parser.add_argument(f"--{form}", type=Path, metavar="FILE", help=f"write it as {what}")
    parser.add_argument(
        "--analysis",
        action="append",
        choices=tuple(UNANSWERED),
        metavar="NAME",
        help=f"say in one sentence what the data show of {', '.join(UNANSWERED)}; repeatable",
    )
    add_setting(parser, "si_rounds")


def _compare(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "names",
        nargs="*",
        metavar="NAME",
        help="RUN, RUN:TARGET, or TARGET of the latest run; the first is the baseline; "
        "without names, the moderators of a run are compared",
    )
    _db(parser)
    _run_id(parser, "id of the run whose moderators are compared")
    _json(parser)


def _leaderboard(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "names",
        nargs="*",
        metavar="NAME",
        help="RUN, RUN:TARGET, or TARGET of the latest run (default: the latest run)",
    )
    _db(parser)
    _json(parser)


def _sql(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "query", nargs="?", help="one read-only SQL statement; without one, a shell, or what stdin holds"
    )
    _db(parser)
    parser.add_argument(
        "--format",
        choices=("table", "csv", "json"),
        default="table",
        help="form of the result (default: %(default)s)",
    )
    parser.add_argument("--max-rows", type=int, metavar="N", help="print at most N rows")


def _view(parser: argparse.ArgumentParser) -> None:
    _db(parser)
    _address(parser, "8377, or any free one")
    parser.add_argument("--no-browser", action="store_true", help="print the address, but do not open it")


def _label(parser: argparse.ArgumentParser) -> None:
    _db(parser)
    _run_id(parser)
    parser.add_argument(
        "--judge",
        metavar="NAME",
        help="judge whose labels the sample is drawn by (default: the run's)",
    )
    parser.add_argument("--n", type=int, metavar="N", help="size of the sample (default: 100)")
    parser.add_argument("--annotator", metavar="NAME", help="name of the annotator (default: your user name)")
    files = parser.add_mutually_exclusive_group()
    files.add_argument("--export", type=Path, metavar="CSV", help="write the sample, to be filled in")
    files.add_argument(
        "--import", dest="import_file", type=Path, metavar="CSV", help="read a sample that was filled in"
    )


def _export(parser: argparse.ArgumentParser) -> None:
    from safemt_client.results.exports import FORMATS

    _db(parser)
    _run_id(parser)
    parser.add_argument(
        "--format",
        default="reference",
        metavar="FORMAT",
        help=f"{', '.join(FORMATS)}, or that of a plug-in (default: %(default)s)",
    )
    parser.add_argument(
        "--redact", action="store_true", help="leave out all texts; keep labels, hashes, counts and settings"
    )
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="folder to write to")


def _doctor(parser: argparse.ArgumentParser) -> None:
    from safemt_client.cli.flags import add_setting

    add_setting(parser, "db")
    add_setting(parser, "provider", help="endpoint to try with four short calls; repeatable")
    add_setting(parser, "base_url", help="OpenAI-compatible endpoint of the providers")
    add_setting(parser, "attempt_timeout", default="60")
    _config(parser, "the settings of the run's targets")
    parser.add_argument(
        "--salvage", type=Path, metavar="FILE", help="copy what can be read of a damaged store into a new one"
    )


def _data(parser: argparse.ArgumentParser) -> None:
    from safemt_client.cli.controls import add_actions
    from safemt_client.cli.flags import add_setting

    actions = parser.add_subparsers(
        dest="action",
        required=True,
        metavar="check PATH | maps | convert | build RECIPE",
        help=argparse.SUPPRESS,
    )
    check = actions.add_parser(
        "check",
        description="Count the items, tell what will be sent, and list what has to be repaired.\n"
        "Ends with 1 if something is missing or broken, with 2 if nothing can be used.",
        formatter_class=_Formatter,
    )
    check.add_argument("path", help="what --data takes")
    _json(check)
    add_setting(check, "follow_links")
    check.add_argument("--no-images", action="store_true", help="do not open the images")
    check.add_argument(
        "--map", metavar="FILE.toml|NAME", help="a map by which the data are read, as --data-map of a run"
    )
    add_setting(check, "data_value")
    maps = actions.add_parser(
        "maps",
        description="List the maps that come with the program, and what they say of the data sets.",
        formatter_class=_Formatter,
    )
    _json(maps)
    add_actions(lambda name, text: actions.add_parser(name, description=text, formatter_class=_Formatter))


def _gate(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--rule",
        action="append",
        required=True,
        metavar="RULE",
        help="such as 'asr@8 < 10%%', 'asr - baseline < 2 points', 'safety_index > .9', 'coverage > 98%%', "
        "'over_refusal < 5%%'; repeatable",
    )
    _db(parser)
    _run_id(parser)
    parser.add_argument(
        "--target", action="append", metavar="NAME", help="only this target of the run; repeatable"
    )
    parser.add_argument(
        "--baseline", metavar="NAME", help="RUN, RUN:TARGET, or TARGET of the latest run, to compare with"
    )
    parser.add_argument(
        "--corrected",
        action="store_true",
        help="read ASRs corrected for the judge's errors by people's labels",
    )
    for form, what in (("junit", "JUnit XML"), ("md", "Markdown")):
        parser.add_argument(f"--{form}", type=Path, metavar="FILE", help=f"write it as {what} too")
    _json(parser)


def _power(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--items", type=int, metavar="N", help="items (default: those of the run)")
    parser.add_argument(
        "--lengths", type=int, metavar="K", help="lengths at which each is asked (default: the run's, or 5)"
    )
    parser.add_argument(
        "--want",
        action="append",
        metavar="WHAT",
        help="how many items it takes for 'difference POINTS' or 'width POINTS'; repeatable",
    )
    parser.add_argument(
        "--db",
        type=Path,
        metavar="FILE",
        help="store with a run that shows how alike replies are (default: safemt.duckdb, if there is one)",
    )
    _run_id(parser)
    _json(parser)


def _moderate(parser: argparse.ArgumentParser) -> None:
    from safemt_client.cli.flags import add_settings

    parser.add_argument(
        "--upstream", required=True, metavar="URL", help="endpoint that requests go to, with its /v1; or demo"
    )
    parser.add_argument(
        "--moderator",
        required=True,
        metavar="GUARD[+DO]=WHERE",
        help="DO is policy, block, output or observe; WHERE is as for --provider of a run, or "
        "local-model:FOLDER",
    )
    _address(parser, "8088; 0: any free one")
    parser.set_defaults(port=8088)
    parser.add_argument(
        "--guard-timeout",
        type=float,
        default=60.0,
        metavar="S",
        help="seconds in total for the guard (default: 60)",
    )
    parser.add_argument("--log", type=Path, metavar="FILE", help="where to write decisions (default: stderr)")
    parser.add_argument("--log-texts", action="store_true", help="write the conversations too")
    _config(parser, "these settings and [providers.NAME]")
    add_settings(parser, "moderate")


def _judging_again(parser: argparse.ArgumentParser) -> None:
    from safemt_client.cli.flags import add_settings

    _run_id(parser)
    _config(parser, "these settings, perhaps that of the run")
    add_settings(parser, "judge")


def _run(parser: argparse.ArgumentParser) -> None:
    from safemt_client.cli.flags import add_settings

    _config(parser, "these settings")
    add_settings(parser, "run")


def _config(parser: argparse.ArgumentParser, what: str) -> None:
    parser.add_argument(
        "--config", type=Path, metavar="FILE", help=f"TOML file with {what}; flags take precedence"
    )


def _db(parser: argparse.ArgumentParser) -> None:
    from safemt_client.cli.flags import DEFAULT_DB, add_setting

    add_setting(parser, "db")
    parser.set_defaults(db=DEFAULT_DB)


def _runs(parser: argparse.ArgumentParser) -> None:
    _db(parser)
    parser.add_argument(
        "--release",
        metavar="RUN",
        help="count what is held of this run for calls in flight at a kill as not spent (see --max-cost)",
    )


def _run_id(parser: argparse.ArgumentParser, what: str = "id of the run") -> None:
    parser.add_argument("--run", metavar="ID", help=f"{what} (default: the latest)")


def _json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print JSON")


def _address(parser: argparse.ArgumentParser, port: str) -> None:
    parser.add_argument("--port", type=int, metavar="N", help=f"port to serve on (default: {port})")
    parser.add_argument(
        "--host", default="127.0.0.1", metavar="ADDRESS", help="address to serve on (default: %(default)s)"
    )
    parser.add_argument(
        "--allow-remote", action="store_true", help="permit a --host that other machines can reach"
    )


_LIST = (
    Command(
        "run",
        "ask targets, judge and score; the same command resumes",
        _run,
        "commands:run",
        usage="safemt [run] --provider NAME --data PATH [options]",
    ),
    Command("report", "print or write the scores of a run", _report, "commands:report"),
    Command("compare", "compare runs, targets or moderators on the same items", _compare, "commands:compare"),
    Command(
        "leaderboard",
        "rank targets, as far as the data can tell them apart",
        _leaderboard,
        "commands:leaderboard",
    ),
    Command("sql", "query the store, also while a run goes on", _sql, "commands:sql"),
    Command("runs", "list the runs of a store", _runs, "commands:runs"),
    Command(
        "judge",
        "judge a stored run again, without asking the target",
        _judging_again,
        "commands:judge",
        usage="safemt judge [--db FILE] [--run ID] [options]",
    ),
    Command("view", "open a local page on a store: conversations, verdicts, SQL", _view, "commands:view"),
    Command("label", "label a sample of replies yourself, to measure the judge", _label, "label:label"),
    Command("export", "write results in another format", _export, "commands:export"),
    Command(
        "doctor", "check a store, or what an endpoint can do, before a long run", _doctor, "commands:doctor"
    ),
    Command("data", "check, convert or make controls of a data set, or list maps", _data, "commands:data"),
    Command("gate", "say whether results keep rules, for a release or a pull request", _gate, "gate:gate"),
    Command("power", "say what a number of items can show, before anything is asked", _power, "power:power"),
    Command(
        "moderate",
        "serve the OpenAI chat API with a moderator in between",
        _moderate,
        "commands:moderate",
        usage="safemt moderate --upstream URL --moderator GUARD[+DO]=WHERE [options]",
    ),
)
COMMANDS = {command.name: command for command in _LIST}
