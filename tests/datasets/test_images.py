"""Images: true type, upright, smaller only when needed, broken ones named."""

import contextlib
import hashlib
import io
import random
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image as Pillow
from PIL import ImageCms
from PIL.ImageFile import ImageFile
from support.drawn import exif, noise, saved, srgb

from safemt_client.datasets import image_files, images
from safemt_client.datasets.image_files import opened, read_through
from safemt_client.datasets.images import ImageError, Preparation, blank, load_again, prepare


def picture(path: Path, size: tuple[int, int] = (40, 20), kind: str = "PNG", **options: object) -> Path:
    made = Pillow.new("RGB", size, (10, 120, 200))
    made.paste((250, 0, 0), (0, 0, size[0] // 2, size[1]))
    made.save(path, kind, **options)  # type: ignore[arg-type]
    return path


@pytest.mark.parametrize(
    ("kind", "media_type"),
    [("PNG", "image/png"), ("JPEG", "image/jpeg"), ("WEBP", "image/webp"), ("GIF", "image/gif")],
)
def test_the_true_type_whatever_the_name_says(tmp_path: Path, kind: str, media_type: str) -> None:
    path = picture(tmp_path / "a.jpg", kind=kind)
    image = prepare(path, item="a")
    assert image.media_type == media_type
    assert image.load() == path.read_bytes()
    assert image.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert (image.width, image.height, image.size) == (40, 20, path.stat().st_size)


def test_exif_orientation_is_applied(tmp_path: Path) -> None:
    exif = Pillow.Exif()
    exif[0x0112] = 6  # the camera was turned: 40 x 20 is meant as 20 x 40
    image = prepare(picture(tmp_path / "a.jpg", kind="JPEG", exif=exif), item="a")
    with Pillow.open(io.BytesIO(image.load())) as sent:
        assert sent.size == (image.width, image.height) == (20, 40)
        assert sent.getexif().get(0x0112, 1) == 1


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_only_past_the_limits_is_it_made_smaller(tmp_path: Path, kind: str) -> None:
    path = picture(tmp_path / "a", (300, 150), kind)
    assert prepare(path, item="a", how=Preparation(max_edge=300, max_bytes=10**6)).load() == path.read_bytes()
    small = prepare(path, item="a", how=Preparation(max_edge=100, max_bytes=10**6))
    assert (small.width, small.height) == (100, 50)
    assert small.media_type == f"image/{kind.lower()}"


def test_a_file_past_the_byte_limit_fits_afterwards(tmp_path: Path) -> None:
    noise = Pillow.effect_noise((400, 400), 90).convert("RGB")
    noise.save(tmp_path / "a.png")
    image = prepare(tmp_path / "a.png", item="a", how=Preparation(max_edge=2048, max_bytes=20_000))
    assert image.size == len(image.load()) <= 20_000


def _png_of(width: int, height: int) -> bytes:
    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "empty"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "SVG"),
        (_png_of(20_000, 20_000), "bomb"),
        (_png_of(2**31 - 1, 2**31 - 1), "bomb"),
        (_png_of(30, 30), "broken"),
    ],
)
def test_what_cannot_be_sent_is_named(tmp_path: Path, content: bytes, said: str) -> None:
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(ImageError) as caught:
        prepare(tmp_path / "a.png", item="item_7")
    assert said in str(caught.value)
    assert "item_7" in str(caught.value)
    assert "a.png" in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "WEBP", "AVIF", "BMP", "TIFF", "JPEG2000"])
def test_a_truncated_file_is_broken(tmp_path: Path, kind: str) -> None:
    Pillow.effect_noise((200, 200), 90).convert("RGB").save(tmp_path / "a", kind)
    whole = (tmp_path / "a").read_bytes()
    (tmp_path / "a").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ImageError, match="broken"):
        prepare(tmp_path / "a", item="a")


def said_of(content: bytes, read: Callable[[ImageFile, bytes], object]) -> str:
    try:
        with opened(content) as one:
            read(one, content)
    except ImageError as error:
        return str(error)
    return "whole"


@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize(
    "options", [{}, {"progressive": True}, {"restart_marker_blocks": 3}, {"subsampling": 0}], ids=str
)
def test_reading_a_jpeg_through_finds_all_that_decoding_it_finds(mode: str, options: dict[str, Any]) -> None:
    whole = saved(noise((61, 47)).convert(mode), "JPEG", quality=93, **options)
    with opened(whole) as one:
        read_through(one, whole)
        assert one.size == (8, 6)
    source = random.Random(1)
    cut = [whole[:end] for end in (*range(len(whole) - 40, len(whole) + 1), *range(2, len(whole), 53))]
    closed = [content + b"\xff\xd9" for content in cut]
    damaged = []
    for _ in range(150):
        content = bytearray(whole)
        content[source.randrange(2, len(content))] = source.choice([0, 255, source.randrange(256)])
        damaged.append(bytes(content))
    for content in (*cut, *closed, *damaged):
        assert said_of(content, read_through) == said_of(content, lambda one, _: one.load())
    assert {said_of(content, read_through) == "whole" for content in cut} == {True, False}


def test_a_jpeg_of_rarer_codes_is_decoded_in_full() -> None:
    whole = saved(noise((61, 47)), "JPEG")
    place = whole.index(b"\xff\xc0")
    for other in (b"\xff\xc3", b"\xff\xc9", b"\xff\x01\xff\xc0", b"\xff\xd8\xff\xc0", b"\0\xff\xc0"):
        asked: list[object] = []
        with opened(whole) as one:
            one.draft = lambda *how, asked=asked: asked.append(how)  # type: ignore[method-assign]
            read_through(one, whole[:place] + other + whole[place + 2 :])
            assert not asked
            assert one.size == (61, 47)


@pytest.mark.parametrize("options", [{}, {"exif": exif(1, camera="its name")}], ids=["as it is", "stripped"])
def test_what_was_verified_is_not_decoded_again_when_it_is_sent(
    options: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a").write_bytes(saved(noise((60, 40)), "JPEG", **options))
    image = prepare(tmp_path / "a", item="a")
    monkeypatch.setattr(images, "opened", lambda *_: pytest.fail("it was decoded"))
    assert hashlib.sha256(image.load()).hexdigest() == image.sha256
    again = load_again(tmp_path / "a", (image.sha256, image.media_type), item="a", how=Preparation())
    assert again == image.load()


def test_the_profile_of_a_camera_is_tried_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[object] = []
    build = ImageCms.buildTransform
    monkeypatch.setattr(ImageCms, "buildTransform", lambda *how: (made.append(how), build(*how))[1])
    profile = srgb() + b"of one camera"
    for name in ("a", "b", "c"):
        (tmp_path / name).write_bytes(saved(noise((60, 40)), "JPEG", icc_profile=profile))
        assert prepare(tmp_path / name, item=name).notes == ()
    assert len(made) == 1


def test_a_huge_file_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_files, "_MAX_FILE", 10)
    with pytest.raises(ImageError, match="larger than"):
        prepare(picture(tmp_path / "a.png"), item="a")


@pytest.mark.parametrize(("kind", "fits"), [("PNG", True), ("AVIF", False), ("JPEG2000", False)])
def test_formats_that_take_more_memory_have_a_lower_limit(
    kind: str, fits: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(image_files, "_MAX_OF_HUNGRY", 799)
    path = picture(tmp_path / "a", kind=kind)
    with contextlib.nullcontext() if fits else pytest.raises(ImageError, match="40 x 20 pixels is too large"):
        prepare(path, item="a")


def test_a_file_that_changes_during_a_run_is_not_sent(tmp_path: Path) -> None:
    image = prepare(picture(tmp_path / "a.png"), item="a")
    picture(tmp_path / "a.png", (41, 20))
    with pytest.raises(ImageError, match="changed"):
        image.load()


def test_blank_is_grey_and_of_the_same_size(tmp_path: Path) -> None:
    image = blank(prepare(picture(tmp_path / "a.png"), item="a"))
    with Pillow.open(io.BytesIO(image.load())) as sent:
        assert sent.size == (40, 20)
        assert sent.getcolors() == [(800, (128, 128, 128))]
    assert image.sha256 == hashlib.sha256(image.load()).hexdigest()
