"""Results in the formats of other programs, with or without their texts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from safemt_client.results.exports.files import check_folder, write_csv, write_jsonl, write_parquet
from safemt_client.results.exports.huggingface import export_huggingface
from safemt_client.results.exports.inspect_log import export_inspect
from safemt_client.results.exports.redaction import Redaction, labels_of
from safemt_client.results.exports.reference import export_reference
from safemt_client.results.exports.tables import TABLES, Dump, Records, Table
from safemt_client.results.scores.collect import latest_run
from safemt_client.results.store.reader import Queryable

__all__ = ["FORMATS", "export"]

_WRITERS: dict[str, Callable[[Path, Table, Records, bool], object]] = {
    "parquet": write_parquet,
    "csv": write_csv,
    "jsonl": write_jsonl,
}
FORMATS = ("reference", *_WRITERS, "inspect", "huggingface")
"""What `export --format` takes."""


def export(reader: Queryable, form: str, run_id: str | None, folder: Path, *, redact: bool) -> list[Path]:
    """Write a run (None is the latest) below `folder`; return the files. Those that exist are replaced.

    Raises:
        InputError: no such run, the folder cannot be written, or it is to hold no texts but has files
            of another export.
    """
    run_id = latest_run(reader, run_id)
    if form == "reference":
        # Ids and labels alone: there is nothing to leave out.
        return export_reference(reader, run_id, folder)
    dump = Dump(reader, run_id, Redaction(labels_of(reader, run_id)) if redact else None)
    if form == "inspect":
        return export_inspect(dump, folder)
    if form == "huggingface":
        return export_huggingface(dump, folder)
    paths = {table.name: folder / f"{table.name}.{form}" for table in TABLES}
    check_folder(folder, paths.values(), redact)
    for table in TABLES:
        _WRITERS[form](paths[table.name], table, dump.records(table), redact)
    return list(paths.values())
