"""Of a picture's file nothing but the picture is sent, and its compressed pixels stay as they are."""

import io
import struct
from pathlib import Path
from typing import Any

import pytest
from PIL import Image as Pillow
from PIL.PngImagePlugin import PngInfo
from support.drawn import chunk, exif, moving, noise, quarters, saved, srgb

from safemt_client.datasets.image_files import bare
from safemt_client.datasets.images import ImageError, Preparation, prepare

SECRET = "planted-camera"
XMP = f"<x:xmpmeta xmlns:x='adobe:ns:meta/'>{SECRET}</x:xmpmeta>".encode()


def texts() -> PngInfo:
    made = PngInfo()
    made.add_text("Comment", SECRET)
    made.add_text("parameters", SECRET * 9, zip=True)
    made.add_itxt("XML:com.adobe.xmp", XMP.decode())
    return made


CAMERA = exif(1, camera=SECRET, position=True)
FILES: dict[str, tuple[str, dict[str, Any]]] = {
    "jpeg": ("JPEG", {"exif": CAMERA, "comment": SECRET, "xmp": XMP}),
    "progressive": ("JPEG", {"exif": CAMERA, "progressive": True, "quality": 60}),
    "restarts": ("JPEG", {"exif": CAMERA, "restart_marker_blocks": 2}),
    "png": ("PNG", {"exif": CAMERA, "pnginfo": texts()}),
    "webp": ("WEBP", {"exif": CAMERA, "xmp": XMP}),
    "lossless webp": ("WEBP", {"exif": CAMERA, "xmp": XMP, "lossless": True}),
    "gif": ("GIF", {"comment": SECRET}),
}


def pixels(data: bytes) -> bytes:
    with Pillow.open(io.BytesIO(data)) as opened:
        return opened.convert("RGB").tobytes()


def prepared(data: bytes, folder: Path, **how: Any) -> bytes:
    (folder / "a").write_bytes(data)
    return prepare(folder / "a", item="a", how=Preparation(**how)).load()


@pytest.mark.parametrize("name", FILES)
def test_metadata_are_left_out_and_no_pixel_changes(name: str, tmp_path: Path) -> None:
    kind, options = FILES[name]
    content = saved(noise((60, 40)), kind, **options)
    assert SECRET.encode() in content
    left = prepared(content, tmp_path)
    assert SECRET.encode() not in left
    assert pixels(left) == pixels(content)
    with Pillow.open(io.BytesIO(left)) as opened:
        assert opened.format == kind
        assert not opened.getexif()
        assert not set(opened.info) & {"xmp", "comment", "Comment", "parameters", "XML:com.adobe.xmp", "exif"}
    # And that is all there was.
    assert bare(left, kind) is left


@pytest.mark.parametrize("name", FILES)
def test_metadata_are_sent_if_that_is_wanted(name: str, tmp_path: Path) -> None:
    kind, options = FILES[name]
    content = saved(noise((60, 40)), kind, **options)
    assert prepared(content, tmp_path, metadata="keep") == content


@pytest.mark.parametrize("keeps", [False, True])
def test_a_picture_that_is_encoded_anew_has_its_metadata_only_if_wanted(keeps: bool, tmp_path: Path) -> None:
    content = saved(quarters((300, 200)), "JPEG", exif=exif(6, camera=SECRET, position=True))
    left = prepared(content, tmp_path, metadata="keep" if keeps else "strip")
    with Pillow.open(io.BytesIO(left)) as opened:
        assert opened.size == (200, 300)
        assert opened.getexif().get(0x010F) == (SECRET if keeps else None)
        assert opened.getexif().get(0x0112, 1) == 1


@pytest.mark.parametrize("size", [(60, 40), (3000, 40)], ids=["small", "large"])
def test_metadata_that_cannot_be_read_break_no_picture(size: tuple[int, int], tmp_path: Path) -> None:
    content = saved(quarters(size), "JPEG", exif=b"Exif\0\0" + b"planted" * 3)
    left = prepared(content, tmp_path)
    assert b"planted" not in left
    assert (left == saved(quarters(size), "JPEG")) == (size == (60, 40))


def test_a_position_is_named(tmp_path: Path) -> None:
    for made, said in (
        (exif(1, camera=SECRET, position=True), "metadata with a position left out"),
        (exif(1, camera=SECRET), "metadata left out"),
    ):
        (tmp_path / "a").write_bytes(saved(quarters(), "JPEG", exif=made))
        assert prepare(tmp_path / "a", item="a").notes == (said,)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_profiles_stay(kind: str) -> None:
    content = saved(noise((60, 40)), kind, icc_profile=srgb(), exif=CAMERA)
    left = bare(content, kind)
    assert left is not None
    with Pillow.open(io.BytesIO(left)) as opened:
        assert opened.info["icc_profile"] == srgb()


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_what_follows_a_picture_is_not_sent(kind: str, tmp_path: Path) -> None:
    content = saved(noise((60, 40)), kind)
    assert prepared(content + b"\0" * 999 + SECRET.encode(), tmp_path) == content


def test_of_a_cameras_several_pictures_the_first_is_sent_as_it_is(tmp_path: Path) -> None:
    content = moving("MPO")
    left = prepared(content, tmp_path)
    assert left.count(b"\xff\xd8\xff") == 1
    assert pixels(left) == pixels(content)


def test_of_a_moving_png_the_first_picture_is_sent_as_it_is(tmp_path: Path) -> None:
    content = moving("PNG")
    left = prepared(content, tmp_path)
    assert not any(name in left for name in (b"acTL", b"fcTL", b"fdAT"))
    assert pixels(left) == pixels(content)


def test_a_png_without_its_end_gets_one(tmp_path: Path) -> None:
    content = saved(quarters(), "PNG")
    assert prepared(content[:-12], tmp_path) == content
    with pytest.raises(ImageError, match="truncated") as caught:
        prepared(content[:-40], tmp_path)
    assert str(caught.value).endswith(": copy it again")  # --image-truncated is for JPEG alone


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "empty file"),
        (b" \n", "empty file"),
        (b"<!DOCTYPE html>\n<html><title>404</title>", "a web page"),
        (b"\n<HTML><body>Not Found</body></HTML>", "a web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n", "git lfs pull"),
        (b'<svg xmlns="http://www.w3.org/2000/svg" width="10" height="10"/>', "SVG: convert it to PNG"),
        (b'<?xml version="1.0"?>\n<!-- made by hand --><svg/>', "SVG: convert it to PNG"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + b"\0" * 100, "HEIC is not read: convert it to JPEG or PNG"),
        (b"\0\0\0\x18ftypmif1\0\0\0\0mif1heic" + b"\0" * 100, "HEIC is not read"),
        (b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom" + b"\0" * 100, "a film"),
        (b"\0\0\0\x0cJXL \r\n\x87\n" + b"\0" * 50, "JPEG XL"),
        (b"%PDF-1.7\n", "PDF"),
        (b"PK\x03\x04" + b"\0" * 50, "a zip archive"),
        (b"hello", "not a JPEG, PNG, WebP, GIF, AVIF, BMP, TIFF or JPEG 2000 image"),
    ],
)
def test_what_is_no_picture_is_called_what_it_is(content: bytes, said: str, tmp_path: Path) -> None:
    with pytest.raises(ImageError) as caught:
        prepared(content, tmp_path)
    assert said in str(caught.value)
    assert f"item 'a': {tmp_path / 'a'}: " in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "MPO"])
def test_no_broken_file_makes_another_error(kind: str) -> None:
    whole = moving("MPO", (30, 20)) if kind == "MPO" else saved(noise((30, 20)), kind)
    for end in range(16, len(whole), 7):
        bare(whole[:end], kind)
    head = bytearray(whole)
    struct.pack_into(">I", head, 20, 0xFFFFFFFF)
    bare(bytes(head), kind)


def test_chunks_that_nothing_is_known_of_are_left_out(tmp_path: Path) -> None:
    content = saved(quarters(), "PNG")
    place = content.index(b"IDAT") - 4
    assert prepared(content[:place] + chunk(b"caBX", SECRET.encode()) + content[place:], tmp_path) == content
