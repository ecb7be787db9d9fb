"""MT-Bench's question file (FastChat, Apache-2.0): benign two-turn questions without scripted replies."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from safemt_client.datasets.files import is_utf8, shown
from safemt_client.datasets.inside import within
from safemt_client.datasets.model import Dataset, Dialogue, ScriptedMessage
from safemt_client.datasets.reader import Reader
from safemt_client.datasets.rows import rows
from safemt_client.providers.errors import InputError

__all__ = ["READER", "is_mt_bench", "read"]


def is_mt_bench(record: Any) -> bool:
    """Whether a record is a question of MT-Bench."""
    return isinstance(record, dict) and "question_id" in record and "turns" in record


def detect(path: Path) -> bool:
    """Whether a file, or the `question.jsonl` of a folder, begins with a question of MT-Bench."""
    file = _file(path)
    first = next(rows(file), None) if file.suffix == ".jsonl" and file.is_file() else None
    return first is not None and is_mt_bench(first[1])


def _file(path: Path) -> Path:
    return path / "question.jsonl" if path.is_dir() else path


def read(path: Path) -> Dataset:
    """The questions of a file, or of a folder's `question.jsonl`; they need live history."""
    path = _file(path)
    dialogues = []
    seen: set[str] = set()
    for where, record in rows(path):
        if isinstance(record, InputError):
            raise record
        if not is_mt_bench(record):
            raise InputError(f"{where}: must have question_id and turns, as in MT-Bench")
        identity, turns = record["question_id"], record["turns"]
        if isinstance(identity, bool) or not isinstance(identity, str | int):
            raise InputError(f"{where}: field question_id: must be a string or a number")
        if not is_utf8(str(identity)):
            raise InputError(f"{where}: field question_id: contains an unpaired surrogate: rename it")
        item, category = str(identity), record.get("category")
        if category is not None and not isinstance(category, str):
            raise InputError(f"{where}: field category: must be a string")
        if not isinstance(turns, list) or not turns or not all(isinstance(turn, str) for turn in turns):
            raise InputError(f"{where}: field turns: must be a list of strings")
        if item in seen:
            raise InputError(f"{where}: the question_id {shown(item)} occurs twice")
        seen.add(item)
        dialogues.append(
            Dialogue(
                item_id=item,
                messages=tuple(ScriptedMessage("user", turn) for turn in turns),
                scenario=category or None,
                source="mt_bench",
                question=turns[0],
                benign=True,
                extra={k: v for k, v in record.items() if k not in ("question_id", "turns", "category")},
            )
        )
    return Dataset("MT-Bench", path.parent, tuple(dialogues), (), "Apache-2.0", live_only=True)


READER = Reader(
    "mt-bench",
    "a folder with MT-Bench's question.jsonl",
    lambda source: read(within(Path(source))),
    detect,
    rank=1,
)
