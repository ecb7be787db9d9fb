"""The command `merge`."""

from __future__ import annotations

import argparse
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

    for one in merge_stores(arguments.out, arguments.stores):
        print(f"{shown_path(one.path)}: {one.added:,} of {one.rows:,} rows taken in")
    print(f"{shown_path(arguments.out)}: made; the others are unchanged")
    return 0
