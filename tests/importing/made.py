"""Files as the authors' scripts and others write them, with harmless texts."""

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from safemt_client.results.store.reader import open_reader


def dialogue(*said: str) -> list[dict[str, str]]:
    """Messages, the user's first."""
    return [{"role": "assistant" if n % 2 else "user", "content": text} for n, text in enumerate(said)]


def record(item: str, *said: str, **more: Any) -> dict[str, Any]:
    """A record of the data, as the authors' scripts copy it into their results."""
    return {
        "id": item,
        "scenario": "Tea",
        "image_path": f"images/{item}.png",
        "dialogue": dialogue(*said),
        "question": f"How is {item} made?",
    } | more


def put(path: Path, content: object) -> Path:
    """Write JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
    return path


def put_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    """Write a table."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(dict.fromkeys(name for row in rows for name in row)))
        writer.writeheader()
        writer.writerows(rows)
    return path


def asked(query: str, path: Path = Path("safemt.duckdb")) -> list[tuple[Any, ...]]:
    """Rows of a query on a store."""
    with open_reader(path) as reader:
        return reader.query(query).rows
