"""The commands: each carries out what `cli.parser` parsed, and returns the exit status."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from safemt_client.cli.starting import starting
from safemt_client.results.screen import open_console

if TYPE_CHECKING:
    from safemt_client.results.store.queries import Queryable

__all__ = [
    "compare",
    "data",
    "doctor",
    "export",
    "judge",
    "leaderboard",
    "moderate",
    "report",
    "run",
    "sql",
    "view",
]

T = TypeVar("T")


def run(arguments: argparse.Namespace) -> int:
    """Ask targets, judge and score; the same command resumes."""
    from safemt_client import api
    from safemt_client.loading import load_settings
    from safemt_client.settings import options

    settings = load_settings({name: getattr(arguments, name) for name in options("run")}, arguments.config)
    if settings.dry_run:
        from safemt_client.telemetry.summary import show_plan

        show_plan(api.plan(settings), settings, open_console())
        return 0
    return api.run(settings, console=open_console()).exit_status


def report(arguments: argparse.Namespace) -> int:
    """Print the scores of a run or the findings of analyses, and write the requested files."""
    from safemt_client.results.report import terminal as reports
    from safemt_client.results.report.telling import told
    from safemt_client.results.report.write import plots, write_pages
    from safemt_client.results.sanitize import shown_path
    from safemt_client.results.scores.indices import rounds_of
    from safemt_client.results.stats.safety_index import ROUNDS
    from safemt_client.results.store.reader import open_reader

    db = arguments.db
    files = {"html": arguments.html, "markdown": arguments.md, "latex": arguments.latex}
    with_files = any(files.values()) or arguments.plots is not None
    printed = arguments.json or arguments.analysis
    with open_reader(db) as reader:
        run_id = reports.latest_run(reader, arguments.run)
        scores: dict[str, Any] = {}
        if with_files:
            _not_the_store(db, files.values())
        if with_files or (arguments.json and not arguments.analysis):
            with told() as say:
                rounds = rounds_of(arguments.si_rounds or ROUNDS)
                scores = reports.as_dict(reader, run_id, rounds, whole=arguments.json, say=say)
                say("the pages")
                written = write_pages(scores, files)
                if arguments.plots is not None:
                    written += plots(scores, arguments.plots)
            for path in written:
                # stdout is for the other output that was asked for.
                print(shown_path(path), file=sys.stderr if printed else sys.stdout)
        if arguments.analysis:
            _print_findings(reader, run_id, arguments)
        elif arguments.json:
            print(json.dumps(scores, indent=2, default=str, allow_nan=False))
        elif not with_files:
            reports.report(reader, run_id, open_console(), arguments.si_rounds)
    return 0


def _print_findings(reader: Queryable, run_id: str, arguments: argparse.Namespace) -> None:
    from dataclasses import asdict

    from safemt_client.results.scores.analyses import analyse

    findings = [
        finding for name in dict.fromkeys(arguments.analysis) for finding in analyse(reader, run_id, name)
    ]
    if arguments.json:
        _print_json([asdict(finding) for finding in findings])
        return
    for finding in findings:
        print(f"{finding.analysis}: {finding.sentence}")


def _not_the_store(db: Path, files: Iterable[Path | None]) -> None:
    from safemt_client.providers.errors import InputError

    for path in files:
        if path is not None and path.exists() and db.exists() and path.samefile(db):
            raise InputError(f"{path}: is the store: name another file")


def compare(arguments: argparse.Namespace) -> int:
    """Compare runs or targets, pair by pair; without names, show the effect of each moderator of a run."""
    from safemt_client.providers.errors import InputError
    from safemt_client.results.report.sections.comparison import compared
    from safemt_client.results.report.sections.moderators import effects_in_full
    from safemt_client.results.report.terminal import show
    from safemt_client.results.scores.collect import latest_run
    from safemt_client.results.scores.comparison import comparison, conditions
    from safemt_client.results.scores.effects import effects
    from safemt_client.results.scores.unfinished import only_known, unfinished
    from safemt_client.results.scores.wording import not_finished
    from safemt_client.results.store.reader import open_reader

    with open_reader(arguments.db) as reader:
        if arguments.names:
            if arguments.run:
                raise InputError("--run: write RUN:TARGET to compare targets of a run")
            pairs = comparison(reader, conditions(reader, arguments.names, controls=True))
            if arguments.json:
                _print_json(pairs)
            else:
                show(compared(pairs), open_console())
            return 0
        run_id = latest_run(reader, arguments.run)
        open_ = unfinished(reader, run_id)
        found = only_known("effects", effects(reader, run_id), {row["target"] for row in open_})
    if not found and open_:
        raise InputError(
            f"run {run_id}: {open_[0]['target']} is {not_finished(open_[0])}: no effect is given before"
        )
    if not found:
        raise InputError(
            f"run {run_id}: has no model with and without a moderator: name what to compare "
            "(RUN, RUN:TARGET or TARGET), or run it again with --moderator none as well"
        )
    if arguments.json:
        _print_json(found)
    else:
        show(effects_in_full(found), open_console())
    return 0


def leaderboard(arguments: argparse.Namespace) -> int:
    """Print the targets of one or more runs in order, with the ranks that the data leave open."""
    from safemt_client.results.report.sections.leaderboard import ranked as board
    from safemt_client.results.report.terminal import show
    from safemt_client.results.scores.collect import latest_run
    from safemt_client.results.scores.comparison import conditions
    from safemt_client.results.scores.leaderboard import leaderboard as ranked
    from safemt_client.results.store.reader import open_reader

    with open_reader(arguments.db) as reader:
        names = arguments.names or [latest_run(reader, None)]
        rows = ranked(reader, conditions(reader, names))
    if arguments.json:
        _print_json(rows)
    else:
        show(board(rows), open_console())
    return 0


def _print_json(found: object) -> None:
    from safemt_client.results.scores.collect import without_nan

    print(json.dumps(without_nan(found), indent=2, default=str, allow_nan=False))


def doctor(arguments: argparse.Namespace) -> int:
    """Check a store and endpoints before a long run, or salvage a damaged store."""
    from safemt_client.cli.doctor import doctor as check
    from safemt_client.engine.loop import run_in_loop

    return run_in_loop(lambda: check(arguments))


def sql(arguments: argparse.Namespace) -> int:
    """Ask the store a question; without one, open a shell, or read statements from stdin."""
    with starting():
        from safemt_client.results.sql.shell import Shell, interact, run_script
        from safemt_client.results.store.reader import open_reader

        reader = open_reader(arguments.db)
    with reader:
        shell = Shell(reader, arguments.format, arguments.max_rows, sys.stdout)
        if arguments.query is not None:
            shell.ask(arguments.query)
            return 0
        return interact(shell) if sys.stdin.isatty() else run_script(shell, sys.stdin)


def judge(arguments: argparse.Namespace) -> int:
    """Judge a stored run again, without asking the target."""
    from safemt_client import api
    from safemt_client.cli.flags import DEFAULT_DB
    from safemt_client.loading import read_settings
    from safemt_client.providers.errors import InputError
    from safemt_client.settings import TABLES, options

    # The file may be that of the run, which says more.
    file = {} if arguments.config is None else read_settings(arguments.config)
    given = {name: value for name, value in file.items() if name in (*options("judge"), *TABLES)}
    flags = {name: getattr(arguments, name) for name in options("judge")}
    given |= {name: value for name, value in flags.items() if value is not None}
    db = given.pop("db", DEFAULT_DB)
    anchor, adaptive, dry_run = arguments.anchor, arguments.adaptive, bool(arguments.dry_run)
    if arguments.json and anchor is None and adaptive is None:
        raise InputError("--json: goes with --anchor N or --adaptive N: leave it out, or use report --json")
    given |= {"run": arguments.run, "anchor": anchor, "judge_samples": arguments.judge_samples}
    given |= {"adaptive": adaptive, "dry_run": dry_run}
    result = api.rejudge(db, console=open_console(stderr=arguments.json), **given)
    if arguments.json and not dry_run:
        (_print_checks if anchor is None else _print_anchors)(Path(db), str(result.id))
    return result.exit_status


def _print_checks(db: Path, draw_id: str) -> None:
    """All checks of the run that this one is of."""
    from safemt_client.results.scores.checks import checks
    from safemt_client.results.store.reader import open_reader

    with open_reader(db) as reader:
        run_id = reader.query("SELECT run_id FROM label_draws WHERE draw_id = ?", [draw_id]).rows[0][0]
        _print_json(checks(reader, run_id))


def _print_anchors(db: Path, anchor_id: str) -> None:
    """All anchors of the run that this one is of, the latest first."""
    from safemt_client.results.scores.anchors import anchors
    from safemt_client.results.store.reader import open_reader

    with open_reader(db) as reader:
        run_id = reader.query("SELECT run_id FROM anchor_runs WHERE anchor_id = ?", [anchor_id]).rows[0][0]
        _print_json(anchors(reader, run_id))


def view(arguments: argparse.Namespace) -> int:
    """Open a local page on a store."""
    from safemt_client.providers.errors import InputError

    try:
        from safemt_client.viewer.serve import view as serve
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in ("starlette", "uvicorn", "jinja2", "markupsafe"):
            raise
        raise InputError(f"view: {error.name} is missing: pip install 'safemt-client[view]'") from None
    if arguments.export is not None:
        from safemt_client.cli.exporting import export_pages

        return export_pages(arguments)
    for option in ("run", "redact", "no_images", "limit", "filter", "overwrite"):
        if getattr(arguments, option):
            raise InputError(f"view: --{option.replace('_', '-')} belongs to --export DIR")
    return serve(
        arguments.db,
        port=arguments.port,
        host=arguments.host,
        allow_remote=arguments.allow_remote,
        browser=not arguments.no_browser,
    )


def export(arguments: argparse.Namespace) -> int:
    """Write results in another layout."""
    from safemt_client.results.exports import export as write
    from safemt_client.results.sanitize import shown_path
    from safemt_client.results.store.places import address_of
    from safemt_client.results.store.reader import open_reader

    with open_reader(arguments.db) as reader:
        for path in write(reader, arguments.format, arguments.run, arguments.out, redact=arguments.redact):
            print(shown_path(address_of(path) or path))
    return 0


def data(arguments: argparse.Namespace) -> int:
    """Look at a data set before spending anything: 1 if something has to be repaired, 2 if all of it."""
    from safemt_client.datasets import open_dataset
    from safemt_client.datasets.check import check
    from safemt_client.datasets.check_table import show

    if arguments.action == "maps":
        return _maps(arguments)
    if arguments.action in ("convert", "build"):
        from safemt_client.cli import controls

        return controls.convert(arguments) if arguments.action == "convert" else controls.build(arguments)
    dataset = open_dataset(
        arguments.path,
        follow_links=bool(arguments.follow_links),
        lenient=True,
        data_map=arguments.map,
        values=arguments.data_value or (),
        config=arguments.data_config,
        split=arguments.data_split,
    )
    found = check(dataset, check_images=not arguments.no_images)
    if arguments.json:
        print(json.dumps(found.as_dict(), indent=2, ensure_ascii=True))
    else:
        show(found, open_console())
    return found.status


def _maps(arguments: argparse.Namespace) -> int:
    from safemt_client.datasets.maps.listing import listing, render

    maps = listing()
    if arguments.json:
        print(json.dumps(maps, indent=2, ensure_ascii=True))
    else:
        open_console().print(render(maps))
    return 0


def moderate(arguments: argparse.Namespace) -> int:
    """Serve the OpenAI chat API with a moderator in between."""
    from safemt_client.engine.loop import run_in_loop
    from safemt_client.proxy import command

    return run_in_loop(lambda: command.moderate(arguments))
