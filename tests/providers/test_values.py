"""Values are made quickly, and are otherwise what frozen dataclasses are."""

from __future__ import annotations

import pickle
from dataclasses import FrozenInstanceError, dataclass, field, fields, replace
from inspect import signature

import pytest

from safemt_client.providers.types import Reply, Usage
from safemt_client.providers.values import value_class
from safemt_client.results.store.rows import StepRow, TurnRow, VerdictRow

USED = (Reply, Usage, StepRow, TurnRow, VerdictRow)


@value_class(frozen=True, slots=True)
class Quick:
    name: str
    number: int = 3
    unseen: tuple[str, ...] = field(default=(), compare=False)


@dataclass(frozen=True, slots=True)
class Plain:
    name: str
    number: int = 3
    unseen: tuple[str, ...] = field(default=(), compare=False)


@pytest.mark.parametrize("kind", USED)
def test_nothing_changes_one_and_it_is_of_its_kind(kind: type) -> None:
    made = kind(*range(len(fields(kind))))
    assert type(made) is kind
    assert [getattr(made, one.name) for one in fields(kind)] == list(range(len(fields(kind))))
    for one in fields(kind):
        with pytest.raises(FrozenInstanceError):
            setattr(made, one.name, "else")
    with pytest.raises((FrozenInstanceError, TypeError, AttributeError)):
        made.more = 1


def test_defaults_equality_and_hash_are_those_of_a_dataclass() -> None:
    assert repr(Quick("a")) == repr(Plain("a")).replace("Plain", "Quick")
    assert list(signature(Quick).parameters) == list(signature(Plain).parameters)
    assert Quick("a", unseen=("x",)) == Quick(name="a", number=3)
    assert Quick("a") != Quick("b")
    assert hash(Quick("a", unseen=("x",))) == hash(Quick("a"))
    assert replace(Quick("a"), number=4) == Quick("a", 4)
    assert pickle.loads(pickle.dumps(Quick("a", 4))) == Quick("a", 4)
    with pytest.raises(TypeError):
        Quick()  # type: ignore[call-arg]


def test_what_the_quick_constructor_cannot_do_is_refused() -> None:
    with pytest.raises(TypeError, match=r"Wrong\.many: a value_class has plain fields only"):

        @value_class(frozen=True, slots=True)
        class Wrong:
            many: list[str] = field(default_factory=list)
