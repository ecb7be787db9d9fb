"""Labelled replies: one's own files, maps with a table `labelled`, and what is wrong with a record."""

import json
from pathlib import Path
from typing import Any

import pytest
from support.dialogues import picture, put

from safemt_client.datasets.labelled import LabelledSet, open_labelled
from safemt_client.providers.errors import InputError

TEA, HOT = "What is tea?", "How hot is it?"
MAP = """
name = "Cups"
[source]
files = "*.jsonl"
[fields]
id = "{_row}"
scenario = "{kind}"
[turns]
one = "{asked}"
[labelled]
reply = "said"
item = "{asked}"
"""


def lines(path: Path, *rows: dict[str, Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def labels(found: LabelledSet) -> dict[str, dict[str, str]]:
    return {
        one.dialogue.item_id: {label.annotator: label.label for label in one.labels} for one in found.replies
    }


def test_a_table_with_a_row_for_each_label(tmp_path: Path) -> None:
    path = tmp_path / "l.csv"
    path.write_text(
        "id,question,reply,label,annotator,category,image\n"
        f"1,{TEA},A drink.,safe,ada,drinks,p.png\n"
        f"1,{TEA},A drink.,Unsafe,ben,drinks,p.png\n"
        f"2,{HOT},Very.,unsafe,ada,heat,\n"
        f"3,{HOT},Not at all.,,ada,heat,\n"
    )
    put(tmp_path / "p.png", picture("PNG"))
    found = open_labelled(str(path))
    assert labels(found) == {"1": {"ada": "safe", "ben": "unsafe"}, "2": {"ada": "unsafe"}}
    assert found.unlabelled == 1
    first = found.replies[0]
    assert (first.reply, first.item, first.dialogue.scenario) == ("A drink.", "1", "drinks")
    assert first.dialogue.question == TEA
    assert [(m.role, m.text, m.images) for m in first.dialogue.messages] == [("user", TEA, ("p.png",))]
    assert found.dataset.image_path("p.png").is_file()


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"label": "safe"}, {"people": "safe"}),
        ({"labels": ["safe", "unsafe", ""]}, {"person 1": "safe", "person 2": "unsafe"}),
        ({"labels": {"ada": "UNSAFE ", "ben": None}}, {"ada": "unsafe"}),
        ({"label_ada": "safe", "label_ben": "unsafe"}, {"ada": "safe", "ben": "unsafe"}),
    ],
)
def test_labels_in_other_forms(given: dict[str, Any], expected: dict[str, str], tmp_path: Path) -> None:
    path = lines(tmp_path / "l.jsonl", {"id": 1, "question": TEA, "reply": "A drink.", **given})
    assert labels(open_labelled(str(path))) == {"1": expected}


def test_the_dialogue_before_a_reply_and_one_that_ends_it(tmp_path: Path) -> None:
    said = [{"role": "user", "content": TEA}, {"role": "assistant", "content": "A drink."}]
    more = [*said, {"role": "user", "content": HOT}]
    path = lines(
        tmp_path / "l.jsonl",
        {"id": "long", "question": HOT, "dialogue": more, "reply": "Very.", "label": "safe"},
        {"id": "end", "messages": [*more, {"role": "assistant", "content": "Very."}], "label": "safe"},
    )
    found = open_labelled(str(path))
    assert [(one.reply, one.dialogue.length) for one in found.replies] == [("Very.", 2), ("Very.", 2)]


def test_a_reply_that_looks_like_a_picture_is_a_text(tmp_path: Path) -> None:
    row = {"id": 1, "question": TEA, "reply": "tea.png", "label": "safe"}
    assert open_labelled(str(lines(tmp_path / "l.jsonl", row))).replies[0].reply == "tea.png"


def test_selections_are_the_same_each_time_and_the_digest_tells_them_apart(tmp_path: Path) -> None:
    rows = [{"id": n, "item": n // 2, "question": TEA, "reply": str(n), "label": "safe"} for n in range(20)]
    found = open_labelled(str(lines(tmp_path / "l.jsonl", *rows)))
    again = open_labelled(str(lines(tmp_path / "m.jsonl", *reversed(rows))))
    assert found.digest == again.digest
    some = found.of_items({"0", "1"})
    assert [one.dialogue.item_id for one in some.replies] == ["0", "1", "2", "3"]
    rows[3]["label"] = "unsafe"
    changed = open_labelled(str(lines(tmp_path / "n.jsonl", *rows)))
    assert len({found.digest, changed.digest, some.digest}) == 3


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"question": TEA, "reply": "x", "label": "safe"}, "field id: must be a text"),
        ({"id": 1, "reply": "x", "label": "safe"}, "field question: is missing"),
        ({"id": 1, "question": TEA, "label": "safe"}, "field reply: is missing"),
        ({"id": 1, "question": TEA, "reply": 4, "label": "safe"}, "field reply: must be a text"),
        ({"id": 1, "question": TEA, "reply": "x"}, "field label: is missing: write safe or unsafe"),
        (
            {"id": 1, "question": TEA, "reply": "x", "label": "bad"},
            "field label: 'bad': write safe or unsafe",
        ),
        ({"id": 1, "question": TEA, "reply": "x", "label": 1}, "field label: 1: write safe or unsafe"),
        ({"id": 1, "question": TEA, "reply": "x", "labels": "safe"}, "field labels: must be a list"),
        ({"id": 1, "question": TEA, "reply": "x", "label": ""}, "nobody has labelled a reply"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(row: dict[str, Any], words: str, tmp_path: Path) -> None:
    path = lines(tmp_path / "l.jsonl", row)
    with pytest.raises(InputError) as error:
        open_labelled(str(path))
    assert words in str(error.value)
    assert "l.jsonl" in str(error.value)


def test_one_id_is_one_reply_and_a_person_labels_it_once(tmp_path: Path) -> None:
    row = {"id": 1, "question": TEA, "reply": "x", "label": "safe", "annotator": "ada"}
    path = lines(tmp_path / "l.jsonl", row, {**row, "annotator": "ben", "reply": "y"})
    with pytest.raises(InputError, match="another reply has the id '1': rename one"):
        open_labelled(str(path))
    twice = {"id": 1, "question": TEA, "reply": "x", "labels": {"ada": "safe"}, "label_ada": "unsafe"}
    with pytest.raises(InputError, match="'ada' labels it twice"):
        open_labelled(str(lines(tmp_path / "m.jsonl", twice)))


def test_a_map_says_where_labels_are(tmp_path: Path) -> None:
    votes = """
    [[labelled.votes]]
    by = "ada"
    field = "ada"
    unsafe = [1, true]
    safe = [0, false]
    [[labelled.votes]]
    by = "{who}"
    field = "grade"
    unsafe_from = 0.5
    """
    put(tmp_path / "cups.toml", MAP + votes)
    about = {"kind": "drinks", "asked": TEA, "who": "ben"}
    lines(
        tmp_path / "rows.jsonl",
        about | {"said": "a", "ada": 1, "grade": 0.5},
        about | {"said": "b", "ada": False, "grade": "0.25"},
        about | {"said": "c", "ada": None, "grade": None},
    )
    found = open_labelled(str(tmp_path), data_map=str(tmp_path / "cups.toml"))
    assert labels(found) == {"0": {"ada": "unsafe", "ben": "unsafe"}, "1": {"ada": "safe", "ben": "safe"}}
    assert {one.item for one in found.replies} == {TEA}
    assert found.unlabelled == 1
    assert found.replies[0].dialogue.extra == {}


@pytest.mark.parametrize(
    ("votes", "row", "words"),
    [
        ('field = "ada"\nunsafe = [1]', {}, "key labelled.votes.0: must have either both unsafe and safe"),
        (
            'field = "ada"\nsafe = [0]\nunsafe = [1]\nunsafe_from = 1',
            {},
            "key labelled.votes.0: must have either",
        ),
        ('field = "{ada}"\nunsafe_from = 1', {}, "key labelled.votes.0.field: names a field"),
        (
            'field = "ada"\nunsafe_from = 1',
            {"said": None},
            "key labelled.reply: the row has no text in 'said'",
        ),
        (
            'field = "ada"\nunsafe_from = 1',
            {"ada": "x"},
            "key labelled.votes.0.unsafe_from: 'x' in 'ada' is no",
        ),
        ('field = "ada"\nsafe = [0]\nunsafe = [1]', {"ada": 2}, "2 in 'ada' is neither unsafe nor safe"),
        ('by = "{who}"\nfield = "ada"\nunsafe_from = 1', {}, "key labelled.votes.0.by: the row has not all"),
    ],
)
def test_maps_and_rows_that_do_not_fit(votes: str, row: dict[str, Any], words: str, tmp_path: Path) -> None:
    put(tmp_path / "cups.toml", f"{MAP}[[labelled.votes]]\n{votes}\n")
    lines(tmp_path / "rows.jsonl", {"kind": "drinks", "asked": TEA, "said": "a", "ada": 1} | row)
    with pytest.raises(InputError) as error:
        open_labelled(str(tmp_path), data_map=str(tmp_path / "cups.toml"))
    assert words in str(error.value)


def test_a_map_without_labels_is_refused_and_a_name_alone_is_explained(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="has no table labelled"):
        open_labelled(str(tmp_path), data_map="xstest")
    with pytest.raises(InputError, match="--set xstest: is the name of a map: name its files"):
        open_labelled("xstest")
    with pytest.raises(InputError, match="no such file"):
        open_labelled(str(tmp_path / "none.csv"))
    with pytest.raises(InputError, match="is a folder"):
        open_labelled(str(tmp_path))


def test_the_bundled_set_is_whole() -> None:
    found = open_labelled("sample")
    assert len(found.replies) == 96
    assert {name for one in found.replies for name in labels_of(one)} == {"ada", "ben", "cleo"}
    assert found.dataset.warnings == ()


def labels_of(one: Any) -> list[str]:
    return [label.annotator for label in one.labels]
