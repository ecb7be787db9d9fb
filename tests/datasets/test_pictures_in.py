"""Every way of naming a picture: each is sent, or the line that refuses it names the field."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.dialogues import in_base64, kinds, opened, picture, put, record, reply, said, user

from safemt_client.datasets import open_dataset
from safemt_client.providers.errors import InputError

A, B = picture(), picture("PNG", 90)
URL = f"data:image/jpeg;base64,{in_base64(A)}"


def sent(data: Any, number: int = 0) -> list[list[bytes]]:
    """The bytes of the pictures of each user message."""
    return [
        [data.image_path(name).read_bytes() for name in message.images]
        for message in data.dialogues[number].messages
        if message.role == "user"
    ]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    put(tmp_path / "a.jpg", A)
    put(tmp_path / "img" / "b.png", B)
    return tmp_path


WAYS: list[tuple[str, Any]] = [
    ("a path", "a.jpg"),
    ("a path from above", "/a.jpg"),
    ("a list", ["a.jpg"]),
    ("a list as text", '["a.jpg"]'),
    ("a data URL", URL),
    ("base64", in_base64(A)),
    ("base64 in lines", in_base64(A)[:76] + "\n" + in_base64(A)[76:]),
    ("a struct with bytes", {"bytes": in_base64(A), "path": "elsewhere.jpg"}),
    ("a struct with a path", {"bytes": None, "path": "a.jpg"}),
    ("a struct with an address", {"url": URL}),
    ("structs", [{"path": "a.jpg"}]),
]
FIELDS = [
    "image",
    "images",
    "image_path",
    "image_rel_path",
    "image_paths",
    "img",
    "imagepath",
    "image_1",
    "picture",
]


@pytest.mark.parametrize("value", [value for _, value in WAYS], ids=[name for name, _ in WAYS])
@pytest.mark.parametrize("field", ["image", "images", "image_path"])
def test_every_value_on_record_and_message(field: str, value: Any, folder: Path) -> None:
    assert sent(opened(folder, record(**{field: value}))) == [[A]]
    assert sent(opened(folder, record(user("a"), reply("b"), user("c", **{field: value})))) == [[], [A]]


@pytest.mark.parametrize("field", FIELDS)
def test_every_field(field: str, folder: Path) -> None:
    data = opened(folder, record(**{field: "a.jpg"}))
    assert sent(data) == [[A]]
    assert not data.warnings
    assert field not in data.dialogues[0].extra
    assert sent(opened(folder, record(user("a", **{field: "a.jpg"})))) == [[A]]


@pytest.mark.parametrize(
    "part",
    [
        {"type": "image_url", "image_url": {"url": URL}},
        {"type": "image_url", "image_url": "a.jpg"},
        {"type": "input_image", "image_url": URL},
        {"type": "image", "image": "a.jpg", "text": None},
        {"type": "image", "source": {"type": "base64", "media_type": "image/jpeg", "data": in_base64(A)}},
    ],
)
def test_parts(part: dict[str, Any], folder: Path) -> None:
    data = opened(folder, record(user([part, {"type": "text", "text": "What?"}])))
    assert sent(data) == [[A]]
    assert said(data)[0][1] == "What?"
    assert not data.warnings
    after = opened(folder, record(user([{"type": "text", "text": "What?"}, part])))
    assert sent(after) == [[A]]
    assert kinds(after) == {"picture after text"}


def test_parts_without_a_picture_of_their_own_place_those_of_the_record(folder: Path) -> None:
    parts = [{"type": "image", "text": None}, {"type": "text", "text": "What?"}]
    data = opened(folder, {"id": "a", "messages": [user("Hi"), reply("b"), user(parts)], "images": ["a.jpg"]})
    assert sent(data) == [[], [A]]
    assert said(data)[2][1] == "What?"


@pytest.mark.parametrize("nothing", [None, "", [], [""], [None], {"bytes": None, "path": None}, float("nan")])
def test_no_picture(nothing: Any, folder: Path) -> None:
    assert sent(opened(folder, record(user("a", images=nothing), image=nothing))) == [[]]


MARKS = [
    "<image>",
    "<img>",
    "<|image|>",
    "<image_1>",
    "<ImageHere>",
    "<image-placeholder>",
    "<|image_1|>",
    "[image]",
]


@pytest.mark.parametrize("mark", MARKS)
def test_a_mark_without_a_picture_is_an_oddity(mark: str, folder: Path) -> None:
    data = opened(folder, record(user(f"{mark}\nWhat is this?")))
    assert kinds(data) == {"image placeholder"}
    assert said(data)[0][1] == f"{mark}\nWhat is this?"


@pytest.mark.parametrize("mark", MARKS)
def test_a_mark_places_the_picture(mark: str, folder: Path) -> None:
    data = opened(folder, record(user("Hi"), reply("b"), user(f"{mark}\nWhat is this?"), image="a.jpg"))
    assert sent(data) == [[], [A]]
    assert said(data)[2][1] == "What is this?"
    assert not data.warnings


@pytest.mark.parametrize(
    ("texts", "placed"),
    [
        (["Hi", "Now?"], [[A, B], []]),
        (["<image> Hi", "<image> Now?"], [[A], [B]]),
        (["<image_2> Hi", "<image_1> Now?"], [[B], [A]]),
        (["Hi", "Is <image> it?"], [[], [A, B]]),
        (["<image_1> Hi", "<image_1><image_2> Now?"], [[A], [A, B]]),
        (["<image_0> Hi", "<image_1> Now?"], [[A], [B]]),
    ],
)
def test_several_pictures_by_their_marks(texts: list[str], placed: list[Any], folder: Path) -> None:
    data = opened(folder, record(user(texts[0]), reply("b"), user(texts[1]), images=["a.jpg", "img/b.png"]))
    assert sent(data) == placed


def test_as_many_marks_as_equal_pictures(folder: Path) -> None:
    data = opened(folder, record(user("<image><image> Same?"), images=["a.jpg", "a.jpg"]))
    assert sent(data) == [[A, A]]


def test_more_marks_than_pictures_are_noted(folder: Path) -> None:
    data = opened(folder, record(user("<image> Hi"), reply("b"), user("<image> Now?"), image="a.jpg"))
    assert sent(data) == [[A], []]
    assert kinds(data) == {"image placeholder"}


def test_the_open_form_is_sent_as_it_was(folder: Path) -> None:
    """`image_path` goes to the first message, and its marks stay: requests of earlier versions had them."""
    data = opened(folder, record(user("<image> Hi"), reply("b"), user("[image] Now?"), image_path="a.jpg"))
    assert said(data) == [("u", "<image> Hi", ("a.jpg",)), ("a", "b", ()), ("u", "[image] Now?", ())]
    assert kinds(data) == {"image placeholder"}


def test_pictures_of_record_and_message_together(folder: Path) -> None:
    data = opened(folder, record(user("a"), reply("b"), user("c", images=["img/b.png"]), image_path="a.jpg"))
    assert sent(data) == [[A], [B]]
    named_twice = opened(folder, record(user("a", images=["a.jpg"]), image_path="a.jpg"))
    assert sent(named_twice) == [[A]]


@pytest.mark.parametrize(
    ("more", "pictures"),
    [
        ({"image_rel_path": "a.jpg"}, [A]),
        ({"image": "data/a.jpg"}, [A]),
        ({"image_rel_path": "elsewhere/a.jpg"}, [A]),
        ({"image": "img/a.jpg", "image_rel_path": "b/a.jpg"}, [A]),
        ({"image": "img/b.png"}, [A, B]),
        ({"images": ["a.jpg", "img/b.png"]}, [A, B]),
        ({"image_10": "img/b.png", "image_9": "a.jpg"}, [A, B]),
        ({"image": {"bytes": in_base64(B)}}, [A]),
    ],
)
def test_several_fields_of_one_record(more: dict[str, Any], pictures: list[bytes], folder: Path) -> None:
    assert sent(opened(folder, record(image_path="a.jpg", **more))) == [pictures]


def test_a_picture_in_the_record_stands_in_for_a_file_that_is_not_there(folder: Path) -> None:
    assert sent(opened(folder, record(image_path="gone.jpg", image={"bytes": in_base64(B)}))) == [[B]]


def test_an_address_is_named_and_never_fetched(folder: Path) -> None:
    data = opened(folder, record(image="https://example.org/tea.jpg"))
    with pytest.raises(InputError, match=r"https://example.org/tea.jpg.*never fetched: download it"):
        sent(data)
    both = opened(folder, record(image_path="a.jpg", image_url="https://example.org/tea.jpg"))
    assert sent(both) == [[A]]
    assert kinds(both) == {"picture not sent"}


@pytest.mark.parametrize(
    ("given", "said_of_it"),
    [
        (record(image=5), "field image: must be a string, the path of a picture"),
        (record(image={"height": 5}), "field image: an object without bytes, path or url"),
        (record(image="data:image/png;base64,%%%"), "field image: not base64"),
        (record(image="data:text/plain;base64,AAAA"), "only pictures can be sent"),
        (record(image="data:image/png,AAAA"), "a data URL that is not base64"),
        (record(user("a"), reply("b", images=["a.jpg"]), user("c")), "only user messages can have images"),
        (
            record(thumb="a.jpg"),
            "field 'thumb': holds a picture that would not be sent: call the field images",
        ),
        (record(meta={"files": ["x", "a.PNG"]}), "field 'meta': holds a picture"),
        (record(user("a", attachment=URL)), r"dialogue\[0\]: field 'attachment': holds a picture"),
    ],
)
def test_what_is_refused_names_the_field(given: dict[str, Any], said_of_it: str, folder: Path) -> None:
    with pytest.raises(InputError, match=rf"d.jsonl: line 1 \('a'\): .*{said_of_it}"):
        opened(folder, given)


def test_words_are_no_pictures(folder: Path) -> None:
    data = opened(folder, record(note="What do you see on the left of a.jpg", caption="a pot", image_id=7))
    assert sent(data) == [[]]
    assert not data.warnings


def test_another_field_beside_pictures_is_noted(folder: Path) -> None:
    data = opened(folder, record(image="img/b.png", thumb="a.jpg", original="raw/b.png"))
    assert [(o.kind, o.text) for o in data.warnings] == [("picture not sent", "field 'thumb'")]


def table(path: Path, *rows: dict[str, Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(list(rows)), path)
    return path


@pytest.mark.parametrize(
    "made",
    [
        lambda: record(image={"bytes": A, "path": None}),
        lambda: record(image=A),
        lambda: record(images=[{"bytes": A, "path": "x.jpg"}]),
        lambda: record(user("a", images=[A]), image=None),
        lambda: {"id": "a", "messages": [user("<image>What?")], "dialogue": None, "images": [{"bytes": A}]},
    ],
)
def test_pictures_in_a_table(made: Callable[[], dict[str, Any]], tmp_path: Path) -> None:
    data = open_dataset(str(table(tmp_path / "d.parquet", made())))
    assert sent(data) == [[A]]
    assert data.dialogues[0].extra == {}


def test_columns_of_nulls_and_of_other_bytes(tmp_path: Path) -> None:
    row = record(user("a", images=None), image_rel_path=None, audio=b"RIF", pair="p")
    data = open_dataset(str(table(tmp_path / "Data" / "1_turn.parquet", row).parents[1]))
    assert sent(data) == [[]]
    assert data.dialogues[0].extra == {"audio": "3 bytes", "pair": "p"}
    with pytest.raises(InputError, match="field 'scan': holds a picture"):
        open_dataset(str(table(tmp_path / "d.parquet", record(scan=A))))


def test_the_digest_covers_pictures_inside_the_file(folder: Path) -> None:
    digests = {opened(folder, record(image=in_base64(data))).digest for data in (A, B, A)}
    assert len(digests) == 2
