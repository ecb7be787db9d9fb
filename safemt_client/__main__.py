"""The command line: `python -m safemt_client` and `safemt`.

Only the parser lives here; each command is imported when it is called, so that `--help` is quick.
"""

from __future__ import annotations

import argparse
import gc
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from safemt_client import __version__
from safemt_client.providers.errors import InputError, SafemtError

__all__ = ["main"]

_COMMANDS = (
    *("run", "report", "compare", "leaderboard", "sql", "runs", "judge", "label", "export", "data"),
    "moderate",
    "doctor",
    "view",
)
_LONGEST_LINE = 2_000
_EPILOG = """commands (run is the default one):
  run      ask targets, judge and score; the same command resumes
  report   print the scores of a run
  compare  runs, targets or moderators, pair by pair on the same items
  leaderboard  targets in order, and which places can be told apart
  sql      ask the store a question, also while a run goes on
  runs     list the runs of a store
  judge    judge a stored run again, without asking the target
  view     open a local page on a store: conversations, verdicts, SQL
  label    label a sample of replies yourself: how good is the judge?
  export   write results in another layout
  doctor   check a store, or what an endpoint can do, before a night is spent
  data     data check PATH: look at a data set before spending anything
  moderate serve the OpenAI chat API with a moderator in between
'COMMAND --help' tells more. exit status: 0 done, 1 stopped early or coverage too low (resumable), 2 bad input
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; return its exit status."""
    words = list(sys.argv[1:] if argv is None else argv)
    if words and words[0] not in _COMMANDS and words[0] not in ("-h", "--help", "--version"):
        words.insert(0, "run")
    # Many small objects live long here: the collector's usual pace costs a tenth of a run.
    gc.set_threshold(50_000, 20, 20)
    parser = _parser()
    if not words:
        parser.print_usage(sys.stderr)
        print("safemt: nothing to do: try --provider demo, or --help", file=sys.stderr)
        return 2
    arguments = parser.parse_args(words)
    try:
        return _dispatch(arguments)
    except InputError as error:
        _say(error)
        return 2
    except SafemtError as error:
        _say(error)
        return 1
    except KeyboardInterrupt:
        print("safemt: interrupted; the same command resumes", file=sys.stderr)
        return 1
    except BrokenPipeError:
        # The reader of a pipe has gone, such as `head`: nothing left to say to it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _say(error: Exception) -> None:
    from safemt_client.results.sanitize import plain

    # What an endpoint or a file says may stand in it: on one line, of a length that can be read.
    text = plain(str(error))
    print(f"safemt: {text if len(text) <= _LONGEST_LINE else text[:_LONGEST_LINE] + ' ...'}", file=sys.stderr)


def _dispatch(arguments: argparse.Namespace) -> int:
    from safemt_client.cli import commands

    # Each command is a function of its name.
    command: Callable[[argparse.Namespace], int] = getattr(commands, arguments.command)
    return command(arguments)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="safemt",
        description="Measure how a multimodal model behaves when harm is spread over a conversation.",
        usage="safemt --provider NAME --data FOLDER [options] | safemt COMMAND ...",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"safemt_client {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", title=argparse.SUPPRESS)
    _run(commands.add_parser("run", help="ask targets, judge and score (the default)"))

    report = commands.add_parser("report", help="print the scores of a run")
    _db(report)
    report.add_argument("--run", metavar="ID", help="run id (default: the latest)")
    report.add_argument("--json", action="store_true", help="machine-readable")
    for form, what in (("html", "one page with plots"), ("md", "Markdown"), ("latex", "LaTeX tables")):
        report.add_argument(f"--{form}", type=Path, metavar="FILE", help=f"write it as {what}")
    report.add_argument(
        "--analysis",
        action="append",
        choices=("turns", "images", "history", "scenarios", "moderator", "methods"),
        help="say in a sentence what the data show; repeatable",
    )

    compare = commands.add_parser("compare", help="runs, targets or moderators, pair by pair")
    compare.add_argument(
        "names",
        nargs="*",
        metavar="NAME",
        help="RUN, RUN:TARGET, or TARGET of the latest run; the first is the baseline (none: the moderators)",
    )
    _db(compare)
    compare.add_argument(
        "--run", metavar="ID", help="run whose moderators are compared (default: the latest)"
    )
    compare.add_argument("--json", action="store_true", help="machine-readable")

    leaderboard = commands.add_parser("leaderboard", help="targets in order, with the places left open")
    leaderboard.add_argument(
        "names", nargs="*", metavar="NAME", help="RUN, RUN:TARGET or TARGET (latest run)"
    )
    _db(leaderboard)
    leaderboard.add_argument("--json", action="store_true", help="machine-readable")

    sql = commands.add_parser("sql", help="ask the store a question")
    sql.add_argument(
        "query", nargs="?", help="one read-only SQL statement; without one a shell opens, or stdin is read"
    )
    _db(sql)
    sql.add_argument("--format", choices=("table", "csv", "json"), default="table")
    sql.add_argument("--max-rows", type=int, default=None, metavar="N", help="at most N rows")

    runs = commands.add_parser("runs", help="list the runs of a store")
    _db(runs)

    judge = commands.add_parser("judge", help="judge a stored run again, without asking the target")
    _db(judge)
    judge.add_argument("--run", metavar="ID", help="run id (default: the latest)")
    _judge(judge)
    _limits(judge)
    _operation(judge)
    judge.add_argument("--quiet", action="store_true", default=None, help="no progress")

    view = commands.add_parser("view", help="open a local page on a store, also while a run goes on")
    _db(view)
    view.add_argument("--port", type=int, metavar="N", help="(8377, or a free one)")
    view.add_argument("--no-browser", action="store_true", help="print the address, open nothing")
    view.add_argument("--host", default="127.0.0.1", metavar="ADDRESS", help="address to bind (127.0.0.1)")
    view.add_argument("--allow-remote", action="store_true", help="let --host be one that others can reach")

    label = commands.add_parser("label", help="label a sample of replies yourself: how good is the judge?")
    _db(label)
    label.add_argument("--run", metavar="ID", help="run id (default: the latest)")
    label.add_argument("--judge", metavar="NAME", help="judge of the run by whose labels the sample is drawn")
    label.add_argument("--n", type=int, metavar="N", help="size of the sample (100)")
    label.add_argument("--annotator", metavar="NAME", help="who labels (the user's name)")
    files = label.add_mutually_exclusive_group()
    files.add_argument("--export", type=Path, metavar="CSV", help="write the sample to be filled in")
    files.add_argument("--import", dest="import_file", type=Path, metavar="CSV", help="read a filled one")

    export = commands.add_parser("export", help="write results in another layout")
    _db(export)
    export.add_argument("--run", metavar="ID", help="run id (default: the latest)")
    export.add_argument(
        "--format",
        choices=("reference", "parquet", "csv", "jsonl", "inspect", "huggingface"),
        default="reference",
        help="(reference)",
    )
    export.add_argument(
        "--redact", action="store_true", help="leave out every text; keep labels, hashes, counts and settings"
    )
    export.add_argument("--out", type=Path, required=True, metavar="FOLDER")

    doctor = commands.add_parser("doctor", help="check a store, or what an endpoint can do")
    _db(doctor)
    doctor.add_argument(
        "--provider", action="append", metavar="NAME", help="endpoint to try; four short calls"
    )
    doctor.add_argument("--base-url", metavar="URL", help="endpoint of the providers")
    doctor.add_argument("--attempt-timeout", type=float, metavar="S", help="seconds a call (60)")
    doctor.add_argument(
        "--salvage", type=Path, metavar="FILE", help="save what can be read of a damaged store into a new one"
    )

    data = commands.add_parser("data", help="look at a data set")
    actions = data.add_subparsers(dest="action", required=True)
    check = actions.add_parser("check", help="count, and name what is missing, broken, double or odd")
    check.add_argument("path", help="what --data takes")
    check.add_argument("--json", action="store_true", help="machine-readable")
    _links(check)
    check.add_argument("--no-images", action="store_true", help="do not open the images")

    _moderate(commands.add_parser("moderate", help="serve the OpenAI chat API with a moderator in between"))
    return parser


def _moderate(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Serve the OpenAI chat API; docs/moderators.md tells what is assessed and what is not."
    )
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


def _judge(parser: argparse.ArgumentParser) -> None:
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
    parser.description = "Ask targets, judge and score. The same command resumes."
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
    _judge(parser)
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


if __name__ == "__main__":
    sys.exit(main())
