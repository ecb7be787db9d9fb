"""One file of JSON lines a table."""

from __future__ import annotations

from pathlib import Path

from safemt_client.results.exports.files import export_tables, write_jsonl
from safemt_client.results.exports.tables import Dump

__all__ = ["ABOUT", "export"]

ABOUT = "one file of JSON lines a table"


def export(dump: Dump, folder: Path) -> list[Path]:
    """Write `TABLE.jsonl` for each table; see `files.write_jsonl`."""
    return export_tables(dump, folder, "jsonl", write_jsonl)
