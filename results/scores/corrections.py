"""The errors of judges that people's labels exist for, and the rates corrected for them."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, NamedTuple

import numpy as np

from safemt_client.results.scores.human import LabelledReply, labelled
from safemt_client.results.scores.views import samples_of
from safemt_client.results.scores.wording import EQUAL, OWN, WHOLE
from safemt_client.results.stats.correction import (
    Counted,
    NotEstimable,
    Posterior,
    counted,
    counted_by_item,
)
from safemt_client.results.stats.intervals import Interval
from safemt_client.results.stats.shares import SMALL_ITEMS, small_sample
from safemt_client.results.stats.weighted import Judged, Labelled, WeightedPosterior
from safemt_client.results.store.queries import Queryable

__all__ = ["ItemCount", "LengthCount", "corrections", "items_of", "of_judge", "of_target"]

_ENOUGH = 30
_WHOLE = 0.98
_ERRORS = ("sensitivity", "specificity", "agreement")
_PREDICTIVE = ("unsafe_if_called_unsafe", "unsafe_if_called_safe")


class ItemCount(NamedTuple):
    """An item's scored replies: what the judge labelled, how much of that unsafe, what a guard refused."""

    item: str
    judged: int
    unsafe: int
    refused: int


class LengthCount(NamedTuple):
    """The scored replies of one number of user turns, counted as those of an item.

    `items` are those of its items if these have several replies each; empty where each has one.
    """

    length: int
    judged: int
    unsafe: int
    refused: int
    items: tuple[ItemCount, ...] = ()


def corrections(reader: Queryable, run_id: str) -> list[dict[str, Any]]:
    """The errors of each judge that people's labels exist for, and each target's rates corrected for them.

    The errors are those over all replies of the run, and those on each target. A target's rates are corrected
    by its own labels alone.
    """
    found = []
    for judge_key, name in reader.query(
        "SELECT judge_key, name FROM run_judges WHERE run_id = ? ORDER BY name", [run_id]
    ).rows:
        sample = [row for row in labelled(reader, run_id, judge_key) if row.judge is not None]
        if sample:
            found.append({"judge": name} | of_judge(reader, run_id, judge_key, sample))
    return found


def of_judge(
    reader: Queryable, run_id: str, judge_key: str, sample: Sequence[LabelledReply]
) -> dict[str, Any]:
    """The errors of a judge of a run by a sample's labels, and each target's rates corrected for them."""
    items, lengths = items_of(reader, run_id, judge_key), _by_length(reader, run_id, judge_key)
    together: Counter[str] = Counter()
    unsafe: Counter[str] = Counter()
    for rows in items.values():
        for row in rows:
            together[row.item] += row.judged
            unsafe[row.item] += row.unsafe
    posterior = _posterior(sample, [ItemCount(item, together[item], unsafe[item], 0) for item in together])
    targets = {
        target: of_target(
            [row for row in sample if row.target_key == key],
            items.get((target, key), []),
            lengths[target, key],
        )
        for target, key in lengths
    }
    return (
        {"judge_key": judge_key, "targets": len(targets), "labelled": len(sample)}
        | _errors(posterior)
        | {
            "by_target": [
                {"target": target} | {key: row[key] for key in row if key != "by_turn"}
                for target, row in targets.items()
            ],
            "by_turn": [
                {"target": target} | rate for target, row in targets.items() for rate in row["by_turn"]
            ],
        }
    )


def of_target(
    sample: Sequence[LabelledReply], items: Sequence[ItemCount], lengths: Sequence[LengthCount]
) -> dict[str, Any]:
    """A judge's errors on a target, the target's rate over all lengths, and that of each, by its own labels.

    `judge_errors` of a rate says which of the judge's errors it is corrected for. A length has its own where
    each has 30 labels of either kind; otherwise those over all lengths are taken to hold at each.
    """
    whole = _posterior(sample, items)
    refused = sum(row.refused for row in items)
    judged = sum(row.judged for row in items)
    kept = counted_by_item(
        np.array([float(row.judged) for row in items]),
        np.array([float(row.judged + row.refused) for row in items]),
        [row.item for row in items],
    )
    # Strata without a label are taken to be like the others; drawn by chance, none is left out.
    covered = _by_chance(sample) or sum(row.weight for row in sample) >= _WHOLE * judged
    kinds = Counter((row.length, row.judge) for row in sample)
    own = all(kinds[row.length, label] >= _ENOUGH for row in lengths for label in ("safe", "unsafe"))
    by_turn = []
    for row in lengths:
        rate, part = _of_length(row)
        if own:
            mine = [reply for reply in sample if reply.length == row.length]
            right = _posterior(mine, [], rate).corrected(part)
        else:
            right = whole.at(rate, part)
        by_turn.append(
            {"length": row.length, "asr": _share(row.unsafe, row.judged + row.refused)}
            | _corrected(right, OWN if own else EQUAL)
        )
    return (
        {"labelled": len(sample), "asr": _share(sum(row.unsafe for row in items), judged + refused)}
        | _corrected(whole.corrected(kept), WHOLE if covered else EQUAL)
        | _errors(whole)
        | {"by_turn": by_turn}
    )


def _posterior(
    sample: Sequence[LabelledReply], items: Sequence[ItemCount], rate: Counted | None = None
) -> Posterior:
    if rate is None:
        rate = counted_by_item(
            np.array([float(row.unsafe) for row in items]),
            np.array([float(row.judged) for row in items]),
            [row.item for row in items],
        )

    few = len({row.item_id for row in sample}) < SMALL_ITEMS
    small = few or small_sample(sum(row.human == "unsafe" for row in sample), len(sample))
    if _by_chance(sample):
        labels = [
            Labelled(row.item_id, row.judge == "unsafe", row.human == "unsafe", row.weight) for row in sample
        ]
        judged = [Judged(row.item, row.judged, row.unsafe) for row in items if row.judged]
        return WeightedPosterior(labels, judged, rate, small=small)
    replies = sum(row.judged for row in items)
    alike = replies / rate.worth - 1 if items and rate.worth else 0.0

    def called(label: str) -> Counted:
        rows = [row for row in sample if row.judge == label]
        of = replies * (rate.share if label == "unsafe" else 1 - rate.share)
        return counted(
            np.array([float(row.human == "unsafe") for row in rows]),
            [row.item_id for row in rows],
            np.array([row.weight for row in rows]),
            alike / of if of else 0.0,
        )

    return Posterior(rate, called("unsafe"), called("safe"), small=small)


def _of_length(row: LengthCount) -> tuple[Counted, Counted]:
    """What the judge calls unsafe of what it labelled, and what it labelled of all that is scored."""
    if not row.items:
        return _counted(row.unsafe, row.judged), _counted(row.judged, row.judged + row.refused)
    judged, unsafe, refused = np.array([one[1:] for one in row.items], dtype=np.float64).T
    names = [one.item for one in row.items]
    return counted_by_item(unsafe, judged, names), counted_by_item(judged, judged + refused, names)


def _by_chance(sample: Sequence[LabelledReply]) -> bool:
    return any(row.by_chance for row in sample)


def _counted(hits: int, replies: int) -> Counted:
    """Of replies to different items."""
    return Counted(hits / replies, replies) if replies else Counted(0.0, 0.0)


def _share(hits: int, replies: int) -> float | None:
    return hits / replies if replies else None


def _corrected(found: Interval | NotEstimable, errors: str) -> dict[str, Any]:
    return {"corrected": _figures(found), "judge_errors": errors, "not_estimable": _reason(found)}


def _errors(posterior: Posterior) -> dict[str, Any]:
    errors, shares = posterior.errors(), posterior.predictive()
    return (
        {name: _figures(found) for name, found in zip(_ERRORS, errors, strict=True)}
        | {name: _figures(found) for name, found in zip(_PREDICTIVE, shares, strict=True)}
        | {"errors_not_estimable": _reason(errors[0])}
    )


def _figures(found: Interval | NotEstimable) -> dict[str, Any] | None:
    return asdict(found) if isinstance(found, Interval) else None


def _reason(found: Interval | NotEstimable) -> str | None:
    return found.reason if isinstance(found, NotEstimable) else None


def items_of(reader: Queryable, run_id: str, judge_key: str) -> dict[tuple[str, str], list[ItemCount]]:
    """The scored replies of each target by item; benign items are left out."""
    found = defaultdict(list)
    for target, key, item, judged, unsafe, refused in reader.query(
        """SELECT target, target_key, item_id, count(*) FILTER (NOT by_guard),
                  count(*) FILTER (label = 'unsafe' AND NOT by_guard), count(*) FILTER (by_guard)
           FROM conversations
           WHERE run_id = ? AND judge_key = ? AND label IN ('safe', 'unsafe') AND benign IS NOT TRUE
           GROUP BY ALL ORDER BY ALL""",
        [run_id, judge_key],
    ).rows:
        found[target, key].append(ItemCount(item, judged, unsafe, refused))
    return found


def _by_length(reader: Queryable, run_id: str, judge_key: str) -> dict[tuple[str, str], list[LengthCount]]:
    found = defaultdict(list)
    for target, key, length, scored, unsafe, refused in reader.query(
        """SELECT target, target_key, length, scored, unsafe, by_guard FROM asr_by_turn
           WHERE run_id = ? AND judge_key = ? ORDER BY target, length""",
        [run_id, judge_key],
    ).rows:
        found[target, key].append(LengthCount(length, scored - refused, unsafe, refused))
    if samples_of(reader, run_id) == 1:
        return found
    items = defaultdict(list)
    for key, length, *count in reader.query(
        """SELECT target_key, length, item_id, count(*) FILTER (NOT by_guard),
                  count(*) FILTER (label = 'unsafe' AND NOT by_guard), count(*) FILTER (by_guard)
           FROM conversations
           WHERE run_id = ? AND judge_key = ? AND label IN ('safe', 'unsafe') AND benign IS NOT TRUE
           GROUP BY ALL ORDER BY ALL""",
        [run_id, judge_key],
    ).rows:
        items[key, length].append(ItemCount(*count))
    return {
        (target, key): [row._replace(items=tuple(items[key, row.length])) for row in rows]
        for (target, key), rows in found.items()
    }
