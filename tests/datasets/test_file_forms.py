"""Files and folders in the forms that people have."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from support.dialogues import kinds, lines, picture, put, record, reply, user

from safemt_client.datasets import open_dataset
from safemt_client.providers.errors import InputError

ONE, TWO = record(), record(id="b")
LONG = record(user("What is tea?"), reply("A drink."), user("How is it made?"))


def ids(path: Path) -> list[str]:
    return [dialogue.item_id for dialogue in open_dataset(str(path)).dialogues]


@pytest.mark.parametrize("name", ["d.jsonl", "d.ndjson", "d.jl", "d.json", "D.JSONL"])
@pytest.mark.parametrize(
    "content",
    [lines(ONE, TWO), json.dumps([ONE, TWO]).encode(), json.dumps([ONE, TWO], indent=1).encode()],
    ids=["lines", "array", "indented"],
)
@pytest.mark.parametrize("packed", [False, True])
def test_by_content_whatever_the_name(name: str, content: bytes, packed: bool, tmp_path: Path) -> None:
    path = tmp_path / (f"{name}.gz" if packed else name)
    assert ids(put(path, gzip.compress(content) if packed else content)) == ["a", "b"]


@pytest.mark.parametrize(
    "document",
    [
        {"data": [ONE, TWO]},
        {"version": "1", "rows": [ONE, TWO], "other": []},
        {"a": {"dialogue": ONE["dialogue"]}, "b": TWO},
    ],
)
@pytest.mark.parametrize("indent", [None, 1])
def test_records_within_an_object(document: Any, indent: int | None, tmp_path: Path) -> None:
    assert ids(put(tmp_path / "d.json", json.dumps(document, indent=indent))) == ["a", "b"]


def test_a_single_record(tmp_path: Path) -> None:
    assert ids(put(tmp_path / "d.json", json.dumps(ONE, indent=1))) == ["a"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"train": [{"id": "a"}], "test": [{"id": "b"}]}', "several lists of records"),
        ('{"id": "a"}', "must be a JSON array of records"),
        ("5", "is not a JSON object"),
        (json.dumps([ONE, TWO])[:-30], "record 1: not JSON"),
        (json.dumps([ONE])[:-1] + ",]", "record 0: not JSON: a comma after the last record: remove it"),
        (json.dumps([ONE])[:-1], "record 0: not JSON: the array has no end"),
        (json.dumps([ONE]) + "x", "more after the end of the array"),
        ("[]", "contains no dialogues"),
        ("", "contains no dialogues"),
    ],
)
def test_json_that_holds_no_records(text: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=said):
        open_dataset(str(put(tmp_path / "d.json", text)))


@pytest.mark.parametrize(
    ("name", "sign"), [("d.csv", ","), ("d.csv", ";"), ("d.tsv", "\t"), ("d.csv.gz", ",")]
)
def test_columns(name: str, sign: str, tmp_path: Path) -> None:
    cell = json.dumps(LONG["dialogue"]).replace('"', '""')
    text = f'id{sign}scenario{sign}dialogue{sign}benign\na{sign}Satire{sign}"{cell}"{sign}true\n\n'
    data = gzip.compress(text.encode()) if name.endswith("gz") else text.encode()
    (found,) = open_dataset(str(put(tmp_path / name, data))).dialogues
    assert (found.scenario, found.length, found.benign) == ("Satire", 2, True)


def test_a_column_of_questions_with_pictures(tmp_path: Path) -> None:
    put(tmp_path / "a.png", picture("PNG"))
    text = 'id,prompt,image\na,"What, exactly,\nis ""this""?",a.png\nb,And that?,\n'
    data = open_dataset(str(put(tmp_path / "d.csv", text)))
    assert [d.messages[0].images for d in data.dialogues] == [("a.png",), ()]
    assert data.dialogues[0].messages[0].text == 'What, exactly,\nis "this"?'


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("id,prompt\na,What, then?\n", "row 1: has 3 cells, and the first row names 2 columns"),
        ("id,id\na,b\n", "the column 'id' occurs twice"),
        ("\n", "the first row names no columns"),
        ("id,prompt\n", "contains no dialogues"),
        ("id,other\na,b\n", r"row 1 \('a'\): field dialogue"),
    ],
)
def test_tables_that_are_refused(text: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=said):
        open_dataset(str(put(tmp_path / "d.csv", text)))


def test_a_folder_of_files(tmp_path: Path) -> None:
    put(tmp_path / "1.jsonl", lines(ONE))
    put(tmp_path / "2.csv", "id,prompt\nc,Tea?\n")
    put(tmp_path / "3.json.gz", gzip.compress(json.dumps([TWO]).encode()))
    for stray in ("._1.jsonl", ".hidden.json", "~$2.csv", "dataset_info.json", "README.md", "1.jsonl.bak"):
        put(tmp_path / stray, "stray")
    assert ids(tmp_path) == ["a", "c", "b"]
    assert open_dataset(str(tmp_path)).name == tmp_path.name


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("1_turn.json", [ONE]),
        ("01_turn.json", [ONE]),
        ("1_turns.json", [ONE]),
        ("1_Turn.JSON", [ONE]),
        ("1_turn.jsonl", lines(ONE)),
        ("1_turn.json.gz", gzip.compress(json.dumps([ONE]).encode())),
        ("1_turn.json", ("[" + json.dumps(ONE) + "]").encode("utf-16")),
    ],
)
@pytest.mark.parametrize("named", [".", "Data", "above", "Data/images"])
def test_turn_files_and_the_folder_that_is_named(name: str, content: Any, named: str, tmp_path: Path) -> None:
    put(tmp_path / "set" / "Data" / name, content)
    put(tmp_path / "set" / "Data" / "._2_turn.json", b"\0\5\x16\7")
    put(tmp_path / "set" / "Data" / "images" / "a.png", picture("PNG"))
    assert ids(tmp_path if named == "above" else tmp_path / "set" / named) == ["a"]


def test_several_sets_below_are_not_guessed_from(tmp_path: Path) -> None:
    for name in ("one", "two"):
        put(tmp_path / name / "Data" / "1_turn.json", [ONE])
    with pytest.raises(InputError, match=r"several data sets are in it: name one: .*one/Data.*two/Data"):
        open_dataset(str(tmp_path))


def test_files_with_other_names_are_noted(tmp_path: Path) -> None:
    put(tmp_path / "1_turn.json", [ONE])
    put(tmp_path / "2_turn.json", [])
    put(tmp_path / "1_turn (1).json", [TWO])
    put(tmp_path / "1_turn.json.bak", [TWO])
    data = open_dataset(str(tmp_path))
    assert len(data.dialogues) == 1
    assert [o.kind for o in data.warnings] == ["file passed over", "file passed over", "empty file"]


def test_two_files_of_one_length(tmp_path: Path) -> None:
    put(tmp_path / "1_turn.json", [ONE])
    put(tmp_path / "1_turn.jsonl", lines(ONE))
    assert kinds(open_dataset(str(tmp_path))) == {"duplicate record"}


@pytest.mark.parametrize("empty", [True, False])
def test_pictures_beside_or_above_the_turn_files(empty: bool, tmp_path: Path) -> None:
    put(tmp_path / "Data" / "1_turn.json", [record(image_path="images/a.png")])
    put(tmp_path / "images" / "a.png", picture("PNG"))
    if empty:
        (tmp_path / "Data" / "images").mkdir()
    assert open_dataset(str(tmp_path)).image_path("images/a.png").is_file()


def test_a_name_that_is_written_otherwise_on_the_disk(tmp_path: Path) -> None:
    for name in ("cafe\u0301.png", "th\u00e9.png"):
        put(tmp_path / name, picture("PNG"))
    data = open_dataset(str(put(tmp_path / "d.jsonl", lines(ONE))))
    assert data.image_path("caf\u00e9.png").is_file()
    assert data.image_path("the\u0301.png").is_file()


def test_a_full_path_into_the_folder(tmp_path: Path) -> None:
    put(tmp_path / "set" / "a.png", picture("PNG"))
    put(tmp_path / "out.png", picture("PNG"))
    data = open_dataset(str(put(tmp_path / "set" / "d.jsonl", lines(ONE))))
    assert data.image_path(str(tmp_path / "set" / "a.png")).is_file()
    for outside in (tmp_path / "out.png", tmp_path / "set" / ".." / "out.png"):
        with pytest.raises(InputError, match=r"missing|points outside"):
            data.image_path(str(outside))


@pytest.mark.parametrize(
    ("item", "name", "licence"),
    [("mm_satire_1", "SafeMT", "CC-BY-NC-4.0"), ("tea_1", "teas", None)],
)
def test_licence_and_name_are_safemts_only_for_safemt(
    item: str, name: str, licence: str | None, tmp_path: Path
) -> None:
    put(tmp_path / "teas" / "Data" / "1_turn.json", [record(id=item)])
    for place in (tmp_path / "teas", tmp_path / "teas" / "Data"):
        data = open_dataset(str(place))
        assert (data.name, data.licence) == (name, licence)
