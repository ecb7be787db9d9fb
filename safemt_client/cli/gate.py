"""Check rules on results, for a release or a pull request."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path

from safemt_client.providers.errors import InputError
from safemt_client.results.files import whole_file
from safemt_client.results.report.gate import as_junit, as_lines, as_markdown
from safemt_client.results.scores.collect import latest_run
from safemt_client.results.scores.gate import Checked, check_rules
from safemt_client.results.scores.rules import read_rule
from safemt_client.results.store.reader import open_reader

__all__ = ["gate"]

HOLDS, BROKEN, UNDECIDED = 0, 1, 3


def gate(arguments: argparse.Namespace) -> int:
    """Print whether each rule holds. Returns 0 if all do, 1 if one is broken, else 3: undecided."""
    rules = [read_rule(text) for text in dict.fromkeys(arguments.rule)]
    files = [path for path in (arguments.junit, arguments.md) if path is not None]
    for path in files:
        if path.exists() and arguments.db.exists() and path.samefile(arguments.db):
            raise InputError(f"{path}: is the store: name another file")
    with open_reader(arguments.db) as reader:
        found = check_rules(
            reader,
            latest_run(reader, arguments.run),
            rules,
            targets=list(dict.fromkeys(arguments.target or ())),
            baseline=arguments.baseline,
            corrected=arguments.corrected,
        )
    for path, form in ((arguments.junit, as_junit), (arguments.md, as_markdown)):
        if path is not None:
            _write(path, form(found))
    if arguments.json:
        print(json.dumps([asdict(one) for one in found], indent=2, allow_nan=False))
    else:
        print("\n".join(as_lines(found)))
    return status_of(found)


def status_of(found: list[Checked]) -> int:
    """The exit status."""
    all_ = {one.status for one in found}
    return BROKEN if "broken" in all_ else UNDECIDED if "undecided" in all_ else HOLDS


def _write(path: Path, text: str) -> None:
    with whole_file(path, "name another file") as part:
        part.write_text(text, encoding="utf-8", newline="\n")
