"""`view --export`: a run as pages that need no server."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from safemt_client.cli.flags import refuse_facts
from safemt_client.providers.errors import InputError

__all__ = ["add_arguments", "export_pages"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `view` that belong to `--export`."""
    parser.add_argument(
        "--export", type=Path, metavar="DIR", help="write a run as pages that need no server to DIR, and end"
    )
    parser.add_argument("--run", metavar="RUN", help="with --export: the run (default: the latest)")
    parser.add_argument(
        "--redact",
        action="store_true",
        help="with --export: leave out all texts and images, as `export` does",
    )
    parser.add_argument("--no-images", action="store_true", help="with --export: leave out the images")
    parser.add_argument(
        "--limit", type=int, metavar="N", help="with --export: conversations of the first N items only"
    )
    parser.add_argument(
        "--filter",
        metavar="FILTERS",
        help="with --export: only conversations that match, as in the address of the viewer's list: "
        "'verdict=unsafe&length=8'",
    )
    parser.add_argument(
        "--overwrite",
        action="store_true",
        help="with --export: replace what an earlier --export wrote to DIR",
    )


def export_pages(arguments: argparse.Namespace) -> int:
    """Write the pages, and say what there is.

    Raises:
        InputError: an option is wrong, the store cannot be read or nothing in it matches, or DIR is taken.
    """
    from safemt_client.results.sanitize import shown_path
    from safemt_client.viewer.bundle import export_pages as write
    from safemt_client.viewer.filters import Filters
    from safemt_client.viewer.wanted import Wanted, filters_of

    refuse_facts(arguments.db, "view --export")
    if arguments.limit is not None and arguments.limit < 1:
        raise InputError(f"--limit {arguments.limit}: give 1 or more")
    wanted = Wanted(
        run=arguments.run,
        filters=Filters() if arguments.filter is None else filters_of(arguments.filter),
        items=arguments.limit,
        redact=arguments.redact,
        images=not arguments.no_images,
        overwrite=arguments.overwrite,
    )
    terminal = sys.stderr.isatty()

    def tell(text: str) -> None:
        if terminal:
            print(f"\r{text}", end="", file=sys.stderr, flush=True)

    try:
        done = write(arguments.db, arguments.export, wanted, tell)
    finally:
        if terminal:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)
    print(
        f"run {done['run']}: {done['conversations']:,} conversations, {done['pictures']:,} images; "
        f"{done['files']:,} files, {done['bytes'] / 1e6:,.1f} MB"
    )
    if done["pictures_missing"]:
        print(f"{done['pictures_missing']:,} images were not found in the data set's folder", file=sys.stderr)
    if not arguments.redact:
        print("careful: the pages have the texts of the data set and of the models: --redact leaves them out")
    print(f"open {shown_path(arguments.export / 'index.html')}")
    return 0
