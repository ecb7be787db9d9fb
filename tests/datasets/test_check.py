"""`data check`: everything that has to be repaired is listed with what to do, and the exit status says so."""

import io
import json
import shlex
import tarfile
import unicodedata
import zipfile
from pathlib import Path
from typing import Any

import pytest
from PIL import Image as Pillow
from rich.console import Console
from support.dialogues import in_base64, lines, opened, picture, put, record, reply, user

from safemt_client.__main__ import main
from safemt_client.datasets import gathering, open_dataset
from safemt_client.datasets.check import Report, check
from safemt_client.datasets.check_table import show
from safemt_client.providers.errors import InputError

GOOD, BAD = record(id="good"), record(id="bad", dialogue=[])


def checked(folder: Path, *records: Any, capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    path = put(folder / "d.jsonl", lines(*records))
    status = main(["data", "check", str(path)])
    out = capsys.readouterr()
    return status, out.out, out.err


@pytest.mark.parametrize(
    ("records", "status"),
    [
        ([GOOD], 0),
        ([record(image="a.jpg")], 0),
        ([GOOD, BAD], 1),
        ([GOOD, record(image="gone.jpg")], 1),
        ([GOOD, record(image="broken.jpg")], 1),
        ([record(image="gone.jpg")], 2),
        ([BAD], 2),
        ([BAD, record(id="worse", dialogue=None)], 2),
        ([record(image="gone.jpg"), BAD], 2),
    ],
)
def test_the_exit_status(
    records: list[Any], status: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    put(tmp_path / "a.jpg", picture())
    put(tmp_path / "broken.jpg", "no picture")
    assert checked(tmp_path, *records, capsys=capsys)[0] == status


def test_every_bad_record_is_listed(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bad = [record(id=f"bad{n}", dialogue=[]) for n in range(60)]
    status, out, err = checked(here, GOOD, *bad, capsys=capsys)
    assert (status, err) == (1, "")
    assert "line 2 ('bad0'): field dialogue" in " ".join(out.split())
    assert "refused records  60" in out.replace("refused records      ", "refused records  ")
    assert "and 10 more (--json lists 60)" in out
    assert main(["data", "check", "--json", "d.jsonl"]) == 1
    assert len(json.loads(capsys.readouterr().out)["refused"]) == 60


LONG = " and ".join(["tea"] * 20)


def shown(found: Report, **how: Any) -> list[str]:
    out = io.StringIO()
    show(found, Console(file=out, **how))
    return out.getvalue().splitlines()


def test_a_long_line_is_whole_in_a_file_and_goes_on_below_itself_on_a_terminal(tmp_path: Path) -> None:
    found = check(opened(tmp_path, record(image=f"{LONG}.jpg")))
    (line,) = found.missing_images
    assert f"  {line}" in shown(found, width=60)
    screen = shown(found, width=60, force_terminal=True)
    begin = next(number for number, one in enumerate(screen) if one.startswith("  image missing: tea"))
    assert max(map(len, screen[begin:])) <= 60
    assert all(one.startswith("    ") for one in screen[begin + 1 :])
    assert " ".join(one.strip() for one in screen[begin:]) == line


def test_counts_are_never_torn_from_their_names(tmp_path: Path) -> None:
    records = [record(id=f"{n}", scenario=f"A scenario with a long name {n:02}") for n in range(60)]
    lines_ = shown(check(opened(tmp_path, *records)), width=80)
    begin = next(number for number, one in enumerate(lines_) if "by scenario" in one)
    said = [one.replace("by scenario", "").strip() for one in lines_[begin : begin + 51]]
    assert said[:50] == [f"A scenario with a long name {n:02}: 1" for n in range(50)]
    assert said[50] == "and 10 more (--json lists all)"


def test_oddities_are_listed_by_kind_up_to_a_number(tmp_path: Path) -> None:
    records = [record(user(f" {n}"), id=f"a{n}") for n in range(12)]
    lines_ = shown(check(opened(tmp_path, *records, record(user("<image> a"), id="b"))), width=60)
    listed = lines_[lines_.index("oddities:") + 1 :]
    assert [one.split(":")[0].strip() for one in listed] == [
        *["image placeholder", *["white space"] * 10, "and more (--json lists all)"]
    ]
    assert listed[0].endswith("line 13 ('b'): dialogue[0]: contains a literal <image>")
    assert listed[-1] == "  and more (--json lists all): white space: 2"


def test_the_plan_names_each_kind_of_oddity_and_the_command_that_lists_them(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    records = [record(user(" a")), record(user("b "), id="b"), record(user("<image> c"), id="c")]
    put(here / "my data" / "d.jsonl", lines(*records))
    put(here / "my data" / "other.txt", "not data")
    put(here / "my data" / "other.jsonl", "not data")
    assert main(["--provider", "demo", "--data", "my data/d.jsonl", "--dry-run"]) == 0
    said = capsys.readouterr().out.splitlines()
    (begin,) = [number for number, line in enumerate(said) if "oddities in the data" in line]
    assert said[begin].startswith("  3 oddities in the data; see: python -m safemt_client data check ")
    examples = [line.split(", such as ") for line in said[begin + 1 :]]
    assert [count for count, _ in examples] == ["    2 white space", "    1 image placeholder"]
    command = shlex.split(said[begin].split(" -m safemt_client ")[1])
    assert main(command) == 0
    listed = capsys.readouterr().out
    assert all(example in listed for _, example in examples)


def test_an_empty_file_is_named(tmp_path: Path) -> None:
    put(tmp_path / "Data" / "1_turn.json", "[]")
    put(tmp_path / "Data" / "2_turn.json", "")
    with pytest.raises(
        InputError, match=r"1_turn\.json: contains no dialogues, and neither does any of the other 1"
    ):
        open_dataset(str(tmp_path))


def test_white_space_around_a_name_is_seen(tmp_path: Path) -> None:
    (line,) = check(opened(tmp_path, record(image_path="tea.jpg "))).missing_images
    assert line.startswith("image missing: 'tea.jpg ' (a)")


def test_bad_records_are_described_up_to_a_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gathering, "MOST_REFUSED", 3)
    found = check(opened(tmp_path, GOOD, *[BAD] * 9, lenient=True))
    assert (len(found.refused), found.refused_count, found.usable) == (3, 9, 1)


def test_one_bad_record_alone_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, out, err = checked(tmp_path, BAD, capsys=capsys)
    assert (status, out) == (2, "")
    assert len(err.splitlines()) == 1


def test_what_is_there(tmp_path: Path) -> None:
    records = [
        record({"role": "system", "content": "Be kind."}, user("a"), pair="1", benign=True),
        record(user("a"), user("b"), id="b", pair="1"),
        record(user("a"), reply("b"), user("c"), id="c", image=in_base64(picture())),
    ]
    found = check(opened(tmp_path, *records))
    assert (found.benign, found.live_only, found.system, found.pairs) == (1, 1, 1, 1)
    assert (found.dialogues, found.items, found.usable) == (3, 3, 3)
    assert (found.half_pairs, found.labelled) == (1, 0), "the twins have other lengths"
    assert (found.pictures.count, found.pictures.embedded) == (1, 1)
    assert found.missing_ids == {}, "no item has two lengths"


def test_twins_and_labels_of_turns(tmp_path: Path) -> None:
    records = [
        record(user("a", label="safe"), pair="1", benign=True),
        record(user("b"), id="b", pair="1"),
        record(user("c"), id="c", pair="2"),
    ]
    found = check(opened(tmp_path, *records))
    assert (found.pairs, found.half_pairs, found.labelled) == (2, 1, 1)
    said = [" ".join(one.split()) for one in shown(found, width=80)]
    assert "pairs of twins 2, 1 of them with one twin only" in said
    assert "with labels of turns 1" in said


def test_items_that_lack_a_length(tmp_path: Path) -> None:
    long = record(user("a"), reply("b"), user("c"))
    assert check(opened(tmp_path, record(), long, record(id="b"))).missing_ids == {2: ["b"]}


def test_what_will_be_sent(tmp_path: Path) -> None:
    put(tmp_path / "a.jpg", picture())
    out = io.BytesIO()
    Pillow.new("RGB", (5000, 100), (9, 9, 9)).save(out, "PNG")
    put(tmp_path / "b.png", out.getvalue())
    found = check(opened(tmp_path, record(images=["a.jpg", "b.png"]))).pictures
    assert (found.count, found.as_it_is, found.largest) == (2, 1, 2048)
    assert found.types == {"image/jpeg": 1, "image/png": 1}
    assert found.bytes > 1000
    assert any("scaled" in note for note in found.notes)


def test_names_that_look_alike(tmp_path: Path) -> None:
    decomposed = unicodedata.normalize("NFD", "café")
    records = [record(id=item) for item in ("A", "a", "b", "café", decomposed)]
    records += [record(id=f"s{n}", scenario=name) for n, name in enumerate(["Satire", "satire ", "Other"])]
    found = check(opened(tmp_path, *records))
    assert found.alike == [["A", "a"], [decomposed, "café"], ["Satire", "satire "]]


ZIP, TAR = io.BytesIO(), io.BytesIO()
with zipfile.ZipFile(ZIP, "w") as _zip:
    _zip.writestr("images/small/tea.jpg", b"x")
    _zip.writestr("images/pot.jpg", b"x")
with tarfile.open(fileobj=TAR, mode="w") as _tar:
    _tar.addfile(tarfile.TarInfo("images/small/tea.jpg"))
    _tar.addfile(tarfile.TarInfo("images/pot.jpg"))


@pytest.mark.parametrize(
    ("named", "there", "hint"),
    [
        ("images/tea.jpg", "images/Tea.JPG", "there is images/Tea.JPG"),
        ("Images/tea.jpg", "images/tea.jpg", "there is images/tea.jpg"),
        ("my%20tea.jpg", "my tea.jpg", "there is my tea.jpg"),
        ("images/tea.jpg ", "images/tea.jpg", "there is images/tea.jpg"),
        ("images/tea.jpg\n", "images/tea.jpg", "there is images/tea.jpg"),
        ("images/tea.jpg?raw=true", "images/tea.jpg", "there is images/tea.jpg"),
        ("images/tea", "images/tea.jpg", "there is images/tea.jpg"),
        ("images/tea.png", "images/tea.jpg", "there is images/tea.jpg"),
        ("C:\\Users\\me\\images\\tea.jpg", "images/tea.jpg", "there is images/tea.jpg"),
        ("/home/me/images/tea.jpg", "images/tea.jpg", "there is images/tea.jpg"),
        ("file://tea.jpg", "tea.jpg", "there is tea.jpg"),
        ("tea.jpg", "deep/er/tea.jpg", "there is deep/er/tea.jpg"),
        ("images/tea.jpg", ("images.zip", ZIP.getvalue()), "there is images.zip/images/small/tea.jpg"),
        ("images/tea.jpg", ("images.tar", TAR.getvalue()), "there is images.tar/images/small/tea.jpg"),
        ("images/tea.jpg", ("images.tar.gz", b"x"), "it may be in images.tar.gz: unpack that there"),
        ("None", "tea.jpg", "a word for no picture: write null"),
    ],
)
def test_near_misses(named: str, there: Any, hint: str, tmp_path: Path) -> None:
    put(tmp_path / "other" / "pot.jpg", picture())
    put(
        tmp_path / (there if isinstance(there, str) else there[0]),
        picture() if isinstance(there, str) else there[1],
    )
    (line,) = check(opened(tmp_path, record(image_path=named))).missing_images
    assert line.startswith("image missing: ")
    assert line.endswith(f"(a): {hint}")


def test_a_full_path_to_a_picture_elsewhere(tmp_path: Path) -> None:
    other = put(tmp_path / "other" / "pot.jpg", picture())
    (line,) = check(opened(tmp_path / "set", record(image=str(other)))).missing_images
    assert line.endswith("it is outside the folder of the data: copy it there")


def test_the_nearest_of_several(tmp_path: Path) -> None:
    for folder in ("one", "two"):
        put(tmp_path / folder / "tea.jpg", picture())
    (line,) = check(opened(tmp_path, record(image="two/Tea.jpg"))).missing_images
    assert line.endswith("there is two/tea.jpg")


def test_nothing_like_it(tmp_path: Path) -> None:
    (line,) = check(opened(tmp_path, record(image="tea.jpg"))).missing_images
    assert line == "image missing: tea.jpg (a)"


def test_without_opening_images(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    put(here / "d.jsonl", lines(record(image="gone.jpg")))
    assert main(["data", "check", "--no-images", "d.jsonl"]) == 0
    assert "gone" not in capsys.readouterr().out
