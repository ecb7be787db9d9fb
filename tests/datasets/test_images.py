"""Images: true type, upright, smaller only when needed, broken ones named."""

import contextlib
import hashlib
import io
import struct
import zlib
from pathlib import Path

import pytest
from PIL import Image as Pillow

from safemt_client.datasets import image_files
from safemt_client.datasets.images import ImageError, Preparation, blank, prepare


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
    noise = Pillow.effect_noise((200, 200), 90).convert("RGB")
    noise.save(tmp_path / "a", kind)
    whole = (tmp_path / "a").read_bytes()
    (tmp_path / "a").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ImageError, match="broken"):
        prepare(tmp_path / "a", item="a")


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
