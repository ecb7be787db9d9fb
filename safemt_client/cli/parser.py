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

from safemt_client import __version__

__all__ = ["COMMANDS", "Command", "make_parser", "with_command"]

_DEFAULT_COMMAND = "run"
_EXIT_STATUSES = """'COMMAND --help' lists the options of a command.
Exit status: 0 done, 1 stopped early or coverage too low (the same command
resumes), 2 bad input."""


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
    """Help whose lines break at spaces alone, so that a name such as `local-model:FOLDER` stays whole."""

    def _split_lines(self, text: str, width: int) -> list[str]:
        return textwrap.wrap(" ".join(text.split()), width, break_on_hyphens=False)


def with_command(words: Sequence[str]) -> list[str]:
    """The words of a command line with the default command where they name none."""
    named = not words or words[0] in COMMANDS or words[0] in ("-h", "--help", "--version")
    return [*words] if named else [_DEFAULT_COMMAND, *words]


def make_parser(words: Sequence[str] = ()) -> argparse.ArgumentParser:
    """The parser for these words: it knows all commands, and the arguments of the one that they name."""
    parser = argparse.ArgumentParser(
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
    _db(parser)
    parser.add_argument("--run", metavar="ID", help="run id (default: the latest)")
    parser.add_argument("--json", action="store_true", help="machine-readable")
    for form, what in (("html", "one page with plots"), ("md", "Markdown"), ("latex", "LaTeX tables")):
        parser.add_argument(f"--{form}", type=Path, metavar="FILE", help=f"write it as {what}")
    parser.add_argument(
        "--analysis",
        action="append",
        choices=("turns", "images", "history", "scenarios", "moderator", "methods"),
        help="say in a sentence what the data show; repeatable",
    )


def _compare(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "names",
        nargs="*",
        metavar="NAME",
        help="RUN, RUN:TARGET, or TARGET of the latest run; the first is the baseline (none: the moderators)",
    )
    _db(parser)
    parser.add_argument("--run", metavar="ID", help="run whose moderators are compared (default: the latest)")
    parser.add_argument("--json", action="store_true", help="machine-readable")


def _leaderboard(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("names", nargs="*", metavar="NAME", help="RUN, RUN:TARGET or TARGET (latest run)")
    _db(parser)
    parser.add_argument("--json", action="store_true", help="machine-readable")


def _sql(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "query", nargs="?", help="one read-only SQL statement; without one a shell opens, or stdin is read"
    )
    _db(parser)
    parser.add_argument("--format", choices=("table", "csv", "json"), default="table")
    parser.add_argument("--max-rows", type=int, default=None, metavar="N", help="at most N rows")


def _rejudge(parser: argparse.ArgumentParser) -> None:
    _db(parser)
    parser.add_argument("--run", metavar="ID", help="run id (default: the latest)")
    _judging(parser)
    _limits(parser)
    _operation(parser)
    parser.add_argument("--quiet", action="store_true", default=None, help="no progress")


def _view(parser: argparse.ArgumentParser) -> None:
    _db(parser)
    parser.add_argument("--port", type=int, metavar="N", help="(8377, or a free one)")
    parser.add_argument("--no-browser", action="store_true", help="print the address, open nothing")
    parser.add_argument("--host", default="127.0.0.1", metavar="ADDRESS", help="address to bind (127.0.0.1)")
    parser.add_argument("--allow-remote", action="store_true", help="let --host be one that others can reach")


def _label(parser: argparse.ArgumentParser) -> None:
    _db(parser)
    parser.add_argument("--run", metavar="ID", help="run id (default: the latest)")
    parser.add_argument(
        "--judge", metavar="NAME", help="judge of the run by whose labels the sample is drawn"
    )
    parser.add_argument("--n", type=int, metavar="N", help="size of the sample (100)")
    parser.add_argument("--annotator", metavar="NAME", help="who labels (the user's name)")
    files = parser.add_mutually_exclusive_group()
    files.add_argument("--export", type=Path, metavar="CSV", help="write the sample to be filled in")
    files.add_argument("--import", dest="import_file", type=Path, metavar="CSV", help="read a filled one")


def _export(parser: argparse.ArgumentParser) -> None:
    _db(parser)
    parser.add_argument("--run", metavar="ID", help="run id (default: the latest)")
    parser.add_argument(
        "--format",
        choices=("reference", "parquet", "csv", "jsonl", "inspect", "huggingface"),
        default="reference",
        help="(reference)",
    )
    parser.add_argument(
        "--redact", action="store_true", help="leave out every text; keep labels, hashes, counts and settings"
    )
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER")


def _doctor(parser: argparse.ArgumentParser) -> None:
    _db(parser)
    parser.add_argument(
        "--provider", action="append", metavar="NAME", help="endpoint to try; four short calls"
    )
    parser.add_argument("--base-url", metavar="URL", help="endpoint of the providers")
    parser.add_argument("--attempt-timeout", type=float, metavar="S", help="seconds a call (60)")
    parser.add_argument(
        "--salvage", type=Path, metavar="FILE", help="save what can be read of a damaged store into a new one"
    )


def _data(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", required=True)
    check = actions.add_parser("check", help="count, and name what is missing, broken, double or odd")
    check.add_argument("path", help="what --data takes")
    check.add_argument("--json", action="store_true", help="machine-readable")
    _links(check)
    check.add_argument("--no-images", action="store_true", help="do not open the images")


def _moderate(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--upstream", required=True, metavar="URL", help="where requests go, with its /v1")
    parser.add_argument(
        "--moderator",
        required=True,
        metavar="GUARD[+DO]=WHERE",
        help="DO is policy, block, output or observe; WHERE as --provider of a run, or local-model:FOLDER",
    )
    parser.add_argument("--port", type=int, default=8088, metavar="N", help="0: any that is free (8088)")
    parser.add_argument("--host", default="127.0.0.1", metavar="H", help="address to serve on (127.0.0.1)")
    parser.add_argument("--allow-remote", action="store_true", help="let --host be one that others can reach")
    _moderation(parser)
    parser.add_argument(
        "--guard-timeout", type=float, default=60.0, metavar="S", help="seconds for the guard, in all (60)"
    )
    parser.add_argument("--log", type=Path, metavar="FILE", help="where decisions are written (stderr)")
    parser.add_argument("--log-texts", action="store_true", help="write the conversations too")
    parser.add_argument("--rpm", type=float, metavar="N", help="requests a minute to the guard")
    parser.add_argument("--tpm", type=float, metavar="N", help="tokens a minute to the guard")
    parser.add_argument(
        "--max-concurrency", type=int, metavar="N", help="calls to the guard at a time (adapts)"
    )


def _db(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--db", type=Path, default=None, metavar="FILE", help="store (safemt.duckdb)")


def _links(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--follow-links", action="store_true", default=None, help="let links lead out of the data's folder"
    )


def _judging(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--judge",
        action="append",
        metavar="NAME",
        help="judge's provider, or none (gpt-4o-mini); repeat for a panel",
    )
    parser.add_argument("--panel", choices=("majority", "unanimous", "chain"), help="(majority)")
    parser.add_argument("--judge-base-url", metavar="URL", help="endpoint of the judge")
    parser.add_argument("--rubric", metavar="NAME", help="paper, by-scenario, graded, or a TOML file (paper)")
    parser.add_argument(
        "--judge-sees", choices=("reply", "question", "dialogue", "image"), help="(what the rubric says)"
    )
    parser.add_argument(
        "--judge-logprobs", action="store_true", default=None, help="ask for probabilities: confidence"
    )
    parser.add_argument("--judge-temperature", type=float, metavar="T", help="(0.6, as published)")


def _moderators(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--moderator",
        action="append",
        metavar="GUARD[+DO]=WHERE",
        help="guard round each target, or none; DO is policy, block, output or observe, WHERE as --provider "
        "or local-model:FOLDER; repeat to compare, with none as the baseline",
    )
    parser.add_argument(
        "--moderator-turns",
        choices=("last", "every"),
        help="every: also assess the conversation as it stood at each turn (last)",
    )
    _moderation(parser)


def _moderation(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--policy-place", choices=("system", "developer", "user"), help="where a policy goes (system)"
    )
    parser.add_argument("--policies", metavar="FILE", help="TOML with policies of your own")
    parser.add_argument(
        "--on-guard-error",
        choices=("unassessed", "refuse", "pass"),
        help="when the guard fails or answers nonsense: no score, or HTTP 503 (the default), a refusal, "
        "or no guard",
    )
    parser.add_argument("--controversial", choices=("unsafe", "safe"), help="what it counts as (unsafe)")
    parser.add_argument(
        "--guard-template", metavar="FILE", help="TOML with the form of a guard that takes one"
    )
    parser.add_argument(
        "--guard-option",
        action="append",
        metavar="NAME=VALUE",
        help="for guards that have one (docs/guards.md), such as generation=4.1; repeatable",
    )


def _limits(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rpm", type=float, metavar="N", help="requests a minute, per account")
    parser.add_argument("--tpm", type=float, metavar="N", help="tokens a minute, per account")
    parser.add_argument(
        "--max-concurrency", type=int, metavar="N", help="calls in flight, per account (adapts)"
    )
    parser.add_argument(
        "--batch", action="store_true", default=None, help="ask in batches: within a day, at half the price"
    )
    parser.add_argument("--max-cost", type=float, metavar="USD", help="cap of the run, with its resumes")
    parser.add_argument(
        "--price",
        action="append",
        metavar="NAME=IN/OUT",
        help="US dollars a million tokens, where the list is wrong or lacks a model; repeatable",
    )
    parser.add_argument("--max-wait", type=float, metavar="S", help="seconds of waiting a turn (3600)")
    parser.add_argument("--attempt-timeout", type=float, metavar="S", help="seconds an attempt (180)")
    parser.add_argument("--turn-timeout", type=float, metavar="S", help="seconds a turn, all told (7200)")


def _operation(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--log", metavar="FILE", help="JSON lines of what happens, or none (DB.RUN.log)")
    parser.add_argument("--log-level", choices=("debug", "info", "warning", "error"), help="(info)")
    parser.add_argument(
        "--log-texts", action="store_true", default=None, help="log messages, replies and errors' texts too"
    )
    parser.add_argument(
        "--on-finish", metavar="COMMAND", help="run it at the end, however that comes (docs/operations.md)"
    )
    parser.add_argument(
        "--otel", action="store_true", default=None, help="send traces where the OTEL_... variables say"
    )


def _run(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--provider",
        action="append",
        metavar="NAME",
        help="target: gpt-4o, anthropic/NAME, NAME@http://127.0.0.1:8000/v1, demo; repeat for several",
    )
    parser.add_argument("--config", type=Path, metavar="FILE", help="TOML with the same names; flags win")
    parser.add_argument("--data", metavar="PATH", help="SafeMT folder, .jsonl, hf:NAME, or sample")
    _links(parser)
    parser.add_argument("--base-url", metavar="URL", help="endpoint of the targets")
    parser.add_argument("--turns", metavar="K,K", help="lengths to run (all)")
    parser.add_argument("--scenario", action="append", metavar="NAME", help="only this one; repeatable")
    parser.add_argument("--limit", type=int, metavar="N", help="only the first N items")
    parser.add_argument("--history", choices=("scripted", "live", "none"), help="(scripted)")
    parser.add_argument("--images", choices=("on", "off", "blank"), help="(on)")
    parser.add_argument("--image-max-edge", type=int, metavar="PX", help="downscale past this edge")
    parser.add_argument("--image-max-bytes", type=int, metavar="N", help="downscale past this size")
    parser.add_argument("--temperature", type=float, metavar="T", help="(0)")
    parser.add_argument("--max-tokens", type=int, metavar="N", help="(1024 for NAME@URL, else unset)")
    parser.add_argument("--top-p", type=float, metavar="P")
    parser.add_argument("--seed", type=int, metavar="N")
    _judging(parser)
    _moderators(parser)
    _limits(parser)
    parser.add_argument("--min-coverage", type=float, metavar="X", help="below it the status is 1 (0.98)")
    _db(parser)
    _operation(parser)
    parser.add_argument("--dry-run", action="store_true", default=None, help="print the plan and stop")
    parser.add_argument("--fresh", action="store_true", default=None, help="ask anew, as another sample")
    parser.add_argument(
        "--new-run", action="store_true", default=None, help="go on although the data set has changed"
    )
    parser.add_argument("--quiet", action="store_true", default=None, help="no progress")


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
    Command("leaderboard", "rank targets, as far as they differ", _leaderboard, "commands:leaderboard"),
    Command("sql", "query the store, also while a run goes on", _sql, "commands:sql"),
    Command("runs", "list the runs of a store", _db, "commands:runs"),
    Command(
        "judge",
        "judge a stored run again, without asking the target",
        _rejudge,
        "commands:judge",
        usage="safemt judge [--db FILE] [--run ID] [options]",
    ),
    Command("view", "open a local page on a store: conversations, verdicts, SQL", _view, "commands:view"),
    Command("label", "label a sample of replies yourself, to measure the judge", _label, "label:label"),
    Command("export", "write results in another format", _export, "commands:export"),
    Command(
        "doctor", "check a store, or what an endpoint can do, before a long run", _doctor, "commands:doctor"
    ),
    Command("data", "check a data set before spending anything: data check PATH", _data, "commands:data"),
    Command(
        "moderate",
        "serve the OpenAI chat API with a moderator in between",
        _moderate,
        "commands:moderate",
        usage="safemt moderate --upstream URL --moderator GUARD[+DO]=WHERE [options]",
    ),
)
COMMANDS = {command.name: command for command in _LIST}
