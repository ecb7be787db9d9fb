"""The arguments of each command. What they need is imported only when a command is called."""

from __future__ import annotations

import argparse
from pathlib import Path

from safemt_client.cli.formatting import Formatter

__all__ = [
    "calibrate",
    "compare",
    "completion",
    "data",
    "doctor",
    "export",
    "gate",
    "help_",
    "import_",
    "init",
    "judging_again",
    "label",
    "leaderboard",
    "moderate",
    "nothing",
    "power",
    "report",
    "run",
    "runs",
    "sql",
    "view",
]


def report(parser: argparse.ArgumentParser) -> None:
    """Those of `report`."""
    from safemt_client.cli.flags import add_setting

    # The analyses themselves import numpy and scipy.
    from safemt_client.results.scores.wording import UNANSWERED

    _db(parser)
    _run_id(parser)
    _json(parser)
    for form, what in (("html", "one page with plots"), ("md", "Markdown"), ("latex", "LaTeX tables")):
        parser.add_argument(f"--{form}", type=Path, metavar="FILE", help=f"write it as {what}")
    parser.add_argument(
        "--plots", type=Path, metavar="FOLDER", help="write each plot as SVG and PNG, for a paper"
    )
    parser.add_argument(
        "--analysis",
        action="append",
        choices=tuple(UNANSWERED),
        metavar="NAME",
        help=f"say in one sentence what the data show of {', '.join(UNANSWERED)}; repeatable",
    )
    add_setting(parser, "si_rounds")


def compare(parser: argparse.ArgumentParser) -> None:
    """Those of `compare`."""
    parser.add_argument(
        "names",
        nargs="*",
        metavar="NAME",
        help="RUN, RUN:TARGET, or TARGET of the latest run, with @CONDITION behind it for its controls; "
        "the first is the baseline; without names, the moderators of a run are compared",
    )
    _db(parser)
    _run_id(parser, "id of the run whose moderators are compared")
    _json(parser)


def leaderboard(parser: argparse.ArgumentParser) -> None:
    """Those of `leaderboard`."""
    parser.add_argument(
        "names",
        nargs="*",
        metavar="NAME",
        help="RUN, RUN:TARGET, or TARGET of the latest run (default: the latest run)",
    )
    _db(parser)
    _json(parser)


def sql(parser: argparse.ArgumentParser) -> None:
    """Those of `sql`."""
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


def view(parser: argparse.ArgumentParser) -> None:
    """Those of `view`."""
    from safemt_client.cli.exporting import add_arguments

    _db(parser)
    _address(parser, "8377, or any free one")
    parser.add_argument("--no-browser", action="store_true", help="print the address, but do not open it")
    add_arguments(parser)


def label(parser: argparse.ArgumentParser) -> None:
    """Those of `label`."""
    from safemt_client.cli.label import add_arguments

    _db(parser)
    _run_id(parser)
    add_arguments(parser)


def export(parser: argparse.ArgumentParser) -> None:
    """Those of `export`."""
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


def import_(parser: argparse.ArgumentParser) -> None:
    """Those of `import`."""
    from safemt_client.cli.importing import add_arguments

    add_arguments(parser)


def doctor(parser: argparse.ArgumentParser) -> None:
    """Those of `doctor`."""
    from safemt_client.cli.flags import SERVING, add_setting

    add_setting(parser, "db")
    add_setting(parser, "provider", help="endpoint to try with four short calls; repeatable")
    add_setting(parser, "base_url", help="OpenAI-compatible endpoint of the providers")
    add_setting(parser, "attempt_timeout", default="60")
    for name in SERVING:
        add_setting(parser, name)
    _config(parser, "the settings of the run's targets")
    parser.add_argument(
        "--salvage", type=Path, metavar="FILE", help="copy what can be read of a damaged store into a new one"
    )


def data(parser: argparse.ArgumentParser) -> None:
    """Those of `data`."""
    from safemt_client.cli.controls import add_actions
    from safemt_client.cli.flags import add_setting

    actions = parser.add_subparsers(
        dest="action",
        prog="safemt data",
        required=True,
        title="actions ('safemt data ACTION --help' lists the options of one)",
        metavar="check | maps | convert | build",
    )
    check = actions.add_parser(
        "check",
        help="count the items, tell what will be sent, list what has to be repaired",
        description="Count the items, tell what will be sent, and list what has to be repaired.\n"
        "Ends with 1 if something is missing or broken, with 2 if nothing can be used.",
        formatter_class=Formatter,
    )
    check.add_argument("path", help="what --data takes")
    _json(check)
    add_setting(check, "follow_links")
    check.add_argument("--no-images", action="store_true", help="do not open the images")
    check.add_argument(
        "--map", metavar="FILE.toml|NAME", help="a map by which the data are read, as --data-map of a run"
    )
    for name in ("data_value", "data_config", "data_split"):
        add_setting(check, name)
    maps = actions.add_parser(
        "maps",
        help="list the maps that come with the program",
        description="List the maps that come with the program, and what they say of the data sets.",
        formatter_class=Formatter,
    )
    _json(maps)

    def add(name: str, summary: str, text: str) -> argparse.ArgumentParser:
        return actions.add_parser(name, help=summary, description=text, formatter_class=Formatter)

    add_actions(add)


def gate(parser: argparse.ArgumentParser) -> None:
    """Those of `gate`."""
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


def power(parser: argparse.ArgumentParser) -> None:
    """Those of `power`."""
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


def moderate(parser: argparse.ArgumentParser) -> None:
    """Those of `moderate`."""
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


def judging_again(parser: argparse.ArgumentParser) -> None:
    """Those of `judge`."""
    from safemt_client.cli.flags import add_setting, add_settings

    _run_id(parser)
    parser.add_argument(
        "--anchor",
        type=int,
        metavar="N",
        help="ask the run's own judge again about N of its replies, always the same: has it changed?",
    )
    parser.add_argument(
        "--judge-samples",
        type=int,
        metavar="J",
        help="ask the run's own judge about all of its replies, J times in all: does it agree with itself?",
    )
    parser.add_argument(
        "--adaptive",
        type=int,
        metavar="N",
        help="ask a stronger judge about some N replies, most where the run's own may be wrong",
    )
    add_setting(parser, "dry_run")
    parser.add_argument(
        "--json", action="store_true", help="with --anchor or --adaptive: print what was found as JSON"
    )
    _config(parser, "these settings, perhaps that of the run")
    add_settings(parser, "judge")


def calibrate(parser: argparse.ArgumentParser) -> None:
    """Those of `calibrate`."""
    from safemt_client.cli.calibrate import add_arguments

    _config(parser, "these settings, perhaps that of a run")
    add_arguments(parser)
    _json(parser)


def run(parser: argparse.ArgumentParser) -> None:
    """Those of `run`."""
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


def runs(parser: argparse.ArgumentParser) -> None:
    """Those of `runs`."""
    from safemt_client.cli.listing import add_arguments

    add_arguments(parser)


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


def init(parser: argparse.ArgumentParser) -> None:
    """Those of `init`."""
    parser.add_argument(
        "file",
        nargs="?",
        type=Path,
        default=Path("safemt.toml"),
        metavar="FILE",
        help="(default: %(default)s)",
    )


def help_(parser: argparse.ArgumentParser) -> None:
    """Those of `help`."""
    parser.add_argument("words", nargs="*", metavar="COMMAND", help="the command that help is wanted about")


def completion(parser: argparse.ArgumentParser) -> None:
    """Those of `completion`."""
    parser.add_argument("shell", choices=("bash", "zsh", "fish"), help="the shell that is to complete")


def nothing(parser: argparse.ArgumentParser) -> None:
    """Those of a command without arguments."""
