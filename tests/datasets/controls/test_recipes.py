"""Each recipe changes what it says, nothing else, and draws by the item alone."""

import itertools
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support.dialogues import lines, picture, put, record, reply, user

from safemt_client.datasets import open_dataset
from safemt_client.datasets.controls.build import padding_of, wanted
from safemt_client.datasets.controls.exchanges import Exchange
from safemt_client.datasets.controls.recipes import RECIPES, LeftOut, Material
from safemt_client.datasets.images import prepare
from safemt_client.datasets.model import Dataset, Dialogue

LENGTHS = (1, 2, 4)


def talk(item: str, length: int, **more: Any) -> dict[str, Any]:
    said = []
    for turn in range(1, length):
        said += [user(f"{item} asks {turn}"), reply(f"answer {turn} to {item}")]
    said.append(user(f"{item} asks in the end"))
    said[0]["images"] = [f"{item}.png"]
    return record(*said, id=item, question=f"{item}?", scenario="Satire", **more)


def data(folder: Path, items: Sequence[str] = "abcde", lengths: Sequence[int] = LENGTHS) -> Dataset:
    for number, item in enumerate(items):
        put(folder / f"{item}.png", picture("PNG", colour=10 * number))
    return open_dataset(str(put(folder / "d.jsonl", lines(*(talk(i, n) for i in items for n in lengths)))))


def benign(folder: Path, *, replied: bool = True, count: int = 6) -> dict[str, Sequence[Exchange]]:
    said = [
        [user(f"topic {n}, first"), reply("Yes."), user(f"topic {n}, second"), reply("No.")]
        for n in range(count)
    ]
    records = [
        {"id": f"t{n}", "messages": several}
        if replied
        else {"id": f"t{n}", "turns": [one["content"] for one in several if one["role"] == "user"]}
        for n, several in enumerate(said)
    ]
    return dict(padding_of(open_dataset(str(put(folder / "benign.jsonl", lines(*records))))).turns)


def made(material: Material, text: str) -> tuple[list[Dialogue], list[str]]:
    one = wanted(text)
    found = list(one.recipe.make(material, one.turns))
    return (
        [dialogue for dialogue in found if isinstance(dialogue, Dialogue)],
        [left.reason for left in found if isinstance(left, LeftOut)],
    )


def material(source: Dataset, **more: Any) -> Material:
    return Material(source, source.dialogues, **more)


def texts(dialogue: Dialogue) -> list[str]:
    return [message.text for message in dialogue.messages]


def images(dialogue: Dialogue) -> list[tuple[str, ...]]:
    return [message.images for message in dialogue.messages if message.role == "user"]


def original(source: Dataset, control: Dialogue) -> Dialogue:
    assert control.control is not None
    return next(
        one
        for one in source.dialogues
        if (one.item_id, one.length) == (control.control["parent"], control.control["parent_turns"])
    )


@pytest.mark.parametrize("recipe", [*RECIPES, "truncate=1,2", "pad=1,3", "repeat=3"])
@pytest.mark.parametrize("seed", [0, 7])
def test_all_else_is_the_parents(recipe: str, seed: int, tmp_path: Path) -> None:
    source = data(tmp_path)
    found, _ = made(material(source, seed=seed, padding=benign(tmp_path)), recipe)
    assert found
    keys = set()
    for control in found:
        parent = original(source, control)
        same = replace(control, messages=parent.messages, extra=parent.extra)
        assert same == parent
        assert control.control is not None
        assert control.control["recipe"] == recipe.partition("=")[0]
        assert control.control["seed"] == seed
        assert texts(control)[-1] == texts(parent)[-1]
        shown = {path for paths in images(control) for path in paths}
        assert len(shown) == 1
        if "image" not in recipe and recipe != "blank":
            assert shown == {f"{control.item_id}.png"}
        keys.add((control.item_id, control.paired_length, control.condition))
    assert len(keys) == len(found)


@pytest.mark.parametrize("recipe", RECIPES)
def test_the_same_seed_draws_the_same_and_another_item_changes_no_other_draw(
    recipe: str, tmp_path: Path
) -> None:
    padding = benign(tmp_path)
    few, more = data(tmp_path / "few"), data(tmp_path / "more", "zabcde")
    first = made(material(few, padding=padding), recipe)[0]
    assert first == made(material(few, padding=padding), recipe)[0]
    again = {
        (one.item_id, one.paired_length): one for one in made(material(more, padding=padding), recipe)[0]
    }
    changed = {one.item_id for one in first if again[one.item_id, one.paired_length] != one}
    # The new item stands between two others of the ring.
    assert len(changed) <= ("swap" in recipe)


@pytest.mark.parametrize("recipe", ["pad", "swap-history", "swap-image"])
def test_another_seed_draws_otherwise(recipe: str, tmp_path: Path) -> None:
    source, padding = data(tmp_path, "abcdefgh"), benign(tmp_path)
    drawn = [
        [one.messages for one in made(material(source, padding=padding, seed=seed), recipe)[0]]
        for seed in range(5)
    ]
    assert all(one != other for one, other in itertools.combinations(drawn, 2))


def test_truncate_keeps_the_last_turns_with_their_replies_and_the_picture(tmp_path: Path) -> None:
    source = data(tmp_path, "a")
    found, left = made(material(source), "truncate=2")
    assert left == ["2 user turns or fewer"] * 2
    (control,) = found
    assert texts(control) == texts(source.dialogues[2])[-3:]
    assert images(control) == [("a.png",), ()]
    assert (control.condition, control.length, control.paired_length) == ("truncate-2", 2, 4)


def test_pad_puts_benign_turns_before_the_shortest_dialogues_question(tmp_path: Path) -> None:
    source = data(tmp_path, "a")
    found, left = made(material(source, padding=benign(tmp_path)), "pad")
    assert [control.length for control in found] == [1, 2, 4]
    assert [control.paired_length for control in found] == [1, 2, 4]
    assert left == []
    assert found[0].messages == source.dialogues[0].messages
    longest = texts(found[2])
    # More turns begin like fewer, so that a vendor's cache of prompts helps.
    assert longest[:2] == texts(found[1])[:2]
    assert [text.split(",")[0] for text in longest[0:6:2]] == [longest[0].split(",")[0]] * 2 + [
        longest[4][:7]
    ]
    assert images(found[2]) == [(), (), (), ("a.png",)]
    assert found[2].scripted


def test_pad_of_a_longer_parent_has_its_last_question_and_all_its_pictures(tmp_path: Path) -> None:
    found, _ = made(material(data(tmp_path, "a"), padding=benign(tmp_path), parent_turns=4), "pad=1,3")
    assert [control.length for control in found] == [1, 3]
    assert found[0].control is not None
    assert found[0].control["parent_turns"] == 4
    assert images(found[0]) == [("a.png",)]


def test_pad_with_users_turns_alone_needs_live_history(tmp_path: Path) -> None:
    found, _ = made(material(data(tmp_path, "a"), padding=benign(tmp_path, replied=False)), "pad=3")
    assert [message.role for message in found[0].messages] == ["user"] * 3
    assert not found[0].scripted


def test_pad_says_where_too_few_turns_are_there(tmp_path: Path) -> None:
    found, left = made(material(data(tmp_path, "ab"), padding=benign(tmp_path, count=1)), "pad=3,9")
    assert len(found) == 2
    assert left == ["8 benign turns are needed, and there are 2"] * 2


def test_repeat_asks_the_question_again_and_shows_its_picture_once(tmp_path: Path) -> None:
    found, _ = made(material(data(tmp_path, "a")), "repeat=3")
    assert texts(found[0]) == ["a asks in the end"] * 3
    assert images(found[0]) == [("a.png",), (), ()]


def test_swap_history_is_a_derangement_at_each_length_with_one_donor(tmp_path: Path) -> None:
    source = data(tmp_path, "abcdefg", (2, 4))
    found, _ = made(material(source), "swap-history")
    donors: dict[int, dict[str, str]] = {2: {}, 4: {}}
    for control in found:
        (donor,) = {text.split()[0] for text in texts(control)[:-1:2]}
        assert texts(control)[1::2] == [f"answer {n + 1} to {donor}" for n in range(control.length - 1)]
        donors[control.length][control.item_id] = donor
    assert donors[2] == donors[4]
    assert set(donors[2].values()) == set("abcdefg")
    assert all(item != donor for item, donor in donors[2].items())


def test_swap_history_takes_none_that_is_the_same_or_the_twins(tmp_path: Path) -> None:
    said = [user("How are you?"), reply("Well.")]
    same = [record(*said, user(f"{item}?"), id=item) for item in "ab"]
    twins = [talk(item, 2, pair="p") for item in "cd"]
    path = put(tmp_path / "d.jsonl", lines(*same))
    found, left = made(material(open_dataset(str(path))), "swap-history")
    assert (found, left) == ([], ["no other item has another history of as many turns"] * 2)
    path = put(tmp_path / "d.jsonl", lines(*same, *twins))
    found, _ = made(material(open_dataset(str(path))), "swap-history")
    assert [control.control and control.control["donor"] in "cd" for control in found[:2]] == [True, True]
    assert [control.control and control.control["donor"] in "ab" for control in found[2:]] == [True, True]


def test_shuffle_moves_the_earlier_turns_alone(tmp_path: Path) -> None:
    source = data(tmp_path, "abcdefgh", (2, 4))
    found, left = made(material(source), "shuffle")
    assert left == ["fewer than two earlier turns"] * 8
    for control in found:
        parent = texts(original(source, control))
        assert texts(control) != parent
        pairs, own = [list(zip(said[:-1:2], said[1::2], strict=True)) for said in (texts(control), parent)]
        assert sorted(pairs) == sorted(own)
    assert len({str(control.control and control.control["order"]) for control in found}) > 1


def test_labels_of_turns_stay_with_their_turns(tmp_path: Path) -> None:
    one = talk("a", 4, turn_labels=["1", "2", "3", "4"])
    source = open_dataset(str(put(tmp_path / "d.jsonl", lines(one))))
    work = material(source, padding=benign(tmp_path))
    assert made(work, "truncate=2")[0][0].extra["turn_labels"] == ["3", "4"]
    assert made(work, "pad=3")[0][0].extra["turn_labels"] == [None, None, "4"]
    (shuffled,) = made(work, "shuffle")[0]
    assert [int(label) for label in shuffled.extra["turn_labels"]][:3] == shuffled.extra["control"]["order"]


def test_a_blank_picture_is_as_large_and_swapped_ones_are_anothers(tmp_path: Path) -> None:
    source = data(tmp_path, "abc")
    work = material(source)
    found, _ = made(work, "blank")
    (name,) = {path for control in found for paths in images(control) for path in paths}
    put(tmp_path / "blank.png", work.made[name]())
    image = prepare(tmp_path / "blank.png", item="a")
    assert (image.width, image.height) == (40, 30)
    found, _ = made(work, "swap-image")
    by_item: dict[str, set[tuple[str, ...]]] = {}
    for control in found:
        by_item.setdefault(control.item_id, set()).add(images(control)[0])
    assert {item: len(names) for item, names in by_item.items()} == {"a": 1, "b": 1, "c": 1}
    assert all(names != {(f"{item}.png",)} for item, names in by_item.items())


def test_pictures_that_are_not_there_are_left_out(tmp_path: Path) -> None:
    source = data(tmp_path, "ab", (1,))
    (tmp_path / "a.png").unlink()
    assert made(material(source), "blank")[1] == ["picture missing or broken"]
    found, left = made(material(source), "swap-image")
    assert (found, sorted(left)) == (
        [],
        ["no other item has other pictures, and as many", "picture missing"],
    )
    put(tmp_path / "e.jsonl", lines(record()))
    plain = material(open_dataset(str(tmp_path / "e.jsonl")))
    assert made(plain, "blank")[1] == made(plain, "swap-image")[1] == ["no picture"]
