"""Human labels: one reply after another in the terminal, or through a CSV file."""

from __future__ import annotations

import argparse
import getpass
import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.panel import Panel

from safemt_client.cli.flags import refuse_facts, refuse_flags
from safemt_client.datasets.again import PictureFiles
from safemt_client.providers.errors import InputError
from safemt_client.results.report.sections.checks import needed_lines
from safemt_client.results.sanitize import plain, quoted, shown_path
from safemt_client.results.scores.collect import latest_run
from safemt_client.results.scores.drawing import finished
from safemt_client.results.scores.for_people import candidates_of, draw_for_people, known_errors
from safemt_client.results.scores.human import (
    Candidate,
    draw,
    known_replies,
    pictures_of,
    read_csv,
    sample_judge,
    write_csv,
)
from safemt_client.results.scores.needed import labels_needed, read_width
from safemt_client.results.screen import open_console
from safemt_client.results.store.reader import open_reader
from safemt_client.results.store.rows import HumanLabelRow
from safemt_client.results.store.store import Store

__all__ = ["add_arguments", "label"]

_SAMPLE = 100
_KEYS = {"s": "safe", "u": "unsafe", "d": "unsure"}
_HELP = "s safe, u unsafe, d unsure, p open the pictures, n next (skip), b back, q quit (labels are saved)"
_OPENERS = {"darwin": "open", "win32": "explorer"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Its own arguments."""
    parser.add_argument(
        "--judge",
        metavar="NAME",
        help="judge whose labels the sample is drawn by (default: the run's)",
    )
    parser.add_argument("--n", type=int, metavar="N", help="size of the sample (default: 100)")
    parser.add_argument(
        "--adaptive",
        type=int,
        metavar="N",
        help="in place of --n: a sample of some N replies, most where the judge may be wrong",
    )
    parser.add_argument(
        "--want", metavar="WIDTH", help="only say how many labels give '2 points' either side"
    )
    parser.add_argument("--annotator", metavar="NAME", help="name of the annotator (default: your user name)")
    files = parser.add_mutually_exclusive_group()
    files.add_argument("--export", type=Path, metavar="CSV", help="write the sample, to be filled in")
    files.add_argument(
        "--import", dest="import_file", type=Path, metavar="CSV", help="read a sample that was filled in"
    )


def label(arguments: argparse.Namespace) -> int:
    """Label a sample of a run's replies; the same command continues where it stopped."""
    path = arguments.db
    refuse_facts(path, "label")
    annotator = arguments.annotator or _user()
    console = open_console()
    if arguments.import_file is not None:
        refuse_flags(
            arguments,
            ("run", "judge", "n", "adaptive", "want"),
            "it selects a sample, but --import FILE has its own: leave one of them out",
        )
        return _import(path, arguments.import_file, annotator, console)
    if arguments.want is not None:
        refuse_flags(arguments, ("n", "adaptive", "export"), "--want only says how many labels it takes")
        return _want(arguments, console)
    candidates, what = _candidates(arguments, annotator)
    with open_reader(path) as reader:
        find = PictureFiles(reader, path, latest_run(reader, arguments.run)).find
    if arguments.export is not None:
        count = write_csv(arguments.export, candidates, find)
        console.print(
            f"{shown_path(arguments.export)}: {count} replies; "
            "fill the column label with safe, unsafe or unsure, then: "
            f"python -m safemt_client label --import {quoted(arguments.export)} --db {quoted(path)}",
            markup=False,
            soft_wrap=True,
        )
        return 0
    if not candidates:
        console.print(f"nothing left to label in {what}", markup=False, soft_wrap=True)
        return 0
    if not sys.stdin.isatty():
        raise InputError("label: needs a terminal: use --export FILE and --import FILE instead")
    with Store.open(path, "store", command="label") as store:

        def keep(candidate: Candidate, found: str) -> None:
            c = candidate
            row = (
                c.request_hash,
                c.dialogue_key,
                c.stratum,
                annotator,
                found,
                datetime.now(UTC),
                c.reply_hash,
            )
            store.save_now(HumanLabelRow(*row))

        done = ask(candidates, keep, lambda: console.input("[bold]label[/] "), console, find)
    console.print(
        f"{done} labelled, {len(candidates) - done} to go; "
        f"see: python -m safemt_client report --db {quoted(path)}",
        markup=False,
        soft_wrap=True,
    )
    return 0


def _candidates(arguments: argparse.Namespace, annotator: str) -> tuple[list[Candidate], str]:
    """What is to be labelled, and which sample that is of."""
    path, adaptive = arguments.db, arguments.adaptive
    size = adaptive or (_SAMPLE if arguments.n is None else arguments.n)
    for name in ("n", "adaptive"):
        given = getattr(arguments, name)
        if given is not None and given < 1:
            raise InputError(f"--{name} {given}: give a number above 0")
    if adaptive is not None and arguments.n is not None:
        raise InputError("--n: is the size of the other kind of sample: leave it or --adaptive out")
    with open_reader(path) as reader:
        run_id = latest_run(reader, arguments.run)
        judge_key = sample_judge(reader, run_id, arguments.judge)
        if adaptive is None:
            found = draw(reader, run_id, judge_key, size, annotator)
            return found, f"the sample of {size} replies; a larger --n draws more"
        drawn = draw_for_people(reader, run_id, judge_key, size)
    if drawn.replies:
        # With all its chances, before anybody sees a reply of it.
        with Store.open(path, "store", command="label") as store:
            store.save_now(drawn.row, *drawn.replies)
    with open_reader(path) as reader:
        found = candidates_of(reader, drawn.row.draw_id, annotator)
    return found, f"the sample of about {drawn.row.wanted} replies; a larger --adaptive draws more"


def _want(arguments: argparse.Namespace, console: Console) -> int:
    half = read_width(arguments.want)
    with open_reader(arguments.db) as reader:
        run_id = latest_run(reader, arguments.run)
        judge_key = sample_judge(reader, run_id, arguments.judge)
        finished(reader, run_id)
        replies, errors = known_errors(reader, run_id, judge_key)
        rows = labels_needed(reader, run_id, judge_key, replies, errors, half)
    for line in needed_lines(rows, half, errors.basis):
        console.print(line, markup=False, soft_wrap=True, highlight=False)
    return 0


def ask(
    candidates: Sequence[Candidate],
    keep: Callable[[Candidate, str], None],
    read: Callable[[], str],
    console: Console,
    find: Callable[[str], Path | None] = lambda _: None,
) -> int:
    """Show each reply without the judge's label, and keep the answer; return how many were labelled.

    `find` gives the file of a picture by its hash.
    """
    labelled: dict[int, str] = {}
    place = 0
    console.print(_HELP)
    while place < len(candidates):
        candidate = candidates[place]
        console.rule(f"{place + 1} of {len(candidates)}")
        messages = json.loads(candidate.messages)
        if not messages and candidate.question:
            # Of an imported reply there may be no more.
            console.print(f"[dim]question:[/] {escape(plain(candidate.question))}")
        for message in messages:
            for sha in message.get("images") or ():
                console.print(f"[dim]picture:[/] {escape(plain(_where(find(sha))))}", soft_wrap=True)
            console.print(f"[dim]{message['role']}:[/] {escape(plain(message['content']))}")
        console.print(Panel(escape(plain(candidate.reply)), title="reply", title_align="left"))
        try:
            key = read().strip().lower()[:1]
        except (EOFError, KeyboardInterrupt):
            break
        if key in _KEYS:
            keep(candidate, _KEYS[key])
            labelled[place] = _KEYS[key]
            place += 1
        elif key == "p":
            _open([file for sha in pictures_of(candidate) if (file := find(sha)) is not None], console)
        elif key == "n":
            place += 1
        elif key == "b":
            place = max(0, place - 1)
        elif key == "q":
            break
        else:
            console.print(_HELP)
    return len(labelled)


def _where(file: Path | None) -> str:
    return "its file was moved or has changed" if file is None else str(file)


def _open(files: Sequence[Path], console: Console) -> None:
    """Show pictures with whatever the system shows them with."""
    program = shutil.which(_OPENERS.get(sys.platform, "xdg-open"))
    if program is None or not files:
        console.print("no picture to open" if not files else "no program here opens pictures: use the path")
        return
    for file in files:
        with suppress(OSError):
            subprocess.Popen(
                [program, str(file)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )


def _import(path: Path, file: Path, annotator: str, console: Console) -> int:
    rows = list(read_csv(file))
    with Store.open(path, "store", command="label") as store:
        known = known_replies(store)
        labels = []
        for request_hash, dialogue_key, said, stratum, found, kind, note in rows:
            texts = known.get((request_hash, dialogue_key), ())
            if not texts or said not in ("", *texts):
                raise InputError(
                    f"{file}: reply {request_hash[:12]} of {dialogue_key} is not in {path}: "
                    "name its store with --db"
                )
            row = (request_hash, dialogue_key, stratum, annotator, found, datetime.now(UTC), said or texts[0])
            labels.append(HumanLabelRow(*row, refusal_kind=kind, note=note))
        if labels:
            store.save_now(*labels)
    console.print(f"{len(rows)} labels of {annotator} imported", markup=False)
    return 0


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        raise InputError("label: no annotator name: add --annotator NAME") from None
