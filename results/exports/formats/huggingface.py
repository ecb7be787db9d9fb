"""A folder that the Hugging Face hub and `datasets` take: Parquet files and a card."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from safemt_client import __version__
from safemt_client.results.exports.files import check_folder, partial, write_parquet
from safemt_client.results.exports.tables import (
    CONVERSATIONS,
    JUDGES,
    RUNS,
    TARGETS,
    Column,
    Dump,
    Table,
)
from safemt_client.results.sanitize import plain

__all__ = ["ABOUT", "export"]

ABOUT = "Parquet files and a card for the Hugging Face hub"

_LICENCES = {
    *("apache-2.0", "mit", "cc0-1.0", "cc-by-4.0", "cc-by-sa-4.0", "cc-by-nc-4.0", "cc-by-nc-sa-4.0"),
    *("cc-by-nd-4.0", "cc-by-nc-nd-4.0", "bsd-3-clause", "odc-by", "odbl", "gpl-3.0", "agpl-3.0"),
}
_KINDS = {
    "text": "text: what the data, a model or a person said",
    "label": "label",
    "labels": "list of labels",
    "messages": "list of role, content and image hashes",
    "json": "JSON",
    "int": "integer",
    "float": "number",
    "bool": "true or false",
    "time": "UTC",
}


def export(dump: Dump, folder: Path) -> list[Path]:
    """Write `data/*.parquet` and the card `README.md`; `datasets` takes no table without rows.

    Raises:
        InputError: the folder cannot be written, or is to contain no texts but has other files.
    """
    paths = {table.name: folder / "data" / f"{table.name}.parquet" for table in dump.tables}
    card = folder / "README.md"
    check_folder(folder, [*paths.values(), card], dump.redact)
    written = [
        table
        for table in dump.tables
        if write_parquet(paths[table.name], table, dump.records(table), dump.redact, leave_empty_out=True)
    ]
    with partial(card) as part:
        part.write_text(_card(dump, written), encoding="utf-8")
    return [card, *(paths[table.name] for table in written)]


def _card(dump: Dump, tables: Sequence[Table]) -> str:
    run = dump.some(RUNS, [])[0]
    targets, judges = dump.some(TARGETS, []), dump.some(JUDGES, [])
    name = _line(f"{run['dataset_name']}: run {run['run_id']}")
    head = [
        "---",
        *_licence(run["dataset_licence"]),
        f"pretty_name: {json.dumps(name)}",
        "tags:",
        *(f"  - {tag}" for tag in ("safety", "red-teaming", "multi-turn", "multimodal", "safemt")),
        "configs:",
    ]
    for table in tables:
        head += [f"  - config_name: {table.name}", f"    data_files: data/{table.name}.parquet"]
        if table.name == CONVERSATIONS.name:
            head.append("    default: true")
    texts = (
        "Texts are left out: messages, replies, reasoning, explanations and errors. Ids, hashes, labels, "
        "counts, times and settings are there."
        if dump.redact
        else "**Holds texts that may be harmful, and texts of the data set, which are under its licence.** "
        "Share it only as that licence allows; `export --redact` leaves them out."
    )
    licence = _line(run["dataset_licence"] or "not stated")
    body = [
        "---",
        "",
        f"# {name}",
        "",
        f"Results of safemt_client {__version__}: multimodal chat models under dialogues that spread "
        "harm over several turns.",
        "",
        texts,
        "",
        f"- data: {_line(run['dataset_name'])}, digest `{_line(run['dataset_digest'])}`, licence {licence}",
        *(
            f"- target: {_line(t['name'])} ({_line(t['identity'])}, history {t['history']})"
            + (f", imported from {_line(t['imported_from'])}" if t["imported_from"] else "")
            for t in targets
        ),
        *(
            f"- judge: {_line(j['name'])} ({_line(j['identity'])}, rubric {_line(j['rubric'])})"
            for j in judges
        ),
        "",
        "Labels are those of the judges, and no better than they are: compare them with people's before you "
        "rely on them.",
        "",
    ]
    for table in tables:
        body += [f"## {table.name}", "", f"{table.about}.", "", "| column | |", "|---|---|"]
        body += [f"| `{column.name}` | {_kind(column)} |" for column in table.kept(dump.redact)]
        body.append("")
    return "\n".join([*head, *body])


def _kind(column: Column) -> str:
    return _KINDS.get(column.kind, "")


def _licence(licence: str | None) -> list[str]:
    known = (licence or "").strip().lower()
    if known in _LICENCES:
        return [f"license: {known}"]
    if not known:
        return ["license: unknown"]
    # A name of the hub's own form, and the one that was given.
    short = re.sub(r"[^a-z0-9.]+", "-", known).strip("-.")[:60] or "other"
    return ["license: other", f"license_name: {json.dumps(short)}"]


def _line(value: Any) -> str:
    """A value in a line of Markdown: nothing in it is markup."""
    return re.sub(r"([\\`*<>\[\]|])", r"\\\1", plain(str(value)))
