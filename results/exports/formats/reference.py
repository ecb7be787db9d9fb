"""Results in the reference's own file layout, so that anyone can check with the authors' script."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from pathlib import Path

from safemt_client.results.exports.files import partial
from safemt_client.results.exports.tables import Dump
from safemt_client.results.sanitize import without_secrets

__all__ = ["ABOUT", "export"]

ABOUT = "labels in the reference's own layout"


def export(dump: Dump, folder: Path) -> list[Path]:
    """Write `<k>/label/<model>.json`, a list of `id` and `safety_label`, for each length and target.

    A reply without a verdict is written as `unscored`, which the reference's script leaves out of
    ASR and counts as safe in sigma. Files are replaced as a whole.

    These are ids and labels alone: there is nothing that could be left out.

    Raises:
        InputError: the folder cannot be written.
    """
    files: dict[tuple[int, str], list[dict[str, str]]] = defaultdict(list)
    rows = dump.reader.query(
        "SELECT length, target, item_id, coalesce(label, 'unscored') FROM conversations "
        "WHERE run_id = ? AND state <> 'not_attempted' AND judge_key IS NOT DISTINCT FROM ? "
        "ORDER BY length, target, item_id",
        [dump.run_id, dump.judge_key],
    ).rows
    for length, target, item, label in rows:
        files[length, target].append({"id": item, "safety_label": label})
    written = []
    for (length, target), records in files.items():
        path = folder / str(length) / "label" / f"{_file_name(without_secrets(target))}.json"
        with partial(path) as part:
            part.write_text(json.dumps(records, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        written.append(path)
    return written


def _file_name(target: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "_", target).strip(".") or "target"
