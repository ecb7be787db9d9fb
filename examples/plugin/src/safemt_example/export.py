"""An export that is a table in Markdown: a conversation a row."""

from __future__ import annotations

from pathlib import Path

from safemt_client.results.exports.files import check_folder, partial
from safemt_client.results.exports.tables import CONVERSATIONS, Dump


def export(dump: Dump, folder: Path) -> list[Path]:
    """Write `conversations.md`. It holds ids and labels alone, so that there is nothing to redact."""
    path = folder / "conversations.md"
    check_folder(folder, [path], dump.redact)
    columns = ("target", "item_id", "length", "label")
    lines = [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
    for rows in dump.records(CONVERSATIONS):
        lines += [f"| {' | '.join(str(row[column]) for column in columns)} |" for row in rows]
    # The file gets its name once it is complete.
    with partial(path) as part:
        part.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return [path]
