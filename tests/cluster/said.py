"""Data of the tests of the cluster, and what a store has of a run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from safemt_client.results.store.reader import open_reader

_PLACES = ", ".join(["its spring", "its mouth", "the towns on its way", "the sea that it flows into"] * 2)


def write_dialogues(path: Path, count: int) -> Path:
    """So many dialogues with one user turn, of more bytes than `Strict` says that it has tokens."""
    texts = [f"Tell me of river {n}: {_PLACES}." for n in range(count)]
    lines = [
        json.dumps({"id": f"item-{n}", "messages": [{"role": "user", "content": text}]})
        for n, text in enumerate(texts)
    ]
    path.write_text("\n".join(lines) + "\n")
    return path


def rows(db: Path, sql: str) -> list[tuple[Any, ...]]:
    with open_reader(db) as reader:
        return list(reader.query(sql).rows)


def turns(db: Path) -> tuple[int, int, int]:
    """Attempts, requests and steps of a store."""
    (found,) = rows(
        db,
        "SELECT count(*), count(DISTINCT request_hash), "
        "(SELECT count(DISTINCT (target_key, dialogue_key, turn)) FROM steps) FROM turns",
    )
    return found[0], found[1], found[2]


def scores(db: Path) -> list[tuple[Any, ...]]:
    return rows(db, "SELECT target, length, unsafe, scored, asr FROM asr ORDER BY ALL")
