"""Whose labels they are, and what each of them says of each reply."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence

from safemt_client.importing.found import Asked, Found, Label
from safemt_client.importing.joining import Joined
from safemt_client.planning.target import digest_of
from safemt_client.providers.errors import InputError
from safemt_client.providers.types import Outcome

__all__ = ["by_judge", "judge_key", "label_counts", "of_people", "said_of"]

_UNNAMED = "imported"
"""The judge of labels of which neither the files nor the user name one."""
_JUDGED = (Outcome.ANSWERED.value, Outcome.TRUNCATED.value)
_NO_LABEL = Label("unscored", reason="no_label")


def by_judge(replies: Joined, found: Found, asked: Asked) -> dict[str, list[Label | None]]:
    """The labels of each judge by its name, for all replies in their order; the one that decides comes last.

    Raises:
        InputError: it is not clear whose labels count.
    """
    named = dict.fromkeys(
        label.by for labels in replies.labels for label in labels if not (label.person or asked.people)
    )
    wanted = asked.label_by
    if asked.people is not None:
        several = {label.by for labels in replies.labels for label in labels if not label.person}
        if len(several) > 1:
            raise InputError(
                f"--labels-by-people {asked.people}: the files have labels of "
                f"{', '.join(sorted(map(str, several)))}: import those of people from a table of their own"
            )
    if wanted is not None and len(named) > 1 and wanted not in named:
        raise InputError(
            f"--label-by {wanted}: the files have labels of {', '.join(map(str, named))}: name one"
        )
    by_name: dict[str, list[Label | None]] = {}
    for by in named:
        # A single judge is called as the user says.
        name = wanted if wanted is not None and len(named) == 1 else by or wanted or _UNNAMED
        by_name[name] = [
            next((label for label in labels if label.by == by and not label.person), None)
            for labels in replies.labels
        ]
    decides = wanted if wanted in by_name else found.decides if found.decides in by_name else None
    if decides is None and by_name:
        decides = next(iter(by_name))
    return dict(sorted(by_name.items(), key=lambda pair: pair[0] == decides))


def judge_key(name: str) -> str:
    """The key of the judge of this name, the same in every import."""
    return digest_of(["imported judge", name])[:16]


def said_of(outcome: str, label: Label | None) -> Label | None:
    """A judge's label of a reply as it is stored: None where there is nothing to label."""
    return label or _NO_LABEL if outcome in _JUDGED else None


def of_people(outcome: str, labels: Iterable[Label], asked: Asked) -> Iterator[tuple[str, str]]:
    """The people who have labelled a reply, each with the label."""
    if outcome in _JUDGED:
        for label in labels:
            name = (label.by if label.person else None) or asked.people
            if name is not None and label.reason is None and (label.person or asked.people):
                yield name, label.label


def label_counts(
    replies: Joined, judges: Mapping[str, Sequence[Label | None]], asked: Asked
) -> dict[str, Mapping[str, int]]:
    """How often each judge, and each person, gave each label."""
    found: dict[str, Counter[str]] = {
        name: Counter(
            said.label
            for outcome, label in zip(replies.outcomes, given, strict=True)
            if (said := said_of(outcome, label))
        )
        for name, given in judges.items()
    }
    for outcome, labels in zip(replies.outcomes, replies.labels, strict=True):
        for name, label in of_people(outcome, labels, asked):
            found.setdefault(f"{name} (a person)", Counter())[label] += 1
    return dict(found)
