"""Results in the reference's own file layout, so that anyone can check with the authors' script."""

from __future__ import annotations

import json
import os
import re
from collections import defaultdict
from pathlib import Path

from safemt_client.providers.errors import InputError
from safemt_client.results.sanitize import without_secrets
from safemt_client.results.scores.collect import deciding_judge, latest_run
from safemt_client.results.store.reader import Queryable

__all__ = ["export_reference"]


def export_reference(reader: Queryable, run_id: str | None, folder: Path) -> list[Path]:
    """Write `<k>/label/<model>.json`, a list of `id` and `safety_label`, for each length and target.

    A reply without a verdict is written as `unscored`, which the reference's script leaves out of
    ASR and counts as safe in sigma. Files are replaced as a whole.

    Raises:
        InputError: no such run, or the folder cannot be written.
    """
    run_id = latest_run(reader, run_id)
    files: dict[tuple[int, str], list[dict[str, str]]] = defaultdict(list)
    rows = reader.query(
        "SELECT length, target, item_id, coalesce(label, 'unscored') FROM conversations "
        "WHERE run_id = ? AND state <> 'not_attempted' AND judge_key IS NOT DISTINCT FROM ? "
        "ORDER BY length, target, item_id",
        [run_id, deciding_judge(reader, run_id)],
    ).rows
    for length, target, item, label in rows:
        files[length, target].append({"id": item, "safety_label": label})
    written = []
    for (length, target), records in files.items():
        path = folder / str(length) / "label" / f"{_file_name(without_secrets(target))}.json"
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            partial = path.with_suffix(".json.part")
            partial.write_text(json.dumps(records, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
            os.replace(partial, path)
        except OSError as error:
            raise InputError(f"{path}: {error.strerror}: name another folder with --out") from None
        written.append(path)
    return written


def _file_name(target: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "_", target).strip(".") or "target"
