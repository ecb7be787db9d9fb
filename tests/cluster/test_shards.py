"""Pieces of a plan, and how they travel."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from safemt_client.cluster.packed import pack, unpack
from safemt_client.cluster.shards import at_most, cut
from safemt_client.datasets.model import Dataset, Dialogue, ScriptedMessage
from safemt_client.planning.build import make_plan
from safemt_client.planning.pictures import Pictures
from safemt_client.planning.plan import Plan
from safemt_client.planning.resolved import NothingKnown, of_dataset
from safemt_client.planning.target import Target
from safemt_client.providers.types import Image, Sampling


def dialogue(item: int, length: int, opening: str | None = None) -> Dialogue:
    images = (f"{item}.png",) if opening is None else ()
    messages = [ScriptedMessage("user", opening or f"opening of {item}", images)]
    for turn in range(1, length):
        messages += [ScriptedMessage("assistant", "yes"), ScriptedMessage("user", f"{item} {turn}")]
    return Dialogue(f"item_{item}", tuple(messages))


def plan(*dialogues: Dialogue) -> Plan:
    data = Dataset("d", Path(), dialogues)
    pictures = {
        path: Image(f"hash of {path}", "image/png", 3, 1, 1, lambda path=path: path.encode())
        for one in dialogues
        for message in one.messages
        for path in message.images
    }
    targets = [Target(name, f"local/{name}", "live", "on", Sampling()) for name in ("a", "b")]
    return make_plan(of_dataset(data, dialogues, targets, pictures=Pictures(pictures)), NothingKnown())


def scripted(data: Dataset) -> Plan:
    target = Target("a", "local/a", "scripted", "on", Sampling())
    return make_plan(of_dataset(data, data.dialogues, [target]), NothingKnown())


def test_a_piece_has_whole_items_and_each_conversation_is_in_one() -> None:
    whole = plan(*(dialogue(item, length) for item in range(20) for length in (1, 2, 4)))
    shards = cut(whole, 15)
    assert [len(shard.plan.pending) for shard in shards] == [12] * 10
    found = [c for shard in shards for c in shard.plan.pending]
    assert sorted(map(id, found)) == sorted(map(id, whole.pending))
    assert [fresh for shard in shards for fresh in shard.plan.with_fresh] != []
    items = [{c.dialogue.item_id for c in shard.plan.pending} for shard in shards]
    assert sum(map(len, items)) == len(set().union(*items)) == 20
    assert all(c.key in shard.dialogues for shard in shards for c in shard.plan.pending)


def test_items_that_begin_alike_are_together_unless_half_of_the_data_does() -> None:
    pair = plan(*(dialogue(item, 1, f"tea {item // 2}") for item in range(8)))
    assert [{c.dialogue.item_id for c in shard.plan.pending} for shard in cut(pair, 4)] == [
        {f"item_{2 * n}", f"item_{2 * n + 1}"} for n in range(4)
    ]
    greeted = plan(*(dialogue(item, 2, "Good morning") for item in range(12)))
    assert len(cut(greeted, 4)) == 1  # the first turn of live history is the same request
    data = Dataset("d", Path(), tuple(dialogue(item, 2, "Good morning") for item in range(12)))
    assert len(cut(scripted(data), 4)) == 3
    # Other requests, which have the pictures or the assessments of their beginning in common.
    data = Dataset("d", Path(), tuple(dialogue(item, 2, f"tea {item % 4}") for item in range(8)))
    assert [{c.dialogue.item_id for c in shard.plan.pending} for shard in cut(scripted(data), 2)] == [
        {f"item_{n}", f"item_{n + 4}"} for n in range(4)
    ]


def test_each_worker_gets_several_pieces_where_there_is_enough() -> None:
    assert at_most(150, 10_000, 4) == 150
    assert at_most(150, 160, 4) == 10
    assert at_most(150, 3, 4) == 1


def test_what_only_lacks_verdicts_is_counted_by_these() -> None:
    whole = replace(plan(dialogue(0, 1)), judge=None)
    assert (whole.conversations, whole.unjudged) == (2, 0)
    assert replace(whole, judgings=(None,) * 7).unjudged == 7  # type: ignore[arg-type]
    judge: Any = object()
    counted: Any = SimpleNamespace(conversations=0, parts=(({}, 5, True), ({"a": 2}, 4, False)))
    parts = replace(whole, judge=judge, counted=counted)
    assert (parts.conversations, parts.unjudged) == (0, 7)


def test_pictures_travel_by_their_hash() -> None:
    shard = cut(plan(dialogue(0, 1), dialogue(1, 1)), 10)[0]
    data, pictures = pack(shard.plan)
    assert set(pictures) == {"hash of 0.png", "hash of 1.png"}
    asked: list[str] = []

    def load(sha256: str) -> bytes:
        asked.append(sha256)
        return b"there"

    there = unpack(data, load)
    assert [c.next()[1] for c in there.pending] == [c.next()[1] for c in shard.plan.pending]
    assert all(c.target is there.targets[n % 2] for n, c in enumerate(there.pending))
    assert asked == []
    assert there.pending[0].next()[0].messages[0].images[0].load() == b"there"
