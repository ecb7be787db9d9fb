"""`calibrate`: a judge against people's labels, and the calibrations of a store side by side."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from safemt_client.cli.flags import DEFAULT_DB, add_setting, add_settings, refuse_facts
from safemt_client.providers.errors import InputError
from safemt_client.results.screen import open_console

__all__ = ["add_arguments", "calibrate"]

_OF_THE_SET = (
    *("data_map", "data_value", "data_config", "data_split", "follow_links", "limit", "sample"),
    *("sample_seed", "dry_run"),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Its own arguments, and the settings of judges."""
    of_set = parser.add_argument_group("Labelled replies")
    of_set.add_argument(
        "--set",
        dest="labelled",
        metavar="PATH",
        help="file of labelled replies, what --data-map reads, hf:NAME, or sample",
    )
    for name in _OF_THE_SET:
        add_setting(of_set, name)
    of_set.add_argument(
        "--list", action="store_true", help="list the calibrations of the store, side by side"
    )
    add_settings(parser, "judge")


def calibrate(arguments: argparse.Namespace) -> int:
    """Put a judge to labelled replies, or list calibrations."""
    if arguments.list:
        return _list(arguments.db or DEFAULT_DB, as_json=arguments.json)
    if arguments.labelled is None:
        raise InputError(
            "--set is missing: name a file of labelled replies, or 'sample' for the harmless one"
        )
    from safemt_client import api
    from safemt_client.loading import read_settings
    from safemt_client.settings import TABLES, options

    file = {} if arguments.config is None else read_settings(arguments.config)
    names = tuple(options("judge"))
    given = {name: value for name, value in file.items() if name in (*names, *TABLES)}
    flags = {name: getattr(arguments, name) for name in (*names, *_OF_THE_SET)}
    given |= {name: value for name, value in flags.items() if value is not None}
    db = Path(given.pop("db", DEFAULT_DB))
    console = open_console(stderr=arguments.json)
    result = api.calibrate(arguments.labelled, db, console=console, **given)
    if arguments.json and not given.get("dry_run"):
        _print_one(db, result.id)
    return result.exit_status


def _print_one(db: Path, calibration_id: str) -> None:
    from safemt_client.results.scores.calibrations import calibration
    from safemt_client.results.store.reader import open_reader

    with open_reader(db) as reader:
        _print_json(calibration(reader, calibration_id))


def _list(db: Path, *, as_json: bool) -> int:
    refuse_facts(db, "calibrate")
    from safemt_client.results.report.sections.calibration import side_by_side
    from safemt_client.results.report.terminal import show
    from safemt_client.results.scores.calibrations import compared, listed
    from safemt_client.results.store.reader import open_reader

    with open_reader(db) as reader:
        rows = listed(reader)
        if not rows:
            raise InputError(f"{db}: has no calibrations yet: make one with --judge NAME --set FILE")
        rows.sort(key=lambda row: -row["accuracy"]["estimate"] if row["accuracy"] else 1.0)
        first: dict[str, str] = {}
        paired: dict[str, dict[str, Any]] = {}
        for row in rows:
            best = first.setdefault(row["set_digest"], row["calibration_id"])
            if best != row["calibration_id"] and (found := compared(reader, best, row["calibration_id"])):
                paired[row["calibration_id"]] = found
    if as_json:
        _print_json([row | {"less_the_first": paired.get(row["calibration_id"])} for row in rows])
    else:
        show(side_by_side(rows, paired), open_console())
    return 0


def _print_json(found: object) -> None:
    from safemt_client.results.scores.collect import without_nan

    print(json.dumps(without_nan(found), indent=2, default=str, allow_nan=False))
