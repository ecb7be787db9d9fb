"""One Parquet file a table."""

from __future__ import annotations

from pathlib import Path

from safemt_client.results.exports.files import export_tables, write_parquet
from safemt_client.results.exports.tables import Dump

__all__ = ["ABOUT", "export"]

ABOUT = "one Parquet file a table"


def export(dump: Dump, folder: Path) -> list[Path]:
    """Write `TABLE.parquet` for each table; see `files.write_parquet`."""
    return export_tables(dump, folder, "parquet", write_parquet)
