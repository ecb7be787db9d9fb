"""Archives are read in place, like folders: pictures, lists, whole data sets, and what is wrong with them."""

import io
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pytest
from support.dialogues import lines, opened, packed, picture, put, record, said, user

from safemt_client.__main__ import main
from safemt_client.datasets import archives, open_dataset
from safemt_client.datasets.check import check
from safemt_client.datasets.images import ImageError, Preparation, find, prepare
from safemt_client.datasets.model import Dataset
from safemt_client.providers.errors import InputError

TEA = "How is tea made?"
RED, BLUE = picture(), picture(colour=20)
MAP = 'name = "Cups"\nfields.id = "{id}"\nturns.one = "{q}"\n'
BOTH = pytest.mark.parametrize("kind", ["zip", "tar"])


def missing(folder: Path, name: str) -> list[str]:
    found = check(opened(folder, record(image=name)))
    return [*found.missing_images, *found.broken_images]


@BOTH
@pytest.mark.parametrize(
    ("archive", "member", "named"),
    [
        ("images", "images/x.jpg", "images/x.jpg"),
        ("images", "x.jpg", "images/x.jpg"),
        ("images", "x.jpg", "/images/x.jpg"),
        ("images", "images-main/x.jpg", "images/x.jpg"),
        ("images", "a/b/images/x.jpg", "images/x.jpg"),
        ("images", "./images/x.jpg", "images/x.jpg"),
        ("images", "images\\x.jpg", "images/x.jpg"),
        ("images", "images/x.jpg", "images\\x.jpg"),
        ("images", "images/x.jpg", "x.jpg"),
        ("all", "images/x.jpg", "images/x.jpg"),
        ("data/images", "images/x.jpg", "data/images/x.jpg"),
        ("data/images", "x.jpg", "data/images/x.jpg"),
        ("data/all", "x.jpg", "data/x.jpg"),
        ("images", "deep/x.jpg", "images/deep/x.jpg"),
        ("my", "caf\u00e9.jpg", "cafe\u0301.jpg"),
    ],
)
def test_a_picture_in_an_archive(kind: str, archive: str, member: str, named: str, tmp_path: Path) -> None:
    packed(tmp_path / archive, {member: RED, "__MACOSX/._x.jpg": b"x", ".DS_Store": b"x"}, kind)
    data = opened(tmp_path, record(image=named))
    assert check(data).missing_images == []
    assert data.image_path(data.dialogues[0].messages[0].images[0]).read_bytes() == RED


@BOTH
@pytest.mark.parametrize(
    ("files", "named", "what"),
    [
        ({"small/x.jpg": RED, "y.jpg": RED}, "images/x.jpg", "there is images.{}/small/x.jpg"),
        ({"X.jpg": RED, "y.jpg": RED}, "images/x.jpg", "there is images.{}/X.jpg"),
        ({"y.jpg": RED}, "images.{}/x.jpg", "image missing: images.{}/x.jpg"),
        ({"../x.jpg": RED}, "../x.jpg", "points outside"),
        ({"x.jpg": b"no picture"}, "images/x.jpg", "images.{}/x.jpg: not a JPEG"),
        ({"x.jpg/y.jpg": RED}, "images/x.jpg", "image missing: images/x.jpg"),
    ],
)
def test_names_are_those_of_the_archive(
    kind: str, files: dict[str, bytes], named: str, what: str, tmp_path: Path
) -> None:
    packed(tmp_path / "images", files, kind)
    (line,) = missing(tmp_path, named.format(kind))
    assert what.format(kind) in line


def test_the_file_outside_comes_first_and_then_the_archive_of_that_name(tmp_path: Path) -> None:
    packed(tmp_path / "all", {"images/x.jpg": RED, "images/y.jpg": RED})
    packed(tmp_path / "images", {"x.jpg": BLUE}, "tar")
    data = opened(tmp_path, record())
    assert data.image_path("images/x.jpg").read_bytes() == BLUE
    assert data.image_path("images/y.jpg").read_bytes() == RED
    assert data.image_path("all.zip/images/x.jpg").read_bytes() == RED
    put(tmp_path / "images" / "x.jpg", b"file")
    assert data.image_path("images/x.jpg").read_bytes() == b"file"


def test_two_archives_with_the_name(tmp_path: Path) -> None:
    for name in ("train", "test"):
        packed(tmp_path / name, {"x.jpg": RED})
    (line,) = missing(tmp_path, "x.jpg")
    assert line == "image 'x.jpg': is it test.zip/x.jpg or train.zip/x.jpg? write the one that is meant (a)"
    assert missing(tmp_path, "test.zip/x.jpg") == []


@BOTH
def test_it_is_as_if_it_were_unpacked(kind: str, tmp_path: Path) -> None:
    """Hashes are the same, the picture is found again, and nothing is written."""
    put(tmp_path / "loose" / "images" / "x.jpg", RED)
    packed(tmp_path / "archive" / "images", {"images/x.jpg": RED}, kind)
    before = sorted(tmp_path.rglob("*"))
    loose, archive = (Dataset("", tmp_path / name, ()) for name in ("loose", "archive"))
    assert archive.picture_digest("images/x.jpg") == loose.picture_digest("images/x.jpg")
    file = archive.image_path("images/x.jpg")
    image = prepare(file, item="a")
    assert image.load() == prepare(loose.image_path("images/x.jpg"), item="a").load()
    again = find(
        Dataset("", tmp_path / "archive", ()).image_path("images/x.jpg"), image.sha256, Preparation()
    )
    assert again is not None
    assert sorted(tmp_path.rglob("*")) == before
    packed(tmp_path / "archive" / "images", {"images/x.jpg": BLUE}, kind)
    with pytest.raises(ImageError, match="has changed since the run began"):
        image.load()


def test_the_index_of_an_archive_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [f"images/{n}.jpg" for n in range(50)]
    for kind in ("zip", "tar"):
        packed(tmp_path / kind / "images", dict.fromkeys(names, RED), kind)
    read: list[str] = []
    for name in ("_in_zip", "_in_tar"):
        own = getattr(archives, name)
        monkeypatch.setattr(
            archives, name, lambda path, *more, own=own: read.append(path) or own(path, *more)
        )
    for kind in ("zip", "tar"):
        found = check(opened(tmp_path / kind, *(record(id=name, image=name) for name in names)))
        assert (found.usable, found.pictures.count) == (50, 50)
    assert len(read) == 2


def test_links_in_a_tar_archive(tmp_path: Path) -> None:
    path = packed(tmp_path / "images", {"images/x.jpg": RED}, "tar")
    with tarfile.open(path, "a") as tar:
        for name, to, kind in (
            ("images/hard.jpg", "images/x.jpg", tarfile.LNKTYPE),
            ("images/soft.jpg", "x.jpg", tarfile.SYMTYPE),
            ("images/out.jpg", "/etc/hostname", tarfile.SYMTYPE),
        ):
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, to
            tar.addfile(member)
    data = opened(tmp_path, record())
    assert data.image_path("images/hard.jpg").read_bytes() == RED
    assert data.image_path("images/soft.jpg").read_bytes() == RED
    assert missing(tmp_path, "images/out.jpg") == ["image missing: images/out.jpg (a)"]


def test_a_link_to_an_archive_elsewhere(tmp_path: Path) -> None:
    path = packed(tmp_path / "elsewhere" / "images", {"x.jpg": RED})
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "images.zip").symlink_to(path)
    (line,) = missing(tmp_path / "set", "images/x.jpg")
    assert "a link out of the folder: add --follow-links" in line


def broken_zip(change: str) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("x.jpg", RED)
    data = bytearray(out.getvalue())
    directory = data.rfind(b"PK\1\2")
    if change == "cut":
        return bytes(data[:-30])
    if change == "content":
        data[60] ^= 0xFF
    if change == "locked":
        data[6] |= 1
        data[directory + 8] |= 1
    if change == "method":
        data[8] = data[directory + 10] = 99
    if change == "bomb":
        # It says that it unpacks to a gigabyte.
        data[directory + 24 : directory + 28] = (2**30).to_bytes(4, "little")
    if change == "directory":
        end = data.rfind(b"PK\5\6")
        data[end + 12 : end + 16] = (2**30).to_bytes(4, "little")
    return bytes(data)


@pytest.mark.parametrize(
    ("ending", "content", "said"),
    [
        ("zip", broken_zip("cut"), "images.zip: the zip archive is damaged"),
        ("zip", b"", "images.zip: the zip archive is damaged"),
        ("zip", b"version https://git-lfs.github.com/spec/v1\n", "images.zip: a Git LFS pointer"),
        ("zip", broken_zip("content"), "images.zip/x.jpg: the archive is damaged: copy or download it again"),
        ("zip", broken_zip("locked"), "images.zip/x.jpg: is locked by a password"),
        ("zip", broken_zip("method"), "images.zip/x.jpg: compressed in a way that is not read here"),
        ("zip", broken_zip("bomb"), "images.zip/x.jpg: larger than 67108864 bytes"),
        ("zip", broken_zip("directory"), "images.zip: its directory is larger than 67108864 bytes"),
        ("tar", b"no archive" * 100, "images.tar: the tar archive is damaged"),
    ],
)
def test_what_is_wrong_with_an_archive(ending: str, content: bytes, said: str, tmp_path: Path) -> None:
    put(tmp_path / f"images.{ending}", content)
    (line,) = missing(tmp_path, "images/x.jpg")
    assert said in line


def test_a_tar_archive_that_ends_too_early(tmp_path: Path) -> None:
    path = packed(tmp_path / "images", {"a.jpg": BLUE, "x.jpg": RED}, "tar")
    whole = path.read_bytes()
    put(path, whole[: whole.index(RED) + 100])
    (line,) = missing(tmp_path, "images/x.jpg")
    assert "images.tar" in line
    assert "copy or download it again" in line


def test_too_many_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "_MOST_FILES", 2)
    packed(tmp_path / "images", {f"{n}.jpg": RED for n in range(3)})
    (line,) = missing(tmp_path, "images/0.jpg")
    assert "contains more than 2 files: unpack it" in line


def test_names_in_utf8_that_do_not_say_so(tmp_path: Path) -> None:
    path = packed(tmp_path / "images", {"cafXX.jpg": RED})
    data = path.read_bytes()
    put(path, data.replace(b"cafXX", "caf\u00e9".encode()))
    assert missing(tmp_path, "images/caf\u00e9.jpg") == []


@BOTH
@pytest.mark.parametrize(
    ("files", "named"),
    [
        ({"list.jsonl": lines(record(image="images/x.jpg"))}, "set.{}"),
        ({"list.jsonl": lines(record(image="images/x.jpg"))}, "set.{}/list.jsonl"),
        ({"set-main/list.json": [record(image="images/x.jpg")]}, "set.{}"),
        ({"set-main/data/list.json": [record(image="images/x.jpg")]}, "set.{}/set-main"),
        ({"Data/1_turn.json": [record(image_path="/images/x.jpg")]}, "set.{}"),
        ({"SafeMT/Data/1_turn.json": [record(image_path="/images/x.jpg")]}, "set.{}"),
        ({"list.csv": b"id,prompt,image\na,%s,images/x.jpg\n" % TEA.encode()}, "set.{}"),
        ({"list.jsonl": lines(record(image="images/x.jpg"))}, "."),
    ],
)
def test_a_data_set_in_an_archive(kind: str, files: dict[str, Any], named: str, tmp_path: Path) -> None:
    top = next(iter(files)).split("/")[:-1]
    top = top[:1] if top[-1:] == ["data"] else top
    packed(tmp_path / "set", {**files, "/".join((*top, "images", "x.jpg")): RED}, kind)
    data = open_dataset(str(tmp_path / named.format(kind)))
    assert said(data)[0][:2] == ("u", TEA)
    found = check(data)
    assert (found.usable, found.missing_images) == (1, [])


@BOTH
def test_a_parquet_file_in_an_archive(kind: str, tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet

    pyarrow.parquet.write_table(pa.Table.from_pylist([{"id": "a", "prompt": TEA}]), tmp_path / "a.parquet")
    packed(tmp_path / "set", {"a.parquet": (tmp_path / "a.parquet").read_bytes()}, kind)
    assert said(open_dataset(str(tmp_path / f"set.{kind}"))) == [("u", TEA, ())]


@BOTH
@pytest.mark.parametrize(
    ("files", "named", "member"),
    [
        ("list.json", "set.{}", "list.json"),
        ("list.json", "set.{}", "set-main/list.json"),
        ("*/list.json", "set.{}", "set-main/list.json"),
        ("set.{}/list.json", ".", "list.json"),
        ("*.{}/**/list.json", ".", "a/b/list.json"),
        ("set/list.json", ".", "list.json"),
        ("set/*.json", ".", "set/list.json"),
        ("list.json", ".", "list.json"),
        ("none.json", "set.{}/list.json", "list.json"),
    ],
)
def test_lists_of_a_map_in_an_archive(kind: str, files: str, named: str, member: str, tmp_path: Path) -> None:
    packed(tmp_path / "set", {member: [{"id": "a", "q": TEA}]}, kind)
    mapped = put(tmp_path / "maps" / "m.toml", MAP + f'source.files = "{files.format(kind)}"')
    data = open_dataset(str(tmp_path / named.format(kind)), data_map=str(mapped))
    assert said(data) == [("u", TEA, ())]


def test_a_map_of_an_archive_with_pictures_and_another_file(tmp_path: Path) -> None:
    files = {
        "top/rows.jsonl": lines({"id": "a", "q": TEA, "n": 7}),
        "top/more.csv": b"n,image\n7,x.jpg\n",
        "top/pictures/x.jpg": RED,
    }
    source = """[source]
files = "rows.jsonl"
join = {files = "more.csv", key = "n", on = "{n}", as = "more"}
[[images]]
path = "pictures/{more.image}"
"""
    packed(tmp_path / "set", files)
    mapped = put(tmp_path / "m.toml", MAP + source)
    found = check(open_dataset(str(tmp_path / "set.zip"), data_map=str(mapped)))
    assert (found.usable, found.pictures.count) == (1, 1)


def test_a_list_that_is_too_large_is_not_unpacked(tmp_path: Path) -> None:
    with (
        zipfile.ZipFile(tmp_path / "set.zip", "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("list.json", "w") as file,
    ):
        for _ in range(65):
            file.write(b" " * 2**20)
    with pytest.raises(InputError, match=r"set.zip/list.json: larger than 67108864 bytes"):
        open_dataset(str(tmp_path / "set.zip"))


def test_a_damaged_list(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = packed(here / "set", {"list.jsonl": lines(*(record(id=str(n)) for n in range(999)))})
    data = bytearray(path.read_bytes())
    data[120] ^= 0xFF
    put(path, bytes(data))
    assert main(["data", "check", "set.zip"]) == 2
    assert "set.zip/list.jsonl: the archive is damaged" in capsys.readouterr().err


def test_a_run_of_an_archive(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = lines(record(user(TEA), image="images/x.jpg"))
    packed(here / "set", {"list.jsonl": rows, "images/x.jpg": RED})
    words = ["--provider", "demo", "--data", "set.zip", "--judge", "none"]
    assert main(words) == 0
    assert main([*words, "--dry-run"]) == 0
    assert "0 calls to make, 1 in the store" in capsys.readouterr().out


def test_pictures_of_an_archive_are_copied_by_data_convert(here: Path) -> None:
    packed(here / "set", {"list.jsonl": lines(record(image="images/x.jpg")), "images/x.jpg": RED})
    assert main(["data", "convert", "--data", "set.zip", "--out", "out"]) == 0
    assert (here / "out" / "images" / "x.jpg").read_bytes() == RED
    assert check(open_dataset(str(here / "out"))).usable == 1
