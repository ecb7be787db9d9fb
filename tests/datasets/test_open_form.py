"""What is written in the open form is read back the same."""

import json
import tempfile
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.dialogues import in_base64, lines, opened, picture, put, record, reply, user
from support.program import at_once

from safemt_client.datasets import open_dataset
from safemt_client.datasets.model import Dataset, Dialogue, ScriptedMessage
from safemt_client.datasets.open_form import convert
from safemt_client.providers.errors import InputError

TEXT = st.text(st.characters(exclude_categories=()), max_size=12) | st.sampled_from(
    ["<image>", "what is <image_1>?", " a \r\n b ", "[image]", "\ufeffx", "\u2028"]
)
NAME = st.text(min_size=1, max_size=8).filter(lambda name: name == name.strip())
PICTURES = st.lists(
    st.sampled_from(["one.png", "deep/er/two.jpg", "sp ace.png", "gone.png"]), max_size=2, unique=True
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**9), 10**9) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=4), inner, max_size=2),
    max_leaves=4,
)


@st.composite
def dialogues(draw: st.DrawFn) -> Dialogue:
    messages = [ScriptedMessage("system", draw(TEXT))] if draw(st.booleans()) else []
    for turn in range(draw(st.integers(1, 3))):
        if turn and draw(st.booleans()):
            messages.append(ScriptedMessage("assistant", draw(TEXT)))
        messages.append(ScriptedMessage("user", draw(TEXT), tuple(draw(PICTURES))))
    extra = draw(
        st.dictionaries(st.sampled_from(["pair", "note", "turn_labels", "reference_reply"]), JSON, max_size=3)
    )
    return Dialogue(
        f"x{draw(NAME)}",
        tuple(messages),
        *(draw(st.none() | NAME) for _ in range(3)),
        draw(st.none() | TEXT.filter(bool)),
        draw(st.none() | st.booleans()),
        extra,
    )


@given(st.lists(dialogues(), min_size=1, max_size=4, unique_by=lambda one: (one.item_id, one.length)))
@settings(max_examples=60, deadline=None)
def test_a_data_set_comes_back_the_same(several: list[Dialogue]) -> None:
    with tempfile.TemporaryDirectory() as name:
        source, out = Path(name, "source"), Path(name, "out")
        for file in ("one.png", "deep/er/two.jpg", "sp ace.png"):
            put(source / file, file.encode())
        data = Dataset("Some data", source, tuple(several), licence="CC-BY-4.0")
        written = convert(data, out)
        read = open_dataset(str(out))
        assert read.dialogues == data.dialogues
        assert (read.digest, read.name, read.licence) == (data.digest, data.name, data.licence)
        for path in {path for one in several for message in one.messages for path in message.images}:
            if path == "gone.png":
                assert path in written.missing
            else:
                assert read.picture_digest(path) == data.picture_digest(path)


def test_pictures_inside_data_and_beside_it(tmp_path: Path) -> None:
    put(tmp_path / "a" / "tea.png", picture("PNG"))
    inside = user("And this?", images=["data:image/jpeg;base64," + in_base64(picture())])
    source = opened(tmp_path / "a", record(user("What?", images=["tea.png"]), reply("Tea."), inside))
    convert(source, tmp_path / "b")
    (dialogue,) = open_dataset(str(tmp_path / "b")).dialogues
    first, _, last = dialogue.messages
    assert first.images == ("tea.png",)
    assert (tmp_path / "b" / "tea.png").read_bytes() == picture("PNG")
    assert (tmp_path / "b" / last.images[0]).read_bytes() == picture()
    assert [message.text for message in dialogue.messages] == ["What?", "Tea.", "And this?"]


def test_a_picture_that_would_be_read_as_data_gets_another_name(tmp_path: Path) -> None:
    put(tmp_path / "a" / "x.json", picture("PNG"))
    source = opened(tmp_path / "a", record(user("What?", images=["x.json"])))
    convert(Dataset("d", tmp_path / "a", source.dialogues), tmp_path / "b")
    assert len(open_dataset(str(tmp_path / "b")).dialogues) == 1


def test_a_file_with_its_pictures_beside_it(tmp_path: Path) -> None:
    put(tmp_path / "a" / "tea.png", picture("PNG"))
    source = opened(tmp_path / "a", record(user("What?", images=["tea.png"])))
    convert(source, put(tmp_path / "b" / "x", "").parent / "mine.jsonl")
    assert open_dataset(str(tmp_path / "b" / "mine.jsonl")).dialogues == source.dialogues


def test_another_picture_of_the_same_name_is_not_overwritten(tmp_path: Path) -> None:
    put(tmp_path / "a" / "tea.png", picture("PNG"))
    put(tmp_path / "b" / "tea.png", picture("PNG", colour=10))
    source = opened(tmp_path / "a", record(user("What?", images=["tea.png"])))
    convert(source, tmp_path / "b" / "mine.jsonl")
    (name,) = open_dataset(str(tmp_path / "b" / "mine.jsonl")).dialogues[0].messages[0].images
    assert name != "tea.png"
    assert (tmp_path / "b" / name).read_bytes() == picture("PNG")
    assert (tmp_path / "b" / "tea.png").read_bytes() == picture("PNG", colour=10)


def test_what_json_cannot_hold_is_kept_as_the_store_keeps_it(tmp_path: Path) -> None:
    dialogue = Dialogue(
        "a", (ScriptedMessage("user", "Hi"),), extra={"day": date(2024, 5, 1), "n": float("nan")}
    )
    convert(Dataset("d", tmp_path, (dialogue,)), tmp_path / "b")
    assert open_dataset(str(tmp_path / "b")).dialogues[0].extra == {"day": "2024-05-01", "n": None}


@pytest.mark.parametrize("extra", [{"images": ["x.png"]}, {"messages": []}, {"other": "x.png"}])
def test_what_would_be_read_otherwise_is_refused(extra: dict[str, Any], tmp_path: Path) -> None:
    dialogue = Dialogue("a", (ScriptedMessage("user", "Hi"),), extra=extra)
    with pytest.raises(InputError, match=r"'a'.*the open form cannot hold"):
        convert(Dataset("d", tmp_path, (dialogue,)), tmp_path / "b")
    assert list((tmp_path / "b").glob("*.jsonl")) == []


def test_the_command_says_the_licence_and_overwrites_nothing(tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = at_once("data", "convert", "--data", "sample", "--out", str(out))
    assert done.returncode == 0
    assert "75 dialogues" in done.stdout
    assert "the licence of sample is Apache-2.0" in done.stdout
    assert open_dataset(str(out)).digest == open_dataset("sample").digest
    for there in (out, out / "dialogues.jsonl"):
        again = at_once("data", "convert", "--data", "sample", "--out", str(there))
        assert again.returncode == 2
        assert again.stderr == f"safemt: {there}: exists: choose another --out, or remove it\n"


def test_a_map_is_followed(tmp_path: Path) -> None:
    put(tmp_path / "q.csv", "n,ask\n1,How is tea made?\n")
    put(
        tmp_path / "m.toml",
        'name = "q"\n[source]\nfiles = "q.csv"\n[fields]\nid = "q{n}"\n[turns]\none = "{ask}"\n',
    )
    words = ("--data", str(tmp_path / "q.csv"), "--data-map", str(tmp_path / "m.toml"))
    done = at_once("data", "convert", *words, "--out", str(tmp_path / "d.jsonl"))
    assert done.returncode == 0, done.stderr
    (line,) = (tmp_path / "d.jsonl").read_text().splitlines()
    assert json.loads(line)["id"] == "q1"
    assert "the licence of q is not stated" in done.stdout


def test_the_licence_of_others_is_not_taken_from_their_files(tmp_path: Path) -> None:
    put(tmp_path / "d" / "dataset_info.json", {"license": "mit", "dataset_name": "other"})
    put(tmp_path / "d" / "d.jsonl", lines(record()))
    assert open_dataset(str(tmp_path / "d")).licence is None
