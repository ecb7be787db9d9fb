"""A sample of a run's replies that labels most where the judge is most likely wrong.

Each reply has a number of its own that looks random and is always the same, and is drawn if its chance is
above it. So replies are drawn independently, a chance is known for each, and a larger sample contains the
smaller ones of its kind: its chances are nowhere below theirs. What a draw brings new is labelled in the
order of the number's place between the chance before and the chance now: its beginning is a part at random.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from types import MappingProxyType

import numpy as np

from safemt_client.providers.errors import InputError
from safemt_client.results.scores.inclusion import Key
from safemt_client.results.scores.unfinished import unfinished
from safemt_client.results.scores.wording import not_finished
from safemt_client.results.stats.allocation import chances
from safemt_client.results.store.queries import Queryable
from safemt_client.results.store.rows import DrawnReplyRow, DrawRow

__all__ = [
    "Drawable",
    "Drawn",
    "Errors",
    "calibrated_errors",
    "chances_of",
    "drawables",
    "drawn",
    "draws_of",
    "errors_seen",
    "finished",
    "planned",
    "replies_of",
]

ASSUMED_WORTH = 10.0
"""What is assumed of a kind of reply counts for so many labels of it."""
_SURE, _DOUBTFUL = 0.05, 0.20
_GUESSES = {"sure": 0.03, "unsure": 0.12, "doubtful": 0.35, "split": 0.5}
_OF_LABEL = {"safe": 0.03, "unsafe": 0.15}
_LEAST_WORTH = 20
"""Of a calibration's replies with one label of the judge there have to be so many."""


@dataclass(frozen=True, slots=True)
class Drawable:
    """A reply that can be drawn: the judge's label (unscored: its panel is split), and how doubtful it is."""

    target_key: str
    key: Key
    judged_hash: str
    label: str
    doubt: float | None

    @property
    def kind(self) -> tuple[str, str]:
        """Replies of one kind are thought to be as likely to have a wrong label."""
        if self.label == "unscored":
            return self.label, "split"
        if self.doubt is None:
            return self.label, "unknown"
        return (
            self.label,
            "sure" if self.doubt < _SURE else "unsure" if self.doubt < _DOUBTFUL else "doubtful",
        )


@dataclass(frozen=True, slots=True)
class Errors:
    """How likely the judge's label is wrong, by kind of reply, and what that rests on."""

    of: Mapping[tuple[str, str], float]
    basis: str

    def guesses(self, replies: Sequence[Drawable]) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
        """That of each of these replies."""
        return np.array([self.of[reply.kind] for reply in replies])


@dataclass(frozen=True, slots=True)
class Drawn:
    """A draw as the store keeps it, and what its chances rest on; the rows of a new one have no id yet."""

    replies: tuple[DrawnReplyRow, ...]
    basis: str

    @property
    def chosen(self) -> list[DrawnReplyRow]:
        """The replies that were drawn, in the order in which they are labelled."""
        return sorted((row for row in self.replies if row.place is not None), key=lambda row: row.place or 0)


def finished(reader: Queryable, run_id: str) -> None:
    """Make sure that a sample can be drawn: its chances are fixed for all replies at once.

    Raises:
        InputError: the run is not finished.
    """
    if open_ := unfinished(reader, run_id):
        row = open_[0]
        raise InputError(
            f"run {run_id}: {row['target']} is {not_finished(row)}: the sample is drawn from all replies at "
            "once: finish the run first"
        )


def drawables(reader: Queryable, run_id: str, judge_key: str) -> list[Drawable]:
    """The replies that `label` can draw, with how doubtful the judge's label is.

    That is one less the probability that it gave its label, where the store has it, or the share of a panel's
    judges that do not say the same; the greater of both. Probabilities of more than one kind
    (`confidence_kind`) are not compared: then none of them counts.
    """
    rows = reader.query(
        """WITH members AS (
               SELECT c.target_key, c.request_hash, c.dialogue_key, count(*) AS judges,
                      count(*) FILTER (c.label = 'unsafe') AS unsafe,
                      count(*) FILTER (c.label = 'safe') AS safe
               FROM conversations c JOIN run_judges j ON j.run_id = c.run_id AND j.judge_key = c.judge_key
               WHERE c.run_id = $1 AND j.role = 'member' AND c.label IS NOT NULL
                 AND $2 IN (SELECT judge_key FROM deciding_judges WHERE run_id = $1 AND panel IS NOT NULL)
               GROUP BY ALL HAVING count(*) > 1)
           SELECT c.target_key, c.request_hash, c.dialogue_key, c.reply_hash, c.judged_hash, c.label,
                  CASE WHEN c.label = 'unscored' THEN 0.5
                       ELSE greatest(CASE WHEN c.kinds = 1 THEN 1 - c.confidence END,
                                     1 - CASE c.label WHEN 'unsafe' THEN m.unsafe ELSE m.safe END / m.judges)
                  END
           FROM (SELECT *, count(DISTINCT if(confidence IS NULL, NULL, coalesce(confidence_kind, 'unknown')))
                            OVER () AS kinds
                 FROM conversations WHERE run_id = $1 AND judge_key = $2) c
           LEFT JOIN members m ON m.target_key = c.target_key AND m.request_hash = c.request_hash
                              AND m.dialogue_key = c.dialogue_key
           WHERE (c.label IN ('safe', 'unsafe') OR c.reason = 'panel_split')
             AND c.benign IS NOT TRUE AND NOT c.by_guard AND c.text IS NOT NULL
           ORDER BY c.target_key, c.dialogue_key""",
        [run_id, judge_key],
    ).rows
    return [
        Drawable(target, (asked, dialogue, said), judged, label, doubt)
        for target, asked, dialogue, said, judged, label, doubt in rows
    ]


def errors_seen(
    replies: Sequence[Drawable],
    labels: Mapping[Key, str],
    whose: str,
    calibrated: Mapping[str, float] = MappingProxyType({}),
) -> Errors:
    """How often the judge's label differs from `labels`, by kind of reply, with what is assumed beforehand.

    What is assumed: that doubtful labels are wrong more often; where nothing is known of doubt, what a
    calibration of the judge has shown, or 15 % of what it calls unsafe and 3 % of what it calls safe.
    """
    seen: Counter[tuple[str, str]] = Counter()
    wrong: Counter[tuple[str, str]] = Counter()
    for reply in replies:
        if (said := labels.get(reply.key)) is not None:
            seen[reply.kind] += 1
            wrong[reply.kind] += said != reply.label
    kinds = dict.fromkeys(reply.kind for reply in replies)
    of = {}
    for kind in kinds:
        label, doubt = kind
        guess = calibrated.get(label, _OF_LABEL[label]) if doubt == "unknown" else _GUESSES[doubt]
        of[kind] = (wrong[kind] + ASSUMED_WORTH * guess) / (seen[kind] + ASSUMED_WORTH)
    basis = [f"{seen.total():,} labels of {whose}"] if seen.total() else []
    if any(doubt != "unknown" for _, doubt in kinds):
        basis.append("how sure the judge was")
    if any(doubt == "unknown" for _, doubt in kinds):
        basis.append("its calibration" if calibrated else "assumed errors")
    return Errors(of, " and ".join(basis))


def calibrated_errors(reader: Queryable, judge_key: str) -> dict[str, float]:
    """How much of what the judge called unsafe, and safe, its latest calibration shows to be wrong."""
    rows = reader.query(
        """SELECT found, false_alarms, left_alone, missed FROM calibrations
           WHERE judge_key = ? AND overall ORDER BY created_at DESC LIMIT 1""",
        [judge_key],
    ).rows
    if not rows:
        return {}
    found, alarms, left, missed = rows[0]
    shares = {"unsafe": (alarms, found), "safe": (missed, left)}
    return {
        label: (wrong + 0.5) / (wrong + right + 1)
        for label, (wrong, right) in shares.items()
        if wrong + right >= _LEAST_WORTH
    }


def planned(replies: Sequence[Drawable], errors: Errors, size: int) -> list[float]:
    """The chance of each reply where `size` are drawn on average, as many of each target."""
    found = [0.0] * len(replies)
    places: dict[str, list[int]] = defaultdict(list)
    for place, reply in enumerate(replies):
        places[reply.target_key].append(place)
    left = float(size)
    # The smallest first: what a target has too few replies for is left to the others.
    for number, of in enumerate(sorted(places.values(), key=len)):
        part = min(float(len(of)), left / (len(places) - number))
        left -= part
        guessed = errors.guesses([replies[place] for place in of])
        for place, chance in zip(of, chances(guessed, part), strict=True):
            found[place] = float(chance)
    return found


def drawn(
    replies: Sequence[Drawable], errors: Errors, size: int, before: Mapping[Key, float], salt: str
) -> Drawn:
    """A draw of `size` replies on average; `before` are the chances of the draws that it goes on from.

    `salt` tells draws apart that are to be independent: those for people, and those for each other judge.
    """
    rows = []
    for reply, planned_ in zip(replies, planned(replies, errors, size), strict=True):
        known = before.get(reply.key, 0.0)
        chance = max(planned_, known)
        number = _number(salt, reply.key)
        rank = None
        if number < known:
            rank = number / known - 1
        elif number < chance:
            rank = (number - known) / (chance - known)
        row = DrawnReplyRow(
            *("", reply.target_key, reply.key[0], reply.judged_hash, reply.key[1], reply.key[2], reply.label),
            *(reply.doubt, errors.of[reply.kind], chance, None),
        )
        rows.append((rank, row))
    order = sorted((rank, place) for place, (rank, _) in enumerate(rows) if rank is not None)
    found = [row for _, row in rows]
    for number_, (_, place) in enumerate(order, start=1):
        found[place] = replace(found[place], place=number_)
    return Drawn(tuple(found), errors.basis)


def _number(salt: str, key: Key) -> float:
    """A number from 0 to below 1 that looks random, of this reply alone."""
    return (
        int.from_bytes(hashlib.sha256("\0".join(("draw", salt, *key)).encode()).digest()[:7], "big") / 2**56
    )


def draws_of(reader: Queryable, run_id: str, judge_key: str, reference_key: str | None) -> list[DrawRow]:
    """The draws of one kind of a run, the earliest first."""
    columns = ", ".join(field.name for field in fields(DrawRow))
    rows = reader.query(
        f"""SELECT {columns} FROM (SELECT DISTINCT ON (draw_id) * FROM label_draws)
            WHERE run_id = $1 AND judge_key = $2 AND reference_key IS NOT DISTINCT FROM $3
            ORDER BY created_at, draw_id""",
        [run_id, judge_key, reference_key],
    ).rows
    return [DrawRow(*row) for row in rows]


def replies_of(reader: Queryable, draw_id: str) -> tuple[DrawnReplyRow, ...]:
    """The replies of a stored draw."""
    columns = ", ".join(field.name for field in fields(DrawnReplyRow))
    rows = reader.query(f"SELECT DISTINCT {columns} FROM drawn_replies WHERE draw_id = ?", [draw_id]).rows
    return tuple(DrawnReplyRow(*row) for row in rows)


def chances_of(reader: Queryable, draw_ids: Sequence[str]) -> dict[Key, float]:
    """The greatest chance of each reply by any of these draws."""
    found: dict[Key, float] = {}
    for draw_id in draw_ids:
        for row in replies_of(reader, draw_id):
            key = (row.request_hash, row.dialogue_key, row.reply_hash)
            found[key] = max(row.chance, found.get(key, 0.0))
    return found
