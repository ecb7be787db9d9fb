"""Records in the shapes that people have: read as they are meant, or refused by one line that names the fix."""

import json
from pathlib import Path
from typing import Any

import pytest
from support.dialogues import kinds, opened, record, reply, said, user

from safemt_client.providers.errors import InputError

Q, R, Q2 = ("u", "What is tea?", ()), ("a", "A drink.", ()), ("u", "How is it made?", ())
THREE = [user(Q[1]), reply(R[1]), user(Q2[1])]


def shared(*texts: str) -> list[dict[str, str]]:
    return [{"from": ("human", "gpt")[n % 2], "value": text} for n, text in enumerate(texts)]


@pytest.mark.parametrize(
    "given",
    [
        {"dialogue": THREE},
        {"messages": THREE},
        {"conversation": THREE},
        {"turns": THREE},
        {"turns": 2, "dialogue": THREE},
        {"dialogue": None, "messages": THREE},
        {"conversations": shared(Q[1], R[1], Q2[1])},
        {"dialogue": json.dumps(THREE)},
        {"dialogue": str(THREE)},
        {"messages": [{"role": "User ", "content": Q[1]}, {"role": "model", "content": R[1]}, user(Q2[1])]},
        {"messages": [user([{"type": "text", "text": Q[1]}]), reply([{"text": R[1]}]), user([Q2[1]])]},
        {"conversations": [{"speaker": "HUMAN", "text": Q[1]}, *shared("", R[1], Q2[1])[1:]]},
    ],
)
def test_scripted_dialogues(given: dict[str, Any], tmp_path: Path) -> None:
    data = opened(tmp_path, {"id": "a", **given})
    assert said(data) == [Q, R, Q2]
    assert data.dialogues[0].scripted
    assert data.dialogues[0].length == 2
    assert not data.warnings


@pytest.mark.parametrize(
    "given",
    [
        {"turns": [Q[1], Q2[1]]},
        {"dialogue": [user(Q[1]), user(Q2[1])]},
        {"conversations": [{"from": "human", "value": Q[1]}, {"from": "human", "value": Q2[1]}]},
    ],
)
def test_user_turns_alone(given: dict[str, Any], tmp_path: Path) -> None:
    data = opened(tmp_path, {"id": "a", **given})
    assert said(data) == [Q, Q2]
    assert not data.dialogues[0].scripted
    assert data.dialogues[0].length == 2


def test_a_system_message_comes_first(tmp_path: Path) -> None:
    (found,) = opened(tmp_path, record({"role": "system", "content": "Be kind."}, *THREE)).dialogues
    assert found.system == "Be kind."
    assert (found.length, found.scripted) == (2, True)


@pytest.mark.parametrize("name", ["prompt", "question"])
def test_a_question_alone_is_the_only_turn_and_is_noted(name: str, tmp_path: Path) -> None:
    data = opened(tmp_path, {"id": "a", name: Q[1]})
    assert said(data) == [Q]
    assert kinds(data) == {"question as dialogue"}


@pytest.mark.parametrize("name", ["messages", "conversations"])
def test_the_reply_of_a_training_set_is_kept_and_not_sent(name: str, tmp_path: Path) -> None:
    data = opened(tmp_path, {"id": "a", name: [user(Q[1]), reply("Boil water.")]})
    assert said(data) == [Q]
    assert data.dialogues[0].extra["reference_reply"] == "Boil water."
    assert kinds(data) == {"reference reply"}


def test_labels_of_single_turns_and_pairs_are_kept(tmp_path: Path) -> None:
    first, second = user(Q[1], label="safe"), user(Q2[1])
    (found,) = opened(tmp_path, record(first, reply(R[1]), second, pair=7)).dialogues
    assert found.extra["turn_labels"] == ["safe", None]
    assert found.pair == "7"
    (bare,) = opened(tmp_path, record()).dialogues
    assert bare.pair is None
    assert "turn_labels" not in bare.extra


@pytest.mark.parametrize(
    ("value", "read"),
    [(True, True), (1, True), (0, False), ("true", True), ("False", False), (1.0, True), (None, None)],
)
def test_benign(value: Any, read: bool | None, tmp_path: Path) -> None:
    assert opened(tmp_path, record(benign=value)).dialogues[0].benign is read


@pytest.mark.parametrize(
    ("given", "said_of_it"),
    [
        ({"dialogue": []}, "field dialogue: must be a list of messages"),
        ({"dialogue": None, "question": Q[1]}, "field dialogue: must be a list of messages"),
        ({}, "field dialogue: must be a list of messages"),
        ({"dialogue": [Q[1], R[1], Q2[1]]}, "is a string: write role and content, or name the list 'turns'"),
        ({"dialogue": "array([{'role': 'user'}], dtype=object)"}, "write it by json.dumps"),
        ({"dialogue": "[{'role': 'user'}\n {'role': 'user'}]"}, "write it by json.dumps"),
        ({"dialogue": [reply(R[1]), user(Q[1])]}, "user first: remove it, or let the system message"),
        ({"dialogue": [user(Q[1]), reply("a"), reply("b"), user("c")]}, r"dialogue\[2\].*join the two"),
        ({"dialogue": [user(Q[1]), reply(R[1])]}, "remove the last reply"),
        ({"dialogue": [user("a"), {"role": "system", "content": "x"}, user("b")]}, "must come first"),
        ({"dialogue": [{"role": "system", "content": "x"}]}, "no user message follows"),
        ({"dialogue": [user("a"), {"role": "tool", "content": "x"}, user("b")]}, "field role.*not 'tool'"),
        ({"dialogue": [user(None)]}, "field content: must be a string"),  # type: ignore[arg-type]
        ({"conversations": [{"from": "human", "value": 5}]}, "field value: must be a string"),
        ({"dialogue": [user([{"type": "video", "video": "a.mp4"}])]}, "'video' cannot be sent"),  # type: ignore[arg-type]
        ({"dialogue": [user(Q[1])], "scenario": 3}, "field scenario: must be a string"),
        ({"dialogue": [user(Q[1])], "benign": "perhaps"}, "field benign: must be true or false"),
    ],
)
def test_what_cannot_be_meant_names_the_field_and_the_fix(
    given: dict[str, Any], said_of_it: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=said_of_it) as caught:
        opened(tmp_path, {"id": "a", **given})
    assert str(caught.value).startswith(f"{tmp_path / 'd.jsonl'}: line 1 ('a'): ")
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("item", "read", "odd"),
    [(7, "7", set()), (7.0, "7", {"id"}), (" a", " a", {"white space"}), ("a\n1", "a\n1", set())],
)
def test_ids(item: Any, read: str, odd: set[str], tmp_path: Path) -> None:
    data = opened(tmp_path, record(id=item))
    assert data.dialogues[0].item_id == read
    assert kinds(data) == odd


@pytest.mark.parametrize(
    ("change", "fix"),
    [({"id": None}, "add one"), ({"id": 3.5}, "must be a string"), ({"id": None, "uid": "x"}, "rename uid")],
)
def test_without_an_id(change: dict[str, Any], fix: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"line 1: field id: must be a string.*{fix}|{fix}"):
        opened(tmp_path, record(**change))


def test_the_same_record_twice_is_noted_and_another_of_its_id_is_refused(tmp_path: Path) -> None:
    data = opened(tmp_path, record(), record(), record(*THREE))
    assert [d.length for d in data.dialogues] == [1, 2]
    assert kinds(data) == {"duplicate record"}
    with pytest.raises(InputError, match="line 2: the id 'a' occurs twice with 1 turns: rename one"):
        opened(tmp_path, record(), record(user("Something else?")))


def test_a_name_that_is_nearly_that_of_a_field_is_noted(tmp_path: Path) -> None:
    data = opened(tmp_path, record(Scenario="Satire"))
    assert "did you mean scenario?" in data.warnings[0].text
    assert data.dialogues[0].extra == {"Scenario": "Satire"}


def test_all_bad_records_are_described_and_the_first_refuses_a_run(tmp_path: Path) -> None:
    bad = [record(id="b", dialogue=[]), "no record", record(id="c", benign="x")]
    found = opened(tmp_path, bad[0], record(), *bad[1:], lenient=True)
    assert [line.split(": ")[1] for line in found.refused] == ["line 1 ('b')", "line 3", "line 4 ('c')"]
    assert len(found.dialogues) == 1
    with pytest.raises(InputError, match=r"line 1 \('b'\).*\(2 more: data check lists them\)"):
        opened(tmp_path, bad[0], record(), *bad[1:])
