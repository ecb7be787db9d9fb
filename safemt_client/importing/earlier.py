"""What a store has of earlier imports of a target, and what of it is different now."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from safemt_client.providers.errors import InputError
from safemt_client.results.store.imported import IDENTITY
from safemt_client.results.store.store import Store

__all__ = ["Contents", "Earlier", "check_unchanged", "earlier_import"]

Reply = tuple[str, str | None]
"""Outcome, and the hash of the text; None where the text is not known."""
Key = tuple[str, int, str | None]
"""As `Record.key`."""


@dataclass(frozen=True)
class Contents:
    """What an import says: replies, and labels by the judge's key (label and reason)."""

    replies: Mapping[Key, Reply] = field(default_factory=dict)
    labels: Mapping[tuple[Key, str], tuple[str, str | None]] = field(default_factory=dict)


@dataclass(frozen=True)
class Earlier:
    """The latest import of a target: its sample index, -1 if there is none, and its contents."""

    sample: int
    run_id: str
    contents: Contents


def earlier_import(store: Store, target: str) -> Earlier:
    """The latest set of replies that was imported under the name of a target, in all of its runs."""
    rows = store.query(
        """SELECT t.sample, c.run_id, c.item_id, coalesce(c.paired_length, c.length), c.condition, c.outcome,
                  CASE WHEN c.text IS NULL THEN NULL ELSE c.reply_hash END, j.judge_key, c.label, c.reason
           FROM every_conversation c
           JOIN run_targets t ON t.run_id = c.run_id AND t.target_key = c.target_key
           LEFT JOIN run_judges j ON j.run_id = c.run_id AND j.judge_key = c.judge_key
                                 AND j.imported_from IS NOT NULL
           WHERE t.identity = ? AND t.imported_from IS NOT NULL AND t.sample = (
               SELECT max(sample) FROM run_targets WHERE identity = ? AND imported_from IS NOT NULL)
           ORDER BY t.imported_at""",
        [IDENTITY + target, IDENTITY + target],
    ).rows
    replies: dict[Key, Reply] = {}
    labels: dict[tuple[Key, str], tuple[str, str | None]] = {}
    for _, _, item, length, condition, outcome, said, judge, label, reason in rows:
        replies[item, length, condition] = (outcome, said)
        if judge is not None and label is not None:
            labels[(item, length, condition), judge] = (label, reason)
    if not rows:
        return Earlier(-1, "", Contents())
    return Earlier(rows[-1][0], rows[-1][1], Contents(replies, labels))


def check_unchanged(earlier: Earlier, now: Contents, target: str, source: str) -> None:
    """Refuse another version of replies that the store has, if any of them is about the same dialogue.

    Raises:
        InputError: replies or labels differ, or some are new or gone; the line says how many.
    """
    changes = ", ".join(_changes(earlier.contents, now))
    if changes:
        raise InputError(
            f"{source}: has changed since {target} was imported as run {earlier.run_id}: {changes}: "
            "restore it, import it under another --target, or pass --new-run to import it beside the first"
        )


def _changes(before: Contents, now: Contents) -> Sequence[str]:
    both = before.replies.keys() & now.replies.keys()
    if not both:
        return ()
    replies = _sorted(key for key in both if before.replies[key] != now.replies[key])
    judged = before.labels.keys() & now.labels.keys()
    labels = _sorted(key for key, judge in judged if before.labels[key, judge] != now.labels[key, judge])
    counts = (
        ("replies differ", replies),
        ("labels differ", labels),
        ("replies are new", _sorted(now.replies.keys() - both)),
        ("replies are gone", _sorted(before.replies.keys() - both)),
    )
    return [
        f"{len(found):,} {what} (the first: {found[0][0]!r} with {found[0][1]} turns)"
        for what, found in counts
        if found
    ]


def _sorted(keys: Iterable[Key]) -> list[Key]:
    return sorted(keys, key=lambda key: (key[0], key[1], key[2] or ""))
