"""A run that is planned in pieces is the run that is planned at once."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.simulated import data_of

from safemt_client.engine import recorder
from safemt_client.engine.recorder import Recorder
from safemt_client.planning import outline, pieces, rows
from safemt_client.planning.build import make_plan
from safemt_client.planning.estimate import estimate_of
from safemt_client.planning.messages import History
from safemt_client.planning.outline import outline_of
from safemt_client.planning.pieces import Groups, in_pieces, pieces_of
from safemt_client.planning.plan import Plan
from safemt_client.planning.resolved import Known, NothingKnown, Resolved, of_dataset
from safemt_client.planning.target import Target
from safemt_client.providers.limits.limiter import StatedLimits
from safemt_client.providers.types import Sampling
from safemt_client.results.store.store import Store

LENGTHS = (1, 2, 4)


def wanted_of(items: int, targets: int = 2, samples: int = 1, history: History = "scripted") -> Resolved:
    data = data_of(items, LENGTHS)
    models = [Target(f"m{n}", f"local/m{n}", history, "off", Sampling()) for n in range(targets)]
    return of_dataset(data, data.dialogues, models, samples=samples)


class Some(NothingKnown):
    """Every second request is known."""

    def observed(self, hashes: Sequence[str]) -> Mapping[str, str]:
        return {key: "answered" for key in hashes if int(key[:4], 16) % 2}

    def texts(self, hashes: Sequence[str]) -> Mapping[str, str]:
        return dict.fromkeys(hashes, "No.")


def plans_of(wanted: Resolved, known: Known, most: int) -> list[Plan]:
    return [make_plan(piece, known) for piece in in_pieces(wanted, most)]


def asked(*plans: Plan) -> Counter[tuple[str, str, int, str]]:
    return Counter((c.target.key, c.key, c.sample, c.next()[1]) for plan in plans for c in plan.pending)


@settings(max_examples=20, deadline=None)
@given(
    items=st.integers(1, 9),
    targets=st.integers(1, 2),
    samples=st.integers(1, 2),
    most=st.integers(1, 40),
    known=st.sampled_from([NothingKnown(), Some()]),
)
def test_pieces_are_the_whole(items: int, targets: int, samples: int, most: int, known: Known) -> None:
    wanted = wanted_of(items, targets, samples)
    whole, plans = make_plan(wanted, known), plans_of(wanted, known, most)
    assert asked(*plans) == asked(whole)
    assert {plan.run.fingerprint for plan in plans} == {whole.run.fingerprint}
    assert [row for plan in plans for row in plan.dialogues] == list(whole.dialogues)
    assert Counter(step for plan in plans for step in plan.steps) == Counter(whole.steps)
    assert sum((plan.turns for plan in plans), Counter()) == whole.turns
    an_item = len(LENGTHS) * targets * samples
    for piece in in_pieces(wanted, most):
        assert len(piece.sendable) * targets * samples <= max(most, an_item)
        assert set(Counter(one.dialogue.item_id for one in piece.sendable).values()) == {len(LENGTHS)}


def test_groups_of_the_callers_own_stay_together() -> None:
    wanted = wanted_of(6)
    found = list(in_pieces(wanted, 1, lambda one: int(one.dialogue.item_id[-1]) % 2))
    items = [sorted({one.dialogue.item_id for one in piece.sendable}) for piece in found]
    assert items == [["item_0", "item_2", "item_4"], ["item_1", "item_3", "item_5"]]


def test_items_that_begin_alike_are_in_one_piece_unless_many_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pieces, "PIECE", 2)
    data = data_of(6, (1,))
    said = [replace(one.messages[0], text=f"tea {n % 3}") for n, one in enumerate(data.dialogues)]
    dialogues = [replace(one, messages=(text,)) for one, text in zip(data.dialogues, said, strict=True)]
    wanted = of_dataset(data, dialogues, [Target("m", "local/m", "live", "off", Sampling())])
    found = [[one.dialogue.item_id for one in piece.sendable] for piece in pieces_of(wanted)]
    assert found == [["item_0", "item_3"], ["item_1", "item_4"], ["item_2", "item_5"]]
    monkeypatch.setattr(pieces, "_ALIKE", 1)
    found = [[one.dialogue.item_id for one in piece.sendable] for piece in pieces_of(wanted)]
    assert found == [["item_0", "item_1"], ["item_2", "item_3"], ["item_4", "item_5"]]
    monkeypatch.undo()
    # Items count by their conversations: with six samples a piece has no room for two of them.
    monkeypatch.setattr(pieces, "PIECE", 6)
    wanted = replace(wanted, samples=6)
    assert [len(piece.sendable) for piece in pieces_of(wanted)] == [1] * 6


def test_a_group_is_no_larger_than_it_may_be() -> None:
    groups = Groups()
    groups.join(["a", "b"], 3)
    groups.join(["c", "d"], 3)
    groups.join(["b", "c"], 3)
    groups.join(["b", "e"], 3)
    assert [groups.top(item) for item in "abcde"] == ["a", "a", "c", "c", "a"]
    sized = Groups({"a": 3, "b": 1, "c": 2})
    sized.join(["a", "b", "c"], 5)
    assert [sized.top(item) for item in "abc"] == ["a", "a", "c"]


@pytest.mark.parametrize("known", [NothingKnown(), Some()])
@pytest.mark.parametrize("history", ["scripted", "live"])
def test_an_outline_says_of_the_whole_what_its_plan_says(
    known: Known, history: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = wanted_of(9, 2, 2, history)
    monkeypatch.setattr(outline, "NothingKnown", lambda: known)
    whole = outline_of(wanted, None)
    assert (whole.counted, asked(whole)) == (None, asked(make_plan(wanted, known)))
    monkeypatch.setattr(pieces, "PIECE", 30)
    parts = outline_of(wanted, None)
    assert parts.counted is not None
    assert len(parts.counted.parts) == 5
    assert (parts.pending, parts.steps) == ((), ())
    for about in ("turns", "verdicts", "conversations", "cached_turns", "dialogues", "targets"):
        assert getattr(parts, about) == getattr(whole, about), about
    estimates = [estimate_of(plan, {}, lambda account: StatedLimits(rpm=60)) for plan in (parts, whole)]
    assert estimates[0].lines == estimates[1].lines
    assert estimates[0].seconds == estimates[1].seconds
    for target in wanted.targets:
        turns = [[c.turns_left for c in plan.longest(target, 9)] for plan in (parts, whole)]
        assert turns[0] == turns[1]


def test_what_cannot_be_sent_is_in_the_first_piece() -> None:
    wanted = wanted_of(4)
    broken = wanted.sendable[-1].key
    wanted = replace(wanted, sendable=wanted.sendable[:-1], not_attempted={broken: "image missing"})
    first, *others = plans_of(wanted, NothingKnown(), 6)
    assert first.not_attempted == {broken: "image missing"}
    assert broken in {row.dialogue_key for row in first.dialogues}
    assert not any(plan.not_attempted for plan in others)


def test_rows_of_many_dialogues_are_made_as_they_are_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    few = wanted_of(3)
    monkeypatch.setattr(rows, "_HELD", 2)
    many = wanted_of(3)
    assert isinstance(many.dialogues, rows.DialogueRows)
    assert list(many.dialogues) == list(few.dialogues)
    assert list(many.dialogues[1:3]) == list(few.dialogues[1:3])
    assert many.fingerprint == few.fingerprint


def test_dialogues_are_saved_in_parts_and_the_run_with_the_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A session that is killed between two parts leaves no run, and the next one saves the others."""
    monkeypatch.setattr(recorder, "_AT_ONCE", 4)
    plan = make_plan(wanted_of(4), NothingKnown())
    count = len(plan.dialogues)
    with Store.open(tmp_path / "s.duckdb") as store:
        counts: list[Any] = []

        class Killed(Exception):
            pass

        class Failing:
            def __init__(self) -> None:
                self.saves = 0

            def __getattr__(self, name: str) -> Any:
                return getattr(store, name)

            async def save(self, *given: Any) -> None:
                self.saves += 1
                if self.saves > 2:
                    raise Killed
                await store.save(*given)

        with pytest.raises(Killed):
            anyio.run(Recorder(plan, Failing(), "s").save_plan)  # type: ignore[arg-type]
        for _ in range(2):
            sql = "SELECT (SELECT count(*) FROM runs), (SELECT count(*) FROM dialogues), count(*) FROM run_dialogues"
            counts += store.query(sql).rows
            anyio.run(Recorder(plan, store, "s").save_plan)
        counts += store.query(sql).rows
    assert counts == [(0, 4, 4), (1, count, count), (1, count, count)]
