"""The command `merge`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

__all__ = ["add_arguments", "merge"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Those of `merge`."""
    parser.add_argument("out", type=Path, metavar="OUT", help="the new store, which must not exist yet")
    parser.add_argument("stores", type=Path, nargs="+", metavar="STORE", help="a store to take in")


def merge(arguments: argparse.Namespace) -> int:
    """Make one store of several."""
    from safemt_client.results.sanitize import shown_path
    from safemt_client.results.store.merging import merge as merge_stores

    found = merge_stores(arguments.out, arguments.stores)
    for one in found:
        print(f"{shown_path(one.path)}: {one.added:,} of {one.rows:,} rows taken in")
    for one in found:
        if one.answered_otherwise:
            print(
                f"careful: {shown_path(one.path)}: {one.answered_otherwise:,} of its requests have another "
                "reply in a store before it; for all runs the earlier judged one counts, so the figures of "
                "a run may differ from those of its own store",
                file=sys.stderr,
            )
    print(f"{shown_path(arguments.out)}: made; the others are unchanged")
    return 0
