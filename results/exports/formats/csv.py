"""One CSV file a table."""

from __future__ import annotations

from pathlib import Path

from safemt_client.results.exports.files import export_tables, write_csv
from safemt_client.results.exports.tables import Dump

__all__ = ["ABOUT", "export"]

ABOUT = "one CSV file a table"


def export(dump: Dump, folder: Path) -> list[Path]:
    """Write `TABLE.csv` for each table; see `files.write_csv`."""
    return export_tables(dump, folder, "csv", write_csv)
