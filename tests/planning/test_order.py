"""The order in which conversations begin."""

from itertools import pairwise
from pathlib import Path

from safemt_client.datasets.model import Dataset, Dialogue, ScriptedMessage
from safemt_client.planning.build import make_plan
from safemt_client.planning.messages import History
from safemt_client.planning.plan import Plan
from safemt_client.planning.resolved import NothingKnown, of_dataset
from safemt_client.planning.target import Target
from safemt_client.providers.types import Message, Sampling

LENGTHS = (1, 2, 4, 6, 8)


def dialogue(item: int, length: int) -> Dialogue:
    messages = [ScriptedMessage("user", f"opening of {item}")]
    for turn in range(1, length):
        messages += [ScriptedMessage("assistant", "yes"), ScriptedMessage("user", f"{item} {turn}")]
    return Dialogue(f"item_{item}", tuple(messages))


def plan(*histories: History, items: int = 200) -> Plan:
    data = Dataset("d", Path(), tuple(dialogue(item, k) for k in LENGTHS for item in range(items)))
    return make_plan(
        of_dataset(
            data, data.dialogues, [Target(name, "local/m", name, "off", Sampling()) for name in histories]
        ),
        NothingKnown(),
    )


def test_most_turns_first_and_live_before_scripted() -> None:
    left = [(c.turns_left, c.target.history) for c in plan("scripted", "live").pending]
    assert [turns for turns, _ in left] == sorted((turns for turns, _ in left), reverse=True)
    assert {history for turns, history in left if turns > 1} == {"live"}


def test_the_lengths_of_an_item_run_near_each_other_but_not_at_once() -> None:
    places: dict[str, list[int]] = {}
    for place, conversation in enumerate(plan("scripted", items=256).pending):
        places.setdefault(conversation.dialogue.item_id, []).append(place)
    for found in places.values():
        steps = [after - before for before, after in pairwise(found)]
        assert steps == [64] * 4


def test_requests_of_a_live_conversation_keep_their_prefix() -> None:
    conversation = plan("live", items=1).pending[0]
    before = conversation.next()[0].messages
    while conversation.turns_left > 1:
        conversation.take(Message("assistant", "said"))
        now = conversation.next()[0].messages
        assert now[: len(before)] == before
        before = now
