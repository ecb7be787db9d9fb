"""What a number of items can show, and how many it takes to show something."""

from __future__ import annotations

import argparse
import json

from safemt_client.cli.flags import DEFAULT_DB
from safemt_client.providers.errors import InputError
from safemt_client.results.report.power import power_lines, stands_on, wanted_line
from safemt_client.results.scores.collect import latest_run
from safemt_client.results.scores.power import ASSUMED, Spread, as_dict, power_of, read_wanted
from safemt_client.results.scores.spread import spread_of
from safemt_client.results.store.reader import open_reader

__all__ = ["power"]

_LENGTHS = 5


def power(arguments: argparse.Namespace) -> int:
    """Print what so many items can show; with `--want`, how many it takes."""
    _check(arguments)
    spread, items, lengths = _known(arguments)
    lengths = arguments.lengths or lengths or _LENGTHS
    wanted = [read_wanted(text) for text in arguments.want or ()]
    items = arguments.items or items
    if items is None and not wanted:
        raise InputError("--items: say how many, or what is wanted: --want 'difference 3'")
    if arguments.json:
        found = {"power": None if items is None else as_dict(power_of(items, lengths, spread))}
        sizes = [
            {"kind": one.kind, "size": one.size, "one_length": one.items(1, spread)}
            | {"all_lengths": one.items(lengths, spread)}
            for one in wanted
        ]
        print(json.dumps(found | {"wanted": sizes}, indent=2, allow_nan=False))
        return 0
    if items is not None:
        print(f"{items:,} items at {lengths} {'length' if lengths == 1 else 'lengths'}, 95 % intervals:")
        for line in power_lines(power_of(items, lengths, spread)):
            print(f"  {line}")
    for one in wanted:
        print(wanted_line(one, lengths, spread))
    if items is None:
        print(f"  {stands_on(spread, lengths)}")
    return 0


def _check(arguments: argparse.Namespace) -> None:
    for name in ("items", "lengths"):
        value = getattr(arguments, name)
        if value is not None and not 1 <= value <= 10**9:
            raise InputError(f"--{name} {value}: must be 1 or more")


def _known(arguments: argparse.Namespace) -> tuple[Spread, int | None, int | None]:
    """What a stored run has shown, with its numbers of items and lengths; without a store, assumptions."""
    if arguments.db is None and arguments.run is None and not DEFAULT_DB.exists():
        return ASSUMED, None, None
    with open_reader(arguments.db or DEFAULT_DB) as reader:
        run_id = latest_run(reader, arguments.run)
        rows = reader.query(
            """SELECT count(DISTINCT item_id), count(DISTINCT length) FROM conversations
               WHERE run_id = ? AND benign IS NOT TRUE""",
            [run_id],
        ).rows
        return spread_of(reader, run_id), rows[0][0] or None, rows[0][1] or None
