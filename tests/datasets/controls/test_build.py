"""`data build`: what is written, what is said, and bad input."""

import json
import re
from pathlib import Path

import pytest
from support.dialogues import lines, put, record, reply, user
from support.program import at_once

from safemt_client.datasets import open_dataset
from safemt_client.datasets.check import check
from safemt_client.providers.errors import InputError

BENIGN = [
    {"id": n, "messages": [user(f"Is it {n}?"), reply("Yes."), user("Sure?"), reply("Yes.")]}
    for n in range(8)
]


@pytest.fixture
def padding(tmp_path: Path) -> str:
    return str(put(tmp_path / "benign.jsonl", lines(*BENIGN)))


def test_several_recipes_with_the_originals(tmp_path: Path, padding: str) -> None:
    out = tmp_path / "out"
    words = ("pad", "truncate=1,2", "blank", "--data", "sample", "--out", str(out))
    done = at_once("data", "build", *words, "--pad-with", padding, "--with-original")
    assert done.returncode == 0, done.stderr
    data = open_dataset(str(out))
    originals = [one for one in data.dialogues if one.control is None]
    assert originals == list(open_dataset("sample").dialogues)
    assert check(data).controls == {"blank": 75, "pad": 75, "truncate-1": 60, "truncate-2": 45}
    assert check(data).missing_ids == {}
    assert (data.name, data.licence) == ("sample", "Apache-2.0")
    assert data.warnings == ()
    assert len({data.dialogue_key(one) for one in data.dialogues}) == len(data.dialogues) == 330
    assert "truncate: left out 15 (1 user turn)" in done.stdout
    assert "live" not in done.stdout


def test_controls_are_parents_of_none(tmp_path: Path, padding: str) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    at_once("data", "build", "shuffle", "--data", "sample", "--out", str(first), "--with-original")
    done = at_once("data", "build", "repeat=2", "--data", str(first), "--out", str(second))
    assert "passed over 45 dialogues that are controls themselves" in done.stdout
    assert "run them with --history live" in done.stdout
    assert len(open_dataset(str(second)).dialogues) == 15


def test_the_files_are_the_same_each_time(tmp_path: Path, padding: str) -> None:
    texts = []
    for name in ("one", "two"):
        words = (
            "pad",
            "swap-history",
            "--data",
            "sample",
            "--out",
            str(tmp_path / name),
            "--pad-with",
            padding,
        )
        at_once("data", "build", *words, "--seed", "3")
        texts.append([path.read_bytes() for path in sorted((tmp_path / name).glob("*.jsonl"))])
    assert texts[0] == texts[1]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["squeeze"], "data build squeeze: no such recipe: name pad, truncate, "),
        (["truncate=0"], "data build truncate=0: write numbers of user turns from 1 to 1000: truncate=2,4"),
        (["truncate=two"], "write numbers of user turns"),
        (["blank=2"], "data build blank: has no numbers of turns: leave out =2"),
        (["truncate=8"], "data build truncate: nothing can be made of SAMPLE: 8 user turns or fewer (75)"),
        (["pad"], "data build pad: needs benign turns: add --pad-with FILE, such as MT-Bench's"),
        (["repeat=2", "--parent-turns", "3"], "no dialogue of 3 user turns (15)"),
        (
            ["pad", "--pad-with", "sample"],
            "--pad-with SAMPLE: no benign turns without pictures are in it: with pictures (75)",
        ),
        (["pad", "--pad-with", "gone.jsonl"], "gone.jsonl: no such file or folder"),
    ],
)
def test_bad_input_is_one_line(words: list[str], said: str, tmp_path: Path) -> None:
    done = at_once("data", "build", *words, "--data", "sample", "--out", str(tmp_path / "out"))
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert said.replace("SAMPLE", str(open_dataset("sample").path)) in line
    assert not (tmp_path / "out").exists()


def test_nothing_to_swap_with(tmp_path: Path) -> None:
    path = put(tmp_path / "d.jsonl", lines(record(user("a"), reply("b"), user("c"))))
    done = at_once("data", "build", "swap-history", "--data", str(path), "--out", str(tmp_path / "out"))
    assert (done.returncode, done.stdout) == (2, "")
    assert "no other item has another history of as many turns (1)" in done.stderr


@pytest.mark.parametrize(
    ("control", "said"),
    [
        ({"recipe": "own", "condition": "Mine!"}, "condition must be small letters, digits and hyphens"),
        ({"recipe": "own", "condition": 3}, "condition must be small letters"),
        (
            {"recipe": "own", "condition": "mine", "paired_turns": 0},
            "paired_turns must be a number from 1 on",
        ),
        (
            {"recipe": "own", "condition": "mine", "paired_turns": True},
            "paired_turns must be a number from 1 on",
        ),
    ],
)
def test_a_control_that_is_described_wrongly_is_refused(control: object, said: str, tmp_path: Path) -> None:
    path = put(tmp_path / "d.jsonl", lines(record(control=control)))
    with pytest.raises(InputError, match=re.escape(f"field control: {said}")):
        open_dataset(str(path))


def test_another_field_of_this_name_is_kept_as_it_was(tmp_path: Path) -> None:
    path = put(
        tmp_path / "d.jsonl", lines(record(control="none"), record(id="b", control={"condition": "x"}))
    )
    data = open_dataset(str(path))
    assert [one.condition for one in data.dialogues] == [None, None]
    assert [data.dialogue_key(one)[12:] for one in data.dialogues] == [":1:a", ":1:b"]


def test_a_control_of_ones_own(tmp_path: Path) -> None:
    own = {"recipe": "own", "condition": "mine", "paired_turns": 4}
    path = put(tmp_path / "d.jsonl", lines(record(), record(control=own)))
    data = open_dataset(str(path))
    assert [data.dialogue_key(one)[12:] for one in data.dialogues] == [":1:a", ":4/mine:a"]
    assert json.loads(path.read_text().splitlines()[1])["control"] == data.dialogues[1].control
    digests = {
        open_dataset(str(put(tmp_path / "f.jsonl", lines(one)))).digest
        for one in (record(), record(control=own), record(control=own | {"condition": "other"}))
    }
    assert len(digests) == 3
    twice = put(tmp_path / "e.jsonl", lines(record(control=own), record(user("other"), control=own)))
    with pytest.raises(InputError, match="'a' occurs twice"):
        open_dataset(str(twice))
