"""Results in the formats of other programs, with or without their texts."""

from __future__ import annotations

import importlib
import pkgutil
from pathlib import Path
from typing import TYPE_CHECKING

from safemt_client.providers.errors import InputError
from safemt_client.results.exports import formats

if TYPE_CHECKING:
    from safemt_client.providers.plugins import Plugin
    from safemt_client.results.exports.tables import Dump
    from safemt_client.results.store.queries import Queryable

__all__ = ["FORMATS", "export"]

# The command line shows these names: nothing is imported for them.
FORMATS = tuple(found.name for found in pkgutil.iter_modules(formats.__path__))
"""The formats that are built in."""


def export(reader: Queryable, form: str, run_id: str | None, folder: Path, *, redact: bool) -> list[Path]:
    """Write a run (None is the latest) below `folder`; return the files. Those that exist are replaced.

    Raises:
        InputError: no such format or run, the folder cannot be written, or it is to contain no texts but has
            files of another export.
    """
    from safemt_client.providers.plugins import find, say_hidden
    from safemt_client.results.exports.redaction import Redaction, labels_of
    from safemt_client.results.exports.tables import Dump
    from safemt_client.results.scores.collect import latest_run
    from safemt_client.results.store.places import address_of
    from safemt_client.results.store.reader import Reader

    if isinstance(reader, Reader) and reader.facts is not None:
        raise InputError("export: facts have no texts, and are an export already: name a store with --db")
    plugin = None if form in FORMATS else find("exports", form)
    if plugin is None and form not in FORMATS:
        raise InputError(f"--format {form}: no such format; choose one of {', '.join(FORMATS)}")
    if form != "facts" and (address := address_of(folder)) is not None:
        raise InputError(f"--out {address}: --format {form} is written to a folder; facts go into a bucket")
    run_id = latest_run(reader, run_id)
    dump = Dump(reader, run_id, Redaction(labels_of(reader, run_id)) if redact else None)
    if plugin is not None:
        return _by_plugin(plugin, dump, folder)
    say_hidden("exports", form)
    paths: list[Path] = importlib.import_module(f"{formats.__name__}.{form}").export(dump, folder)
    return paths


def _by_plugin(plugin: Plugin, dump: Dump, folder: Path) -> list[Path]:
    paths = plugin.make(dump, folder)
    if not isinstance(paths, list) or not all(isinstance(path, Path) for path in paths):
        raise InputError(f"{plugin}: did not return a list of the paths that it has written")
    return paths
