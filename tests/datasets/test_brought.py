"""Files as people bring them, each odd in one way: what is read, what is noted, and what is refused with its fix."""

import gzip
import io
import json
import unicodedata
import zipfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.dialogues import in_base64, lines, picture, put, record, reply, user

from safemt_client.datasets import open_dataset
from safemt_client.datasets.check import check
from safemt_client.providers.errors import InputError

ONE, TWO = record(scenario="Satire"), record(id="b", scenario="Satire")
LONG = record(user("What is tea?"), reply("A drink."), user("How is it made?"))
ASKED = user("What is this?")
JPEG = picture()


def line(*records: Any) -> str:
    return lines(*records).decode()


def raw(text: str) -> str:
    return '{"id": "a", "dialogue": [{"role": "user", "content": "tea?"}]' + text + "}\n"


def outcome(path: Path) -> tuple[int, int, str]:
    """The exit status of `data check`, how many dialogues are read, and what is said of the others and the odd."""
    try:
        data = open_dataset(str(path), lenient=True)
    except InputError as error:
        return 2, 0, str(error)
    found = check(data)
    said = [*found.refused, *found.missing_images, *found.broken_images, *found.oddities]
    return found.status, found.dialogues, "; ".join([*said, *(["alike"] if found.alike else [])])


FILES: dict[str, tuple[str, Any, int, int, str]] = {
    # name of the case: the file's name, its content; the status, the number of dialogues, what is said
    "bom": ("d.jsonl", b"\xef\xbb\xbf" + lines(ONE), 0, 1, ""),
    "bom in the middle": ("d.jsonl", line(ONE) + "\ufeff" + line(TWO), 0, 2, ""),
    "crlf": ("d.jsonl", line(ONE, TWO).replace("\n", "\r\n"), 0, 2, ""),
    "cr alone": ("d.jsonl", line(ONE, TWO).replace("\n", "\r"), 0, 2, ""),
    "utf-16": ("d.jsonl", line(ONE).encode("utf-16"), 0, 1, ""),
    "utf-16 without a mark": ("d.jsonl", line(ONE, TWO).encode("utf-16-le"), 0, 2, ""),
    "latin-1": (
        "d.jsonl",
        line(record(question="café")).encode("latin-1"),
        2,
        0,
        "not UTF-8: save the file as UTF-8",
    ),
    "gbk": (
        "d.jsonl",
        line(record(question="茶怎么泡")).encode("gbk"),
        2,
        0,
        "not UTF-8: save the file as UTF-8",
    ),
    "other line ends in a text": ("d.jsonl", lines(record(question="a\u2028b\u0085c")), 0, 1, ""),
    "nan": ("d.jsonl", raw(', "score": NaN'), 0, 1, ""),
    "nan for a text": ("d.jsonl", raw(', "scenario": NaN'), 0, 1, ""),
    "nan for a picture": ("d.jsonl", raw(', "image_path": NaN'), 0, 1, ""),
    "comma at the end": ("d.jsonl", raw(","), 2, 0, "remove the comma before the bracket"),
    "comment": ("d.jsonl", "// tea\n" + line(ONE), 1, 1, "a comment, which JSON does not have: remove it"),
    "records without lines": ("d.jsonl", json.dumps(ONE) + json.dumps(TWO), 2, 0, "write one record a line"),
    "array in lines": ("d.jsonl", json.dumps([ONE, TWO], indent=1), 0, 2, ""),
    "array on one line": ("d.jsonl", json.dumps([ONE, TWO]), 0, 2, ""),
    "array": ("d.json", [ONE], 0, 1, ""),
    "lines in .json": ("d.json", line(ONE, TWO), 0, 2, ""),
    "gzip": ("d.jsonl.gz", gzip.compress(lines(ONE)), 0, 1, ""),
    ".ndjson": ("d.ndjson", lines(ONE), 0, 1, ""),
    ".JSONL": ("D.JSONL", lines(ONE), 0, 1, ""),
    ".jl": ("d.jl", lines(ONE), 0, 1, ""),
    "csv": ("d.csv", "id,scenario,question\na,Satire,How is tea made?\n", 0, 1, "question as dialogue"),
    "no parquet": ("d.parquet", b"PAR1", 2, 0, "not Parquet"),
    "zip": ("d.zip", b"PK\3\4", 2, 0, "the zip archive is damaged"),
    "empty": ("d.jsonl", "", 2, 0, "d.jsonl: contains no dialogues"),
    "blank": ("d.jsonl", "\n\n  \n", 2, 0, "d.jsonl: contains no dialogues"),
    "a key twice": (
        "d.jsonl",
        '{"id": "a", "id": "b", "dialogue": []}\n',
        2,
        0,
        "'id' occurs twice in it: remove one",
    ),
}

RECORDS: dict[str, tuple[list[Any], int, int, str]] = {
    "id a number": ([record(id=7), record(id=8)], 0, 2, ""),
    "id as number and text": ([record(id=7), record(id="7")], 0, 1, "duplicate record"),
    "id a fraction": ([record(id=7.0)], 0, 1, "id"),
    "id missing": ([{"dialogue": [ASKED]}], 2, 0, "field id: must be a string: add one"),
    "id null": ([record(id=None)], 2, 0, "field id: must be a string: add one"),
    "id with a space": ([record(id=" a"), ONE], 0, 2, "white space"),
    "ids that differ in case": ([record(id="A"), ONE], 0, 2, "alike"),
    "ids of two forms": ([record(id="caf\u00e9"), record(id="cafe\u0301")], 0, 2, "id in two forms"),
    "id of two lines": ([record(id="a\n1")], 0, 1, ""),
    "id like a path": ([record(id="../../x")], 0, 1, ""),
    "id of 5,000 characters": ([record(id="x" * 5000)], 0, 1, ""),
    "the same twice": ([ONE, ONE], 0, 1, "duplicate record"),
    "an id for two": ([ONE, record(question="Other?")], 1, 1, "occurs twice with 1 turns: rename one"),
    "two lengths": ([ONE, LONG], 0, 2, ""),
    "assistant first": (
        [record(reply("Hello!"), ASKED)],
        2,
        0,
        "user first: remove it, or let the system message",
    ),
    "system first": ([record({"role": "system", "content": "Be kind."}, ASKED)], 0, 1, ""),
    "two users": ([record(ASKED, ASKED)], 0, 1, ""),
    "reply last": ([record(ASKED, reply("A pot."))], 2, 0, "must be the user's: remove the last reply"),
    "human": ([record({"role": "human", "content": "tea?"})], 0, 1, ""),
    "User": ([record({"role": "User", "content": "tea?"})], 0, 1, ""),
    "model": ([record(ASKED, {"role": "model", "content": "b"}, ASKED)], 0, 1, ""),
    "tool": (
        [record(ASKED, reply("b"), {"role": "tool", "content": "x"}, ASKED)],
        2,
        0,
        "must be user or assistant",
    ),
    "no messages": ([record(dialogue=[])], 2, 0, "field dialogue: must be a list of messages"),
    "null for messages": ([record(dialogue=None)], 2, 0, "field dialogue: must be a list of messages"),
    "python text": ([record(dialogue=str([user("What's tea?")]))], 0, 1, ""),
    "numpy text": (
        [record(dialogue="array([{'role': 'user'}], dtype=object)")],
        2,
        0,
        "write it by json.dumps",
    ),
    "numpy lines": (
        [record(dialogue="[{'role': 'user'}\n {'role': 'user'}]")],
        2,
        0,
        "write it by json.dumps",
    ),
    "texts": ([record(dialogue=["What is tea?"])], 2, 0, "is a string: write role and content"),
    "content null": ([record(user(None))], 2, 0, "dialogue[0]: field content: must be a string"),  # type: ignore[arg-type]
    "content a number": ([record(user(5))], 2, 0, "dialogue[0]: field content: must be a string"),  # type: ignore[arg-type]
    "content empty": ([record(user(""))], 0, 1, "empty message"),
    "1,000 turns": ([record(*[m for _ in range(999) for m in (ASKED, reply("ok"))], ASKED)], 0, 1, ""),
    "a new scenario": ([record(scenario="Tea Making")], 0, 1, ""),
    "scenarios alike": ([ONE, record(id="b", scenario="satire")], 0, 2, "alike"),
    "scenario a number": ([record(scenario=3)], 2, 0, "field scenario: must be a string"),
    "scenarios": ([record(scenario=["a", "b"])], 2, 0, "field scenario: must be a string"),
    "benign 1": ([record(benign=1)], 0, 1, ""),
    "benign as text": ([record(benign="true")], 0, 1, ""),
    "benign null": ([record(benign=None)], 0, 1, ""),
    "a field nearly named so": ([record(Scenario="Satire")], 0, 1, "field name"),
    "nul": ([record(user("a\0b"))], 0, 1, ""),
    "signs that act on a screen": ([record(user("a\u202eb\x1b[2J"), id="a\x1b[31m")], 0, 1, ""),
    "one bad of three": ([ONE, record(ASKED, reply("y"), id="c"), TWO], 1, 2, "line 2 ('c')"),
    "three bad": (
        [record(dialogue=[]), record(id="b", dialogue=[]), record(id=3.5)],
        2,
        0,
        "line 3: field id",
    ),
}

PICTURES: dict[str, tuple[Any, int, str]] = {
    # with ok.jpg and images/tea.jpg there: the status, and what is said
    "ShareGPT": (
        {"id": "a", "conversations": [{"from": "human", "value": "<image>\nTea?"}], "image": "ok.jpg"},
        0,
        "",
    ),
    "LLaVA": (record(user("<image>\nWhat is this?"), image="ok.jpg"), 0, ""),
    "on the message": (record(user("What is this?", image_path="ok.jpg")), 0, ""),
    "a mark without a picture": (record(user("<image>\nWhat is this?")), 0, "image placeholder"),
    "marks": (
        record(user("<image> <img> <|image|> <image_1> What?"), image_path="ok.jpg"),
        0,
        "image placeholder",
    ),
    "a data URL": (record(ASKED, image_path="data:image/jpeg;base64," + in_base64(JPEG)), 0, ""),
    "base64": (record(ASKED, image_path=in_base64(JPEG)), 0, ""),
    "an address": (record(ASKED, image_path="https://example.org/tea.jpg"), 2, "never fetched: download it"),
    "bytes and a path": (record(ASKED, image_path={"bytes": in_base64(JPEG), "path": "ok.jpg"}), 0, ""),
    "a list": (record(ASKED, image_path=["ok.jpg", "images/tea.jpg"]), 0, ""),
    "on a reply": (
        record(ASKED, {**reply("b"), "images": ["ok.jpg"]}, ASKED),
        2,
        "only user messages can have images",
    ),
    "the word None": (record(ASKED, image_path="None"), 2, "a word for no picture: write null"),
    "an empty text": (record(ASKED, image_path=""), 0, ""),
    "null on the message": (record(user("What?", images=None)), 0, ""),
    "an empty text on the message": (record(user("What?", images="")), 0, ""),
    "an empty text in a list": (record(user("What?", images=[""])), 0, ""),
    "twice": (record(user("What?", images=["ok.jpg", "ok.jpg"])), 0, ""),
    "a point": (record(ASKED, image_path="."), 2, "image missing: . (a)"),
    "a file URL": (record(ASKED, image_path="file://ok.jpg"), 2, "there is ok.jpg"),
    "another ending": (record(ASKED, image_path="ok.JPG"), 2, "there is ok.jpg"),
    "another folder": (record(ASKED, image_path="Images/tea.jpg"), 2, "there is images/tea.jpg"),
    "%20": (record(ASKED, image_path="images/my%20tea.jpg"), 2, "there is images/my tea.jpg"),
    "a space": (record(ASKED, image_path="images/my tea.jpg"), 0, ""),
    "backslash": (record(ASKED, image_path="images\\tea.jpg"), 0, ""),
    "Windows": (record(ASKED, image_path="C:\\Users\\me\\images\\tea.jpg"), 2, "there is images/tea.jpg"),
    "slash first": (record(ASKED, image_path="/images/tea.jpg"), 0, ""),
    "point first": (record(ASKED, image_path="./images/tea.jpg"), 0, ""),
    "up and down": (record(ASKED, image_path="images/../images/tea.jpg"), 0, ""),
    "space last": (
        record(ASKED, image_path="images/tea.jpg "),
        2,
        "'images/tea.jpg ' (a): there is images/tea.jpg",
    ),
    "line last": (record(ASKED, image_path="images/tea.jpg\n"), 2, "there is images/tea.jpg"),
    "no ending": (record(ASKED, image_path="images/tea"), 2, "there is images/tea.jpg"),
    "a query": (record(ASKED, image_path="images/tea.jpg?raw=true"), 2, "there is images/tea.jpg"),
    "a number sign": (record(ASKED, image_path="images/tea #1.jpg"), 0, ""),
    "composed for decomposed": (record(ASKED, image_path="images/caf\u00e9.jpg"), 0, ""),
    "in a zip": (record(ASKED, image_path="photos/pot.jpg"), 0, ""),
    "a link that leads out": (record(ASKED, image_path="out/pot.jpg"), 2, "add --follow-links"),
    "a link that stays": (record(ASKED, image_path="in/tea.jpg"), 0, ""),
    "no dialogue": ({"id": "a", "question": "Tea?", "image_path": "x.jpg"}, 2, "question as dialogue"),
    "a near field": (record(ASKED, imagepath="ok.jpg"), 0, ""),
}

FOLDERS: dict[str, tuple[dict[str, Any], int, int, str]] = {
    "bom": ({"Data/1_turn.json": b"\xef\xbb\xbf" + json.dumps([ONE]).encode()}, 0, 1, ""),
    "utf-16": ({"Data/1_turn.json": json.dumps([ONE]).encode("utf-16")}, 0, 1, ""),
    "comma last": (
        {"Data/1_turn.json": f"[{json.dumps(ONE)},]"},
        1,
        1,
        "a comma after the last record: remove it",
    ),
    "by ids": ({"Data/1_turn.json": {"a": ONE}}, 0, 1, ""),
    "in data": ({"Data/1_turn.json": {"data": [ONE]}}, 0, 1, ""),
    "an item lacks a length": ({"Data/1_turn.json": [ONE, TWO], "Data/2_turn.json": [LONG]}, 0, 3, ""),
    "another length": ({"Data/4_turn.json": [LONG]}, 0, 1, "length"),
    "twice": ({"Data/1_turn.json": [ONE], "Data/1_turn.jsonl": line(ONE)}, 0, 1, "duplicate record"),
    "two that differ": (
        {"Data/1_turn.json": [ONE], "Data/1_turn.jsonl": line(record())},
        1,
        1,
        "occurs twice",
    ),
    "gzip": ({"Data/1_turn.json.gz": gzip.compress(json.dumps([ONE]).encode())}, 0, 1, ""),
    "01": ({"Data/01_turn.json": [ONE]}, 0, 1, ""),
    "turns": ({"Data/2_turns.json": [LONG]}, 0, 1, ""),
    "capitals": ({"Data/1_Turn.JSON": [ONE]}, 0, 1, ""),
    "of a Mac": ({"Data/1_turn.json": [ONE], "Data/._2_turn.json": b"\0\5\x16\7"}, 0, 1, ""),
    "copies": ({"Data/1_turn.json": [ONE], "Data/1_turn (1).json": [ONE]}, 0, 1, "file passed over"),
    "nothing": ({"Data/1_turn.json": []}, 2, 0, "1_turn.json: contains no dialogues"),
    "one empty": ({"Data/1_turn.json": [ONE], "Data/2_turn.json": []}, 0, 1, "empty file"),
    "no bytes": ({"Data/1_turn.json": b""}, 2, 0, "1_turn.json: contains no dialogues"),
    "Git LFS": (
        {"Data/1_turn.json": "version https://git-lfs.github.com/spec/v1\n"},
        2,
        0,
        "run git lfs pull",
    ),
    "a web page": (
        {"Data/1_turn.json": "<!doctype html><html></html>"},
        2,
        0,
        "a web page, not the file itself",
    ),
    "cut off": ({"Data/1_turn.json": json.dumps([ONE, TWO])[:-30]}, 1, 1, "record 1: not JSON"),
    "two levels": ({"SafeMT/Data/1_turn.json": [ONE]}, 0, 1, ""),
    "files": ({"a.jsonl": line(ONE), "b.jsonl": line(TWO)}, 0, 2, ""),
}


def is_right(path: Path, status: int, count: int | None, said: str) -> None:
    found = outcome(path)
    assert found[0] == status, found
    assert count is None or found[1] == count, found
    assert (said in found[2] and len(found[2].splitlines()) == 1) if said else found[2] == "", found


@pytest.mark.parametrize("name", FILES)
def test_files(name: str, tmp_path: Path) -> None:
    file, content, status, count, said = FILES[name]
    is_right(put(tmp_path / file, content), status, count, said)


@pytest.mark.parametrize("name", RECORDS)
def test_records(name: str, tmp_path: Path) -> None:
    records, status, count, said = RECORDS[name]
    is_right(put(tmp_path / "d.jsonl", lines(*records)), status, count, said)


@pytest.mark.parametrize("name", FOLDERS)
def test_folders(name: str, tmp_path: Path) -> None:
    files, status, count, said = FOLDERS[name]
    for file, content in files.items():
        put(tmp_path / file, content)
    is_right(tmp_path, status, count, said)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with pictures under many names, in an archive, and behind links."""
    here = tmp_path / "set"
    decomposed = unicodedata.normalize("NFD", "café.jpg")
    for file in ("ok.jpg", *(f"images/{one}" for one in ("tea.jpg", "my tea.jpg", "tea #1.jpg", decomposed))):
        put(here / file, JPEG)
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as packed:
        packed.writestr("photos/pot.jpg", JPEG)
    put(here / "photos.zip", archive.getvalue())
    put(tmp_path / "elsewhere" / "pot.jpg", JPEG)
    (here / "out").symlink_to(tmp_path / "elsewhere")
    (here / "in").symlink_to("images")
    return here


@pytest.mark.parametrize("name", PICTURES)
def test_pictures(name: str, folder: Path) -> None:
    given, status, said = PICTURES[name]
    is_right(put(folder / "d.jsonl", lines(given)), status, None, said)


@pytest.mark.parametrize(
    "row",
    [
        {"id": "a", "image": {"bytes": JPEG, "path": "ok.jpg"}, "dialogue": [ASKED]},
        {"id": "a", "image_rel_path": None, "dialogue": [{**ASKED, "images": None}]},
    ],
)
def test_rows_of_a_table(row: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "Data").mkdir()
    pq.write_table(pa.Table.from_pylist([row]), tmp_path / "Data" / "1_turn.parquet")
    is_right(tmp_path, 0, 1, "")
    (dialogue,) = open_dataset(str(tmp_path)).dialogues
    assert len(dialogue.messages[0].images) == ("image" in row)
