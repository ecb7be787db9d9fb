"""`data convert` and `data build`: write a data set in the open form, and make controls of it."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from safemt_client.cli.flags import add_setting

if TYPE_CHECKING:
    from safemt_client.datasets.model import Dataset
    from safemt_client.datasets.open_form import Written

__all__ = ["add_actions", "build", "convert"]


def add_actions(add: Callable[[str, str, str], argparse.ArgumentParser]) -> None:
    """Add the arguments of both; `add` makes a parser from a name, a summary and a description."""
    converting = add(
        "convert",
        "write any data that can be read in the open form",
        "Write the dialogues in the open form, with their pictures beside them. Nothing is lost.",
    )
    _source(converting)
    converting.add_argument(
        "--out", type=Path, required=True, metavar="FOLDER|FILE.jsonl", help="where to write; must not exist"
    )
    building = add(
        "build",
        "make controls of the dialogues",
        "Make controls of the dialogues: is it their length, their order or their pictures that count?",
    )
    building.add_argument(
        "recipe",
        nargs="+",
        metavar="RECIPE[=K,K]",
        help="pad, truncate, repeat (with numbers of user turns), swap-history, shuffle, blank, swap-image",
    )
    _source(building)
    building.add_argument(
        "--out", type=Path, required=True, metavar="FOLDER", help="where to write; must not exist"
    )
    building.add_argument(
        "--pad-with", metavar="PATH", help="benign dialogues for pad, such as MT-Bench's question.jsonl"
    )
    building.add_argument(
        "--parent-turns",
        type=int,
        metavar="K",
        help="of pad and repeat: take the last question of this many user turns (default: the item's fewest)",
    )
    building.add_argument("--seed", type=int, default=0, metavar="N", help="decides every draw (default: 0)")
    building.add_argument(
        "--with-original", action="store_true", help="write the originals too, so that one run asks all"
    )


def _source(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", required=True, metavar="PATH", help="what --data of a run takes")
    for name in ("data_map", "data_value", "data_config", "data_split", "follow_links"):
        add_setting(parser, name)


def _opened(arguments: argparse.Namespace) -> Dataset:
    from safemt_client.datasets import open_dataset

    return open_dataset(
        arguments.data,
        follow_links=bool(arguments.follow_links),
        data_map=arguments.data_map,
        values=arguments.data_value or (),
        config=arguments.data_config,
        split=arguments.data_split,
    )


def convert(arguments: argparse.Namespace) -> int:
    """Write a data set in the open form."""
    from safemt_client.datasets.open_form import convert as write

    source = _opened(arguments)
    written = write(source, arguments.out)
    _say_files(written)
    _say_rest(source, written)
    return 0


def build(arguments: argparse.Namespace) -> int:
    """Make controls of a data set."""
    from safemt_client.datasets import open_dataset
    from safemt_client.datasets.controls.build import build as make
    from safemt_client.datasets.controls.build import padding_of, wanted

    recipes = [wanted(text) for text in arguments.recipe]
    padding = None if arguments.pad_with is None else padding_of(open_dataset(arguments.pad_with))
    source = _opened(arguments)
    built = make(
        source,
        recipes,
        arguments.out,
        seed=arguments.seed,
        parent_turns=arguments.parent_turns,
        padding=padding,
        with_original=arguments.with_original,
    )
    _say_files(built.written)
    for recipe, reasons in built.left_out.items():
        for reason, count in reasons.items():
            print(f"{recipe}: left out {count:,} ({reason})")
    if padding is not None:
        for reason, count in padding.passed_over.items():
            print(f"--pad-with: passed over {count:,} dialogues ({reason})")
    if built.controls:
        print(f"passed over {built.controls:,} dialogues that are controls themselves")
    if built.live:
        print("some have no scripted replies: run them with --history live")
    _say_rest(source, built.written)
    return 0


def _say_files(written: Written) -> None:
    from safemt_client.results.sanitize import shown_path

    for path, count in written.files.items():
        print(f"{shown_path(path)}: {count:,} dialogues")
    print(f"{written.pictures:,} pictures")


def _say_rest(source: Dataset, written: Written) -> None:
    from safemt_client.results.sanitize import plain

    if written.missing:
        first = plain(written.missing[0])
        print(f"{len(written.missing):,} pictures are missing, as in the source: {first}", file=sys.stderr)
    if written.source_again:
        print(f"{written.source_again:,} ids begin like SafeMT's: their source is read from them")
    name = plain(source.name)
    if source.licence is None:
        print(f"the licence of {name} is not stated: whatever it is, it holds for these files too")
    else:
        print(f"the licence of {name} is {plain(source.licence)}: it holds for these files too")
