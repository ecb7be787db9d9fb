"""Human labels of a sample of replies: which to label, and what they say about a judge.

The sample is stratified by target, number of user turns and the judge's label, so that rare kinds occur (of a
panel also by that it was split: without those replies its judges would look better than they are);
within a stratum the order is random but fixed, so that labelling can stop and go on, and each label stands
for (replies of its stratum / labels of its stratum) replies.
"""

from __future__ import annotations

import csv
import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import TypeVar

from safemt_client.providers.errors import InputError
from safemt_client.results.files import whole_file
from safemt_client.results.sanitize import inert
from safemt_client.results.scores.inclusion import Given, draws_for_people, weights_by_chance
from safemt_client.results.store.narrowed import about_requests
from safemt_client.results.store.queries import Queryable
from safemt_client.results.store.reader import facts_of

__all__ = [
    "COLUMNS",
    "LABELS",
    "REFUSALS",
    "Candidate",
    "LabelledReply",
    "draw",
    "in_turn",
    "known_replies",
    "labelled",
    "pictures_of",
    "read_csv",
    "sample",
    "sample_judge",
    "unlabelled",
    "with_texts",
    "write_csv",
]

T = TypeVar("T")

COLUMNS = (
    *("request_hash", "dialogue_key", "reply_hash", "stratum", "question", "picture", "dialogue", "reply"),
    *("label", "refusal_kind", "note"),
)
LABELS = ("safe", "unsafe", "unsure")
"""What people can say of a reply."""
REFUSALS = ("full_refusal", "safe_redirection", "partial_refusal", "answer")
"""Whether it refuses, in people's and judges' words."""
_LABELS = ("safe", "unsafe")
_AT_ONCE = 1_000


@dataclass(frozen=True, slots=True)
class Candidate:
    """A reply to be labelled. `stratum` is a code for where it was drawn; it does not reveal the label."""

    request_hash: str
    dialogue_key: str
    reply_hash: str
    stratum: str
    item_id: str
    question: str
    messages: str  # JSON, as they were sent
    reply: str
    target_key: str = ""
    number: int = 1  # of the independent replies to its request, counted from 1

    @property
    def key(self) -> tuple[str, str, str]:
        """What a label of it is kept under."""
        return self.request_hash, self.dialogue_key, self.reply_hash


@dataclass(frozen=True, slots=True)
class LabelledReply:
    """A reply with a person's label and a judge's (None if it has none); `weight` replies are like it."""

    target_key: str
    length: int
    item_id: str
    human: str
    judge: str | None
    weight: float
    by_chance: bool = False  # drawn by a chance of its own: its weight is one over the chance


def _stratum(run_id: str, judge_key: str, target_key: str, length: int, label: str) -> str:
    return f"{run_id}|{judge_key}|{target_key}|{length}|{label}"


def _token(stratum: str, request_hash: str, dialogue_key: str) -> str:
    """The code of a reply's stratum, different for each reply, so that it does not reveal the label."""
    return "s" + hashlib.sha256(f"{stratum} {request_hash} {dialogue_key}".encode()).hexdigest()[:15]


def sample_judge(reader: Queryable, run_id: str, wanted: str | None) -> str:
    """The key of the judge whose labels a sample is drawn by: the one of this name or key, else the run's.

    Raises:
        InputError: the run has no judge, or not this one.
    """
    judges = reader.query("SELECT judge_key, name FROM run_judges WHERE run_id = ?", [run_id]).rows
    if not judges:
        raise InputError(
            "label: this run has no judge: judge it first, because the sample is drawn by judge labels"
        )
    for key, name in judges:
        if wanted in (None, name, key):
            return str(key)
    raise InputError(f"--judge {wanted}: not in this run; it has {', '.join(name for _, name in judges)}")


def draw(reader: Queryable, run_id: str, judge_key: str, size: int, annotator: str) -> list[Candidate]:
    """What of the `sample` this annotator has not labelled yet."""
    return unlabelled(reader, sample(reader, run_id, judge_key, size), annotator)


def unlabelled(reader: Queryable, candidates: Sequence[Candidate], annotator: str) -> list[Candidate]:
    """Those of the replies that this annotator has not labelled yet."""
    done = {
        tuple(row)
        for row in reader.query(
            "SELECT request_hash, dialogue_key, reply_hash FROM current_human_labels "
            "WHERE annotator = ? AND NOT adjudicated",
            [annotator],
        ).rows
    }
    return [one for one in candidates if one.key not in done]


def sample(reader: Queryable, run_id: str, judge_key: str, size: int) -> list[Candidate]:
    """The first `size` replies of a run's sample, strata in turn, in the order in which they are shown."""
    rows = reader.query(
        """SELECT c.request_hash, c.dialogue_key, c.reply_hash, c.target_key, c.length, c.label, c.item_id,
                  c.sample
           FROM conversations c
           WHERE c.run_id = ? AND c.judge_key = ?
             AND (c.label IN ('safe', 'unsafe') OR c.reason = 'panel_split')
             AND c.benign IS NOT TRUE AND NOT c.by_guard AND c.text IS NOT NULL""",
        [run_id, judge_key],
    ).rows
    strata: dict[str, list[tuple[str, Candidate]]] = defaultdict(list)
    for request_hash, dialogue_key, said, target_key, length, label, item, number in rows:
        stratum = _stratum(run_id, judge_key, target_key, length, label)
        order = hashlib.sha256(f"{request_hash} {dialogue_key} {run_id}".encode()).hexdigest()
        token = _token(stratum, request_hash, dialogue_key)
        found = Candidate(request_hash, dialogue_key, said, token, item, "", "[]", "", target_key, number)
        strata[stratum].append((order, found))
    queues = [
        [candidate for _, candidate in sorted(strata[name], key=lambda pair: pair[0])]
        for name in sorted(strata)
    ]
    chosen = in_turn(queues, size)
    # Shuffled once more: a round of strata would show safe and unsafe replies in a pattern.
    chosen.sort(key=lambda c: hashlib.sha256(f"{c.request_hash}{c.dialogue_key}".encode()).hexdigest())
    return with_texts(reader, chosen)


def with_texts(reader: Queryable, candidates: Sequence[Candidate]) -> list[Candidate]:
    """The same with question, messages and reply: read of these alone, as a run has far more texts."""
    found = []
    for start in range(0, len(candidates), _AT_ONCE):
        part = candidates[start : start + _AT_ONCE]
        hashes = sorted({one.request_hash for one in part})
        keys = sorted({one.dialogue_key for one in part})
        sent = {
            row[0]: (row[1], row[2])
            for row in reader.query(
                f"SELECT request_hash, request, text FROM {about_requests('current_turns', len(hashes))}",
                hashes,
            ).rows
        }
        questions = dict(
            reader.query(
                "SELECT dialogue_key, coalesce(any_value(question), '') FROM dialogues "
                f"WHERE dialogue_key IN ({', '.join('?' * len(keys))}) GROUP BY ALL",
                keys,
            ).rows
        )
        for one in part:
            messages, reply = sent[one.request_hash]
            question = questions.get(one.dialogue_key, "")
            found.append(replace(one, question=question, messages=messages, reply=reply))
    return found


def in_turn(strata: Sequence[Sequence[T]], size: int) -> list[T]:
    """The first `size` of a sample: one of each stratum, then a second of each that has more, and so on."""
    depths = range(max(map(len, strata), default=0))
    rounds = (queue[depth] for depth in depths for queue in strata if depth < len(queue))
    return list(islice(rounds, size))


def labelled(reader: Queryable, run_id: str, judge_key: str) -> list[LabelledReply]:
    """The labelled replies of a run beside this judge's labels, benign items left out.

    Where several people labelled a reply, the majority counts, or what was adjudicated; replies on which they
    are evenly split, or unsure, do not.
    A label stands for so many replies as its stratum has for each label: of the run and by the judge that
    the sample was drawn from, which may be others. Where some were drawn by chance, each stands for one over
    its chance. One that was not drawn stands for itself. Facts have the labelled replies as their store
    counts them: what a label stands for may be in other runs.
    """
    if facts_of(reader) is not None:
        kept = reader.query(
            """SELECT target_key, length, item_id, human, judge, weight, by_chance FROM labelled_replies
               WHERE run_id = ? AND judge_key = ? ORDER BY place""",
            [run_id, judge_key],
        ).rows
        return [LabelledReply(*row) for row in kept]
    rows = reader.query(
        """SELECT h.request_hash, h.dialogue_key, h.reply_hash, h.stratum,
                  c.target_key, c.length, c.item_id, c.label, h.label
           FROM human_decisions h
           JOIN conversations c USING (request_hash, dialogue_key, reply_hash)
           WHERE h.label IS NOT NULL AND c.run_id = ? AND c.judge_key = ?
             AND c.benign IS NOT TRUE AND NOT c.by_guard
           ORDER BY h.request_hash, h.dialogue_key""",
        [run_id, judge_key],
    ).rows
    if not rows:
        return []
    strata = _Strata(reader, [(row[0], row[1]) for row in rows])
    names = [strata.of_token.get(row[3]) for row in rows]
    counts = Counter(name for name in names if name is not None)
    given = [
        Given((row[0], row[1], row[2]), row[3], name, strata.of_reply[row[0], row[1]])
        for row, name in zip(rows, names, strict=True)
    ]
    weights = None
    if any(one.by_chance for one in given):
        weights = weights_by_chance(given, strata.sizes, draws_for_people(reader))
    found = []
    for place, (*_, target_key, length, item, label, human) in enumerate(rows):
        name = names[place]
        weight = 1.0 if name is None else strata.sizes[name] / counts[name]
        if weights is not None:
            weight = weights[place]
        judge = label if label in _LABELS else None
        found.append(LabelledReply(target_key, length, item, human, judge, weight, weights is not None))
    return found


class _Strata:
    """The strata behind the tokens of these replies, all that each is in, and how many replies each has."""

    def __init__(self, reader: Queryable, replies: Sequence[tuple[str, str]]) -> None:
        wanted = set(replies)
        self.of_token: dict[str, str] = {}
        self.of_reply: dict[tuple[str, str], list[str]] = defaultdict(list)
        self.sizes: Counter[str] = Counter()
        for run_id, judge_key, target_key, length, label, request_hash, dialogue_key in reader.query(
            """SELECT run_id, judge_key, target_key, length, label, request_hash, dialogue_key
               FROM conversations
               WHERE (label IN ('safe', 'unsafe') OR reason = 'panel_split')
                 AND benign IS NOT TRUE AND NOT by_guard"""
        ).rows:
            name = _stratum(run_id, judge_key, target_key, length, label)
            self.sizes[name] += 1
            if (request_hash, dialogue_key) in wanted:
                self.of_token[_token(name, request_hash, dialogue_key)] = name
                self.of_reply[request_hash, dialogue_key].append(name)


def pictures_of(candidate: Candidate) -> list[str]:
    """The hashes of the pictures of a candidate's conversation, in their order."""
    return [str(sha) for message in json.loads(candidate.messages) for sha in message.get("images") or ()]


def write_csv(
    path: Path, candidates: Iterable[Candidate], picture: Callable[[str], Path | None] = lambda _: None
) -> int:
    """Write replies to be labelled in a spreadsheet: fill the column `label`. Returns their number.

    `picture` finds the file of a picture by its hash; one that is not found stands as its hash.

    Raises:
        InputError: the file cannot be written.
    """
    rows = [
        (
            *(c.request_hash, c.dialogue_key, c.reply_hash, c.stratum),
            inert(c.question),
            inert("\n".join(str(picture(sha) or f"sha256:{sha}") for sha in pictures_of(c))),
            *(inert(_said(c.messages)), inert(c.reply), "", "", ""),
        )
        for c in candidates
    ]
    with (
        whole_file(path, "name another file with --export") as part,
        part.open("w", newline="", encoding="utf-8") as file,
    ):
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        writer.writerows(rows)
    return len(rows)


def _said(messages: str) -> str:
    return "\n".join(f"{message['role']}: {message['content']}" for message in json.loads(messages))


def read_csv(path: Path) -> Iterator[tuple[str, str, str, str, str, str | None, str | None]]:
    """Of each row with a label: request, dialogue, reply hash, stratum, label, kind of refusal and note.

    Files of earlier versions have no reply hash: it is empty then.

    Raises:
        InputError: the file cannot be read, lacks a column, or has an invalid label.
    """
    csv.field_size_limit(2**27)
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            missing = {"request_hash", "dialogue_key", "label"} - set(reader.fieldnames or ())
            if missing:
                raise InputError(
                    f"{path}: has no column {sorted(missing)[0]}: export it again with label --export"
                )
            for number, row in enumerate(reader, start=2):
                label = (row["label"] or "").strip().lower()
                if not label:
                    continue
                if label not in LABELS:
                    raise InputError(
                        f"{path}: line {number}: label {label!r}: write "
                        "safe, unsafe or unsure, or leave it empty"
                    )
                kind = (row.get("refusal_kind") or "").strip().lower()
                if kind and kind not in REFUSALS:
                    raise InputError(
                        f"{path}: line {number}: refusal_kind {kind!r}: write {', '.join(REFUSALS)}, "
                        "or leave it empty"
                    )
                yield (
                    *(row["request_hash"] or "", row["dialogue_key"] or "", row.get("reply_hash") or ""),
                    *(row.get("stratum") or "", label, kind or None, (row.get("note") or "").strip() or None),
                )
    except (OSError, ValueError, csv.Error) as error:
        raise InputError(f"{path}: cannot be read: {error}") from None


def known_replies(reader: Queryable) -> dict[tuple[str, str], tuple[str, ...]]:
    """By request hash and dialogue key: the hashes of the texts in the store, the one that counts first."""
    found: dict[tuple[str, str], tuple[str, ...]] = {}
    for request_hash, dialogue_key, counts, said in reader.query(
        """SELECT s.request_hash, s.dialogue_key, c.reply_hash, list(DISTINCT t.reply_hash)
           FROM (SELECT DISTINCT request_hash, dialogue_key FROM steps) s
           JOIN current_turns c USING (request_hash) JOIN turns t USING (request_hash)
           WHERE t.reply_hash IS NOT NULL GROUP BY ALL"""
    ).rows:
        found[request_hash, dialogue_key] = (counts, *sorted(set(said) - {counts}))
    return found
