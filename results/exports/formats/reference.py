"""Results in the reference's own file layout, so that anyone can check with the authors' script."""

from __future__ import annotations

import json
import re
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from pathlib import Path

from safemt_client.providers.errors import InputError
from safemt_client.results.exports.files import partial
from safemt_client.results.exports.tables import TARGETS, Dump
from safemt_client.results.sanitize import plain, shown_path, without_secrets

__all__ = ["ABOUT", "export"]

ABOUT = "labels in the reference's own layout"

_LONGEST_NAME, _KEY_DIGITS = 100, 8


def export(dump: Dump, folder: Path) -> list[Path]:
    """Write `<k>/label/<model>.json`, a list of `id` and `safety_label`, for each length and target.

    Benign items, which are in no attack success rate, are in `<k>/benign/<model>.json`. A reply without a
    verdict is written as `unscored`, which the reference's script leaves out of ASR and counts as safe in
    sigma. Each target has files of its own; where two names would give the same one, both get the beginning
    of the target's key, which is said on stderr. All files are written, or none; those of the same names are
    replaced. Of a run with several samples each has a folder of its own, `sample-1` and so on.

    These are ids and labels alone: there is nothing that could be left out.

    Raises:
        InputError: the folder cannot be written, or has rounds of these targets that this run does not have.
    """
    rows = dump.reader.query(
        "SELECT length, target_key, target, item_id, benign IS TRUE, coalesce(label, 'unscored'), sample "
        "FROM conversations "
        "WHERE run_id = ? AND state <> 'not_attempted' AND judge_key IS NOT DISTINCT FROM ? "
        "ORDER BY sample, length, target, target_key, item_id",
        [dump.run_id, dump.judge_key],
    ).rows
    names = _file_names({row[1]: row[2] for row in rows})
    _say_imported(dump)
    files: dict[Path, list[dict[str, str]]] = defaultdict(list)
    for length, target_key, _, item, benign, label, sample in rows:
        kind = "benign" if benign else "label"
        own = folder if dump.samples == 1 else folder / f"sample-{sample}"
        path = own / str(length) / kind / f"{names[target_key]}.json"
        files[path].append({"id": item, "safety_label": label})
    for own in {path.parents[2] for path in files}:
        _check_rounds(own, files, names.values())
    with ExitStack() as written:
        # Each gets its name at the end: whatever fails, no rounds of two exports stand side by side.
        for path, records in files.items():
            part = written.enter_context(partial(path))
            part.write_text(json.dumps(records, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return list(files)


def _say_imported(dump: Dump) -> None:
    """The layout has no field that could mark what was imported."""
    for target in dump.some(TARGETS, []):
        if target["imported_from"] is not None:
            print(
                f"safemt: {plain(target['name'])}: was imported from {plain(target['imported_from'])}, which "
                "this layout cannot show",
                file=sys.stderr,
            )


def _file_names(targets: Mapping[str, str]) -> dict[str, str]:
    """The name of each target's files, by its key: no two are the same, whatever the file system."""
    names = {key: _file_name(without_secrets(target)) for key, target in targets.items()}
    digits = _KEY_DIGITS
    while alike := _alike(names):
        names |= {key: f"{names[key]}-{key[:digits]}" for key in alike}
        digits *= 2
    for key, name in names.items():
        if name != _file_name(without_secrets(targets[key])):
            print(
                f"safemt: {plain(without_secrets(targets[key]))}: written as {name}.json: "
                "another target has a name like it",
                file=sys.stderr,
            )
    return names


def _alike(names: Mapping[str, str]) -> list[str]:
    """The keys of those whose name is that of another, for a file system that does not tell cases apart."""
    times = Counter(name.casefold() for name in names.values())
    return [key for key, name in names.items() if times[name.casefold()] > 1]


def _file_name(target: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "_", target).strip(".")[:_LONGEST_NAME] or "target"


def _check_rounds(folder: Path, wanted: Iterable[Path], names: Iterable[str]) -> None:
    """Refuse a folder with files of these targets that would stay: they belong to another export.

    Raises:
        InputError: there is one, which the reference's script would read as a round of this one.
    """
    ours = {name.casefold() for name in names}
    kept = set(wanted)
    for path in sorted([*folder.glob("*/label/*.json"), *folder.glob("*/benign/*.json")]):
        if path not in kept and path.parent.parent.name.isdigit() and path.stem.casefold() in ours:
            raise InputError(
                f"{shown_path(path)}: is of another export, and would be read as a round of this one: "
                "remove it, or name another folder with --out"
            )
