"""The command `import`: its arguments, and what it says at the end."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from safemt_client.providers.errors import InputError
from safemt_client.results.sanitize import plain, quoted
from safemt_client.results.screen import open_console

if TYPE_CHECKING:
    from safemt_client.importing.writing import Imported

__all__ = ["add_arguments", "import_"]

_FORMATS = ("reference", "inspect", "csv", "jsonl")
_OF_DATA = ("data_map", "data_value", "data_config", "data_split", "follow_links")
"""Settings that say how `--data` is read."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    from safemt_client.cli.flags import DEFAULT_DB, add_setting

    parser.add_argument(
        "files", nargs="+", type=Path, metavar="FILE", help="a file, or a folder of the reference's"
    )
    parser.add_argument(
        "--target", required=True, metavar="NAME", help="what the model that answered is called"
    )
    parser.add_argument(
        "--format", choices=_FORMATS, help="form of the files (default: what their names say)"
    )
    add_setting(parser, "db")
    parser.set_defaults(db=DEFAULT_DB)
    data = parser.add_argument_group("data")
    add_setting(
        data, "data", help="the data that were asked, for texts and pictures", default="what the files have"
    )
    for name in _OF_DATA:
        add_setting(data, name)
    data.add_argument(
        "--only-matching", action="store_true", help="leave out what is not in the data as it is there"
    )
    labels = parser.add_argument_group("labels")
    who = labels.add_mutually_exclusive_group()
    who.add_argument(
        "--label-by",
        metavar="NAME",
        help="what the judge of the labels is called, or which of several decides (default: what the "
        "files say, else imported)",
    )
    who.add_argument("--labels-by-people", metavar="NAME", help="the labels are those of this person")
    for label in ("safe", "unsafe"):
        labels.add_argument(
            f"--{label}", action="append", metavar="WORD", help=f"a label that means {label}; repeatable"
        )
    parser.add_argument(
        "--field",
        action="append",
        metavar="NAME=FIELD",
        help="what id, turns, reply, label, question, ... are called in the files; repeatable",
    )
    parser.add_argument(
        "--new-run", action="store_true", help="import a changed file beside what was imported before"
    )


def import_(arguments: argparse.Namespace) -> int:
    """Import replies and labels that were made elsewhere."""
    from safemt_client.importing.results import import_results

    done = import_results(
        arguments.files,
        arguments.target,
        arguments.db,
        format=arguments.format,
        data=arguments.data,
        **{name: getattr(arguments, name) for name in (*_OF_DATA, "only_matching", "new_run")},
        label_by=arguments.label_by,
        labels_by_people=arguments.labels_by_people,
        safe=arguments.safe or (),
        unsafe=arguments.unsafe or (),
        fields=_fields(arguments.field or ()),
    )
    console = open_console()
    for line in _told(done, arguments.db):
        console.print(plain(line), markup=False, soft_wrap=True)
    return 0


def _fields(given: Sequence[str]) -> dict[str, str]:
    found = {}
    for text in given:
        name, equals, field = text.partition("=")
        if not equals or not name or not field:
            raise InputError(f"--field {text}: write NAME=FIELD, such as --field reply=answer")
        found[name] = field
    return found


def _told(done: Imported, db: Path) -> Iterator[str]:
    lengths = ", ".join(map(str, sorted(done.lengths)))
    if done.nothing_new:
        yield f"{done.source}: nothing new: run {done.runs[-1]} has all of it"
    else:
        yield (
            f"run {done.runs[-1]}: {done.replies:,} {'reply' if done.replies == 1 else 'replies'} of "
            f"{done.target} imported from {done.source}, number of user turns {lengths}"
        )
    if len(done.runs) > 1:
        yield f"each judge's labels are a run of their own: {', '.join(done.runs)}"
    for name, counts in done.labels.items():
        yield f"labels by {name}: " + ", ".join(
            f"{counts.get(label, 0):,} {label}" for label in ("unsafe", "safe", "unscored")
        )
    yield from done.notes
    if not done.nothing_new:
        where = f"--run {done.runs[-1]} --db {quoted(db)}"
        yield f"see: python -m safemt_client report {where}"
        if not done.texts:
            yield "the files have no texts of replies: they cannot be judged again"
            return
        yield f"judge them again: python -m safemt_client judge {where} --judge NAME"
