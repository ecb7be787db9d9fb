"""The views of twins and of turns that the data label, over whole runs against the demo."""

from pathlib import Path

import pytest
from support.dialogues import lines, put, record, reply, user
from support.faults import answer
from support.program import against, sql

from safemt_client.__main__ import main

TABLE = "SELECT pair, scored, unsafe, benign_replies, declined, both_right FROM twins ORDER BY ALL"


def test_twins(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    records = [
        record(id="a", pair="one", benign=False),
        record(id="b", pair="one", benign=True),
        record(id="c", pair=2, benign=True),
        record(id="d"),
    ]
    path = put(here / "d.jsonl", lines(*records))
    status, _ = against(
        [],
        answer("I'm sorry, but I can't help with that."),
        *("--provider", "m@URL", "--data", str(path), "--judge", "none", "--max-wait", "0"),
    )
    assert status == 0
    assert sql(TABLE, capsys) == [
        {"pair": "2", "scored": 0, "unsafe": 0, "benign_replies": 1, "declined": 1, "both_right": None},
        {"pair": "one", "scored": 0, "unsafe": 0, "benign_replies": 1, "declined": 1, "both_right": None},
    ]


def test_twins_that_a_judge_has_labelled(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    records = [record(id="a", pair="one"), record(id="b", pair="one", benign=True)]
    put(here / "d.jsonl", lines(*records))
    assert main(["--provider", "demo", "--data", "d.jsonl"]) == 0
    (row,) = sql(TABLE, capsys)
    assert (row["pair"], row["scored"], row["benign_replies"]) == ("one", 1, 1)
    assert row["both_right"] == (row["unsafe"] == 0 and row["declined"] == 0)


def test_labels_of_turns_beside_what_the_moderator_found(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = record(user("a", label="safe"), reply("b"), user("c", label="Unsafe"), id="a")
    put(here / "d.jsonl", lines(said, record(id="b")))
    words = "--provider demo --data d.jsonl --judge none --moderator demo-guard --moderator-turns every"
    assert main(words.split()) == 0
    found = sql("SELECT item_id, turn, given, harmful, detected FROM labelled_turns ORDER BY turn", capsys)
    assert [(row["item_id"], row["turn"], row["given"], row["harmful"]) for row in found] == [
        ("a", 1, "safe", False),
        ("a", 2, "unsafe", True),
    ]
    assert all(isinstance(row["detected"], bool) for row in found)
