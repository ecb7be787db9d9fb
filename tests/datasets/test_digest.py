"""The digest of a data set is that of its lines of JSON, as every run has it."""

import hashlib
import json
from pathlib import Path

import pytest

from safemt_client.datasets.model import Dataset, Dialogue, ScriptedMessage

ODD = 'a "quote", a \\ and a \t, \u2028é😀, half a pair \ud800'
SAID = (ScriptedMessage("user", ODD, (ODD, "b.png")), ScriptedMessage("assistant", ""))
ASKED = (*SAID, ScriptedMessage("user", "and?"))
CONTROL = {"control": {"condition": "neutral", "recipe": "r", "paired_turns": 3}}


def condition(d: Dialogue) -> list[object]:
    return [] if d.control is None else [d.condition, d.paired_length]


def place(d: Dialogue) -> str:
    return json.dumps([d.item_id, d.length, *condition(d)])[:-1] + ","


def line(d: Dialogue) -> str:
    messages = [[m.role, m.text, m.images] for m in d.messages]
    about = [d.scenario, d.source, d.method, d.question, d.benign]
    return json.dumps([d.item_id, d.length, messages, about, *condition(d)])


@pytest.mark.parametrize(
    "dialogues",
    [
        (Dialogue("b", ASKED, scenario=ODD, benign=True), Dialogue("b", ASKED[:1]), Dialogue("a", ASKED)),
        (Dialogue(ODD, ASKED, extra=CONTROL), Dialogue(ODD, ASKED)),
    ],
)
def test_it_is_that_of_sorted_lines(dialogues: tuple[Dialogue, ...]) -> None:
    lines = [line(d) for d in sorted(dialogues, key=place)]
    digest = Dataset("d", Path(), dialogues).digest
    assert digest == hashlib.sha256("\n".join(lines).encode()).hexdigest()
    assert digest == Dataset("d", Path(), dialogues[::-1]).digest
