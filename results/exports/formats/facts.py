"""Facts of a run for a team: Parquet without texts, in a folder or a bucket that `--db` takes too."""

from __future__ import annotations

from pathlib import Path

from safemt_client.results.exports.facts import write_facts
from safemt_client.results.exports.tables import Dump

__all__ = ["ABOUT", "export"]

ABOUT = "text-free Parquet by data set, target and run, for report, leaderboard, compare and view"


def export(dump: Dump, folder: Path) -> list[Path]:
    """Write the facts of the run, in place of those that are there; return the files, the manifest last."""
    return write_facts(dump, folder)
