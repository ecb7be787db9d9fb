"""The command `runs`: the runs of one store, or of several."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from safemt_client.providers.errors import InputError

__all__ = ["add_arguments", "runs"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Those of `runs`."""
    from safemt_client.cli.flags import add_setting

    parser.add_argument(
        "stores",
        nargs="*",
        type=Path,
        metavar="STORE",
        help="stores whose runs are listed together (default: that of --db)",
    )
    add_setting(parser, "db")
    parser.add_argument(
        "--release",
        metavar="RUN",
        help="count what is held of this run for calls in flight at a kill as not spent (see --max-cost)",
    )


def runs(arguments: argparse.Namespace) -> int:
    """List the runs of stores, or release what is held of one."""
    from safemt_client.cli.flags import DEFAULT_DB

    named = list(dict.fromkeys(arguments.stores))
    if named and arguments.db is not None:
        raise InputError("--db: goes without stores named beside it: name them all one way")
    if arguments.release is not None:
        if len(named) > 1:
            raise InputError("--release: what is held is of one store: name one")
        return _release(arguments.release, named[0] if named else arguments.db or DEFAULT_DB)
    from safemt_client.results.access import OpenStore
    from safemt_client.results.names import short_names
    from safemt_client.results.sanitize import shown_path
    from safemt_client.results.sql.output import print_result
    from safemt_client.results.store.queries import Result
    from safemt_client.results.store.reader import open_reader

    columns: list[str] = []
    rows = []
    for path in named or [arguments.db or DEFAULT_DB]:
        try:
            with OpenStore(open_reader(path)) as store:
                found = store.runs()
        except InputError as error:
            if not named:
                raise
            # All other commands name a store with --db; here that does not go with names beside it.
            said = str(error).replace("name one with --db", "check its name").replace(" with --db", "")
            raise type(error)(said) from None
        columns = [*found.columns, "store"] if len(named) > 1 else found.columns
        rows += [(*row, shown_path(path)) if len(named) > 1 else tuple(row) for row in found.rows]
    # Those of one store stand in the order of their time: so do those of several.
    rows.sort(key=lambda row: str(row[1]).replace("T", " "))
    names = short_names(value for row in rows for value in row if isinstance(value, str))
    shown = [tuple(names[value] if isinstance(value, str) else value for value in row) for row in rows]
    print_result(Result(columns, shown), "table", sys.stdout)
    return 0


def _release(run_id: str, db: Path) -> int:
    from safemt_client import api
    from safemt_client.planning.costs import money

    usd = api.release(db, run=run_id)
    print(f"run {run_id}: {f'{money(usd)} released' if usd else 'nothing is held'}")
    return 0
