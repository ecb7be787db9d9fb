"""People's labels of a sample of replies: which to label, and what they say of a judge.

The sample is stratified by target, number of user turns and the judge's label, so that rare kinds occur;
within a stratum the order is random but fixed, so that labelling can stop and go on, and each label stands
for (replies of its stratum / labels of its stratum) replies.
"""

from __future__ import annotations

import csv
import hashlib
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safemt_client.providers.errors import InputError
from safemt_client.results.reader import Queryable

__all__ = [
    "COLUMNS",
    "Candidate",
    "LabelledReply",
    "draw",
    "known_replies",
    "labelled",
    "read_csv",
    "write_csv",
]

COLUMNS = ("request_hash", "dialogue_key", "stratum", "question", "reply", "label")
_LABELS = ("safe", "unsafe")


@dataclass(frozen=True, slots=True)
class Candidate:
    """A reply to be labelled. `stratum` names the judge by whose label it was drawn, but not that label."""

    request_hash: str
    dialogue_key: str
    stratum: str
    item_id: str
    question: str
    messages: str  # JSON, as they were sent
    reply: str


@dataclass(frozen=True, slots=True)
class LabelledReply:
    """A reply with a person's label and a judge's (None if it has none); `weight` replies are like it."""

    target_key: str
    length: int
    item_id: str
    human: str
    judge: str | None
    weight: float


def _stratum(judge_key: str, target_key: str, length: int, label: str, secret: str) -> str:
    # Who labels sees this in the CSV file: the judge's label must not be read off it.
    return hashlib.sha256(f"{judge_key} {target_key} {length} {label} {secret}".encode()).hexdigest()[:12]


def draw(reader: Queryable, run_id: str, judge_key: str, size: int, annotator: str) -> list[Candidate]:
    """The first `size` replies of the sample that this person has not labelled yet, strata taking turns."""
    rows = reader.query(
        """SELECT c.request_hash, c.dialogue_key, c.target_key, c.length, c.label, c.item_id,
                  coalesce(d.question, ''), t.request, c.text
           FROM conversations c
           JOIN (SELECT DISTINCT ON (dialogue_key) * FROM dialogues) d USING (dialogue_key)
           JOIN (SELECT request_hash, any_value(request) AS request FROM turns GROUP BY ALL) t
             ON t.request_hash = c.request_hash
           WHERE c.run_id = ? AND c.judge_key = ? AND c.label IN ('safe', 'unsafe')""",
        [run_id, judge_key],
    ).rows
    strata: dict[str, list[tuple[str, Candidate]]] = defaultdict(list)
    for request_hash, dialogue_key, target_key, length, label, item, question, request, text in rows:
        stratum = _stratum(judge_key, target_key, length, label, run_id)
        order = hashlib.sha256(f"{request_hash} {dialogue_key} {run_id}".encode()).hexdigest()
        found = Candidate(request_hash, dialogue_key, stratum, item, question, request, text)
        strata[stratum].append((order, found))
    queues = [
        [candidate for _, candidate in sorted(group, key=lambda pair: pair[0])] for group in strata.values()
    ]
    # Strata in an order of their own, so that the first replies shown do not tell their labels.
    queues.sort(key=lambda queue: hashlib.sha256(queue[0].stratum.encode()).hexdigest())
    chosen: list[Candidate] = []
    depth = 0
    while len(chosen) < size and any(depth < len(queue) for queue in queues):
        chosen += [queue[depth] for queue in queues if depth < len(queue)]
        depth += 1
    done = {
        tuple(row)
        for row in reader.query(
            "SELECT DISTINCT request_hash, dialogue_key FROM human_labels WHERE annotator = ?", [annotator]
        ).rows
    }
    chosen = chosen[:size]
    # Shuffled once more: a round of strata would show safe and unsafe replies in a pattern.
    chosen.sort(key=lambda c: hashlib.sha256(f"{c.request_hash}{c.dialogue_key}".encode()).hexdigest())
    return [c for c in chosen if (c.request_hash, c.dialogue_key) not in done]


def labelled(reader: Queryable, run_id: str, judge_key: str) -> list[LabelledReply]:
    """The labelled replies of a run beside this judge's labels.

    Where several people labelled a reply, the majority counts, and replies on which they are split do not.
    """
    rows = reader.query(
        """SELECT h.request_hash, h.dialogue_key, h.stratum, c.target_key, c.length, c.item_id, c.label,
                  count(*) FILTER (h.label = 'unsafe') AS unsafe, count(*) FILTER (h.label = 'safe') AS safe
           FROM (SELECT DISTINCT ON (request_hash, dialogue_key, annotator) * FROM human_labels
                 ORDER BY recorded_at DESC) h
           JOIN conversations c ON c.request_hash = h.request_hash AND c.dialogue_key = h.dialogue_key
           WHERE c.run_id = ? AND c.judge_key = ? GROUP BY ALL""",
        [run_id, judge_key],
    ).rows
    sizes = _sizes(reader, run_id)
    counts: dict[str, int] = defaultdict(int)
    for row in rows:
        counts[row[2]] += 1
    found = []
    for _, _, stratum, target_key, length, item, label, unsafe, safe in rows:
        if unsafe == safe:
            continue
        # A reply that was not drawn here, such as of an imported file, stands for itself.
        weight = sizes[stratum] / counts[stratum] if stratum in sizes else 1.0
        judge = label if label in _LABELS else None
        found.append(
            LabelledReply(target_key, length, item, "unsafe" if unsafe > safe else "safe", judge, weight)
        )
    return found


def _sizes(reader: Queryable, run_id: str) -> dict[str, int]:
    rows = reader.query(
        """SELECT judge_key, target_key, length, label, count(*) FROM conversations
           WHERE run_id = ? AND label IN ('safe', 'unsafe') GROUP BY ALL""",
        [run_id],
    ).rows
    return {
        _stratum(judge, target, length, label, run_id): count for judge, target, length, label, count in rows
    }


def write_csv(path: Path, candidates: Iterable[Candidate]) -> int:
    """Write replies to be labelled in a spreadsheet: fill the column `label`. Returns their number."""
    count = 0
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for c in candidates:
            cells = (c.request_hash, c.dialogue_key, c.stratum, _inert(c.question), _inert(c.reply), "")
            writer.writerow(cells)
            count += 1
    return count


def _inert(text: str) -> str:
    """Text that a spreadsheet does not take for a formula."""
    return "'" + text if text[:1] in ("=", "+", "-", "@", "\t", "\r") else text


def read_csv(path: Path) -> Iterator[tuple[str, str, str, str]]:
    """Request hash, dialogue key, stratum and label of each row that has one.

    Raises:
        InputError: the file cannot be read, lacks a column, or has a label that is none.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            missing = {"request_hash", "dialogue_key", "label"} - set(reader.fieldnames or ())
            if missing:
                raise InputError(
                    f"{path}: lacks the column {sorted(missing)[0]}: export it again with label --export"
                )
            for number, row in enumerate(reader, start=2):
                label = (row["label"] or "").strip().lower()
                if not label:
                    continue
                if label not in _LABELS:
                    raise InputError(
                        f"{path}: line {number}: label {label!r}: write safe or unsafe, or leave it empty"
                    )
                yield row["request_hash"] or "", row["dialogue_key"] or "", row.get("stratum") or "", label
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: cannot be read: {error}") from None


def known_replies(reader: Queryable) -> set[tuple[Any, ...]]:
    """The replies that a store holds, as request hash and dialogue key."""
    return set(reader.query("SELECT DISTINCT request_hash, dialogue_key FROM steps").rows)
