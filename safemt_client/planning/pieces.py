"""A large run in pieces: each is planned by itself, so that few conversations are held at a time.

A planned conversation takes about 12 KB beside its dialogue. All pieces are of the one run, whose fingerprint
they have; each has whole items, with all of their lengths, targets and samples.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Hashable, Iterator
from dataclasses import replace

from safemt_client.planning.build import make_plan
from safemt_client.planning.plan import Plan
from safemt_client.planning.resolved import Known, Resolved, Sendable
from safemt_client.planning.rows import keys_of

__all__ = ["in_pieces", "plans_of"]


def _by_item(sendable: Sendable) -> Hashable:
    return sendable.dialogue.item_id


def in_pieces(
    wanted: Resolved, most: int, together: Callable[[Sendable], Hashable] = _by_item
) -> Iterator[Resolved]:
    """What is wanted, cut into pieces of at most `most` conversations, or of one group if that has more.

    Dialogues of which `together` says the same are a group and stay together; groups come in the order of
    their first dialogues. What has no conversation - dialogues that cannot be sent, replies and steps that
    are known - is in the first piece.
    """
    groups: dict[Hashable, list[int]] = {}
    for place, one in enumerate(wanted.sendable):
        groups.setdefault(together(one), []).append(place)
    places: list[list[int]] = [[]]
    each = len(wanted.targets) * wanted.samples
    for group in groups.values():
        if places[-1] and (len(places[-1]) + len(group)) * each > most:
            places.append([])
        places[-1] += group
    of_sendable, others = _row_places(wanted)
    rest = tuple(wanted.dialogues[place] for place in others)
    for number, mine in enumerate(places):
        sendable = tuple(wanted.sendable[place] for place in mine)
        rows = tuple(wanted.dialogues[of_sendable[place]] for place in mine)
        first = number == 0
        yield replace(
            wanted,
            whole=wanted.fingerprint,
            sendable=sendable,
            dialogues=(*rest, *rows) if first else rows,
            not_attempted=wanted.not_attempted if first else {},
            replies=wanted.replies if first else (),
            steps=wanted.steps if first else (),
        )


def _row_places(wanted: Resolved) -> tuple[array[int], list[int]]:
    """The places of the rows of what can be sent, which has their order, and those of the others."""
    found, others = array("q"), []
    sendable = iter(wanted.sendable)
    now = next(sendable, None)
    for place, key in enumerate(keys_of(wanted.dialogues)):
        if now is None or key != now.key:
            others.append(place)
            continue
        found.append(place)
        now = next(sendable, None)
    assert now is None, "what can be sent is in another order than the rows"
    return found, others


def plans_of(
    wanted: Resolved,
    known: Known,
    most: int = 10_000,
    together: Callable[[Sendable], Hashable] = _by_item,
) -> Iterator[Plan]:
    """The plans of the pieces of what is wanted, one after the other; see `in_pieces`.

    What two pieces ask alike is counted in both, unless one is carried out before the other is planned.

    Raises:
        InputError: batches are under way, which rules that stop a run cannot wait for.
    """
    for piece in in_pieces(wanted, most, together):
        yield make_plan(piece, known)
