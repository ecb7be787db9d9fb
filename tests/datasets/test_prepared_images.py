"""What is sent of each kind of picture: its pixels are those that a person sees, computed independently."""

import io
import math
from pathlib import Path
from typing import Any

import pytest
from PIL import Image as Pillow
from support.drawn import (
    BLACK,
    CORNERS,
    LARGE,
    RED,
    SMALL,
    WHITE,
    Colour,
    deep,
    exif,
    moving,
    noise,
    quarters,
    red_for_green,
    ruled,
    saved,
    srgb,
    written_on_nothing,
)

from safemt_client.datasets.images import ImageError, Preparation, prepare, prepare_as_before
from safemt_client.providers.types import Image


def sent(content: bytes, folder: Path, **how: Any) -> tuple[Image, Pillow.Image]:
    """What is sent of a file, and its pixels as any decoder gets them."""
    (folder / "a").write_bytes(content)
    image = prepare(folder / "a", item="a", how=Preparation(**how))
    data = image.load()
    assert len(data) == image.size
    with Pillow.open(io.BytesIO(data)) as opened:
        assert Pillow.MIME[opened.format or ""] == image.media_type
        assert not getattr(opened, "is_animated", False)
        assert opened.size == (image.width, image.height)
        return image, opened.convert("RGB")


def near(found: Any, wanted: Colour, most: int = 12) -> bool:
    return all(abs(a - b) <= most for a, b in zip(found, wanted, strict=True))


def at(picture: Pillow.Image, x: float, y: float) -> Any:
    """The colour at a place, given in shares of the width and the height."""
    return picture.getpixel((int(x * picture.width), int(y * picture.height)))


def corners(picture: Pillow.Image) -> list[Any]:
    return [at(picture, x, y) for y in (0.25, 0.75) for x in (0.25, 0.75)]


def shows(picture: Pillow.Image, colours: tuple[Colour, ...]) -> bool:
    return all(near(a, b) for a, b in zip(corners(picture), colours, strict=True))


@pytest.mark.parametrize("size", [SMALL, LARGE], ids=["small", "large"])
@pytest.mark.parametrize(
    ("kind", "options", "media_type"),
    [
        ("JPEG", {"quality": 90}, "jpeg"),
        ("JPEG", {"progressive": True}, "jpeg"),
        ("PNG", {}, "png"),
        ("BMP", {}, "png"),
        ("TIFF", {}, "png"),
        ("TIFF", {"compression": "tiff_lzw"}, "png"),
        ("AVIF", {}, "jpeg"),
        ("JPEG2000", {}, "jpeg"),
    ],
)
def test_every_format_arrives_as_one_that_models_take(
    kind: str, options: dict[str, Any], media_type: str, size: tuple[int, int], tmp_path: Path
) -> None:
    content = saved(quarters(size), kind, **options)
    image, picture = sent(content, tmp_path)
    assert image.media_type == f"image/{media_type}"
    assert shows(picture, CORNERS)
    assert max(picture.size) == min(2048, size[0])
    assert (image.load() == content) == (size == SMALL and kind in ("JPEG", "PNG"))


@pytest.mark.parametrize("size", [SMALL, LARGE], ids=["small", "large"])
@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF", "MPO"])
def test_of_several_pictures_in_a_file_the_first_is_sent_and_that_is_said(
    kind: str, size: tuple[int, int], tmp_path: Path
) -> None:
    image, picture = sent(moving(kind, size), tmp_path)
    assert shows(picture, CORNERS)
    assert ("MPO as JPEG" if kind == "MPO" else "first frame of several") in image.notes


@pytest.mark.parametrize("size", [SMALL, LARGE], ids=["small", "large"])
@pytest.mark.parametrize(
    ("kind", "mode", "options"),
    [
        ("PNG", "RGBA", {}),
        ("PNG", "LA", {}),
        ("PNG", "P", {}),
        ("GIF", "P", {}),
        ("WEBP", "RGBA", {"lossless": True}),
        ("WEBP", "RGBA", {"quality": 80}),
        ("AVIF", "RGBA", {}),
        ("TIFF", "RGBA", {}),
    ],
)
def test_what_is_transparent_is_white(
    kind: str, mode: str, options: dict[str, Any], size: tuple[int, int], tmp_path: Path
) -> None:
    image, picture = sent(saved(written_on_nothing(size, mode), kind, **options), tmp_path)
    assert near(at(picture, 0.1, 0.1), WHITE)
    assert near(at(picture, 0.375, 0.29), BLACK)
    if mode in ("RGBA", "LA"):
        # Half of black on white.
        assert near(at(picture, 0.375, 0.58), (127, 127, 127))
    assert "transparent parts on white" in image.notes
    assert "one colour only" not in image.notes


@pytest.mark.parametrize(
    ("kind", "mode", "options"),
    [
        *(("PNG", mode, {}) for mode in ("1", "L", "LA", "P", "RGB", "RGBA")),
        *(("JPEG", mode, options) for mode in ("L", "RGB") for options in ({}, {"progressive": True})),
        *(("WEBP", "RGB", {"lossless": lossless}) for lossless in (False, True)),
        ("GIF", "P", {}),
        ("GIF", "L", {}),
    ],
)
def test_what_every_model_sees_alike_is_sent_as_it_is(
    kind: str, mode: str, options: dict[str, Any], tmp_path: Path
) -> None:
    content = saved(quarters().convert(mode), kind, **options)
    image, _ = sent(content, tmp_path)
    assert (image.load(), image.notes) == (content, ())


def test_white_on_nothing_is_said_to_show_nothing(tmp_path: Path) -> None:
    made = Pillow.new("RGBA", SMALL, (255, 255, 255, 0))
    made.paste((255, 255, 255, 255), (50, 50, 90, 90))
    image, _ = sent(saved(made, "PNG"), tmp_path)
    assert "one colour only" in image.notes


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_an_alpha_channel_that_hides_nothing_leaves_the_file_as_it_is(kind: str, tmp_path: Path) -> None:
    content = saved(quarters(mode="RGBA"), kind, lossless=True)
    image, _ = sent(content, tmp_path)
    assert (image.load(), image.notes) == (content, ())


@pytest.mark.parametrize("mode", ["1", "P", "L", "RGB"])
def test_thin_lines_survive_scaling(mode: str, tmp_path: Path) -> None:
    step = 10
    image, picture = sent(saved(ruled(LARGE, step, mode), "PNG"), tmp_path)
    assert "scaled down" in image.notes
    grey = picture.convert("L").resize((picture.width, 1), Pillow.Resampling.BOX)
    levels = list(grey.tobytes())
    # As dark as the paper was on average: one column of ten was black.
    assert math.isclose(sum(levels) / len(levels), 255 * (1 - 1 / step), rel_tol=0.02)
    # And each line is seen: a minimum every 10 * 2048 / 3000 pixels.
    wanted = LARGE[0] / step
    darker = sum(a > b <= c and b < 200 for a, b, c in zip(levels, levels[1:], levels[2:], strict=False))
    assert abs(darker - wanted) <= 2


@pytest.mark.parametrize("size", [SMALL, LARGE], ids=["small", "large"])
def test_sixteen_bits_keep_their_shades(size: tuple[int, int], tmp_path: Path) -> None:
    image, picture = sent(deep(size), tmp_path)
    assert "16 bits as 8" in image.notes
    for share in (0.0, 0.1, 0.5, 0.9, 0.999):
        assert near(at(picture, share, 0.5), (round(share * 255),) * 3, 3)


@pytest.mark.parametrize("mode", ["F", "I"])
@pytest.mark.parametrize("size", [SMALL, LARGE])
def test_thirty_two_bits_reach_from_black_to_white(size: tuple[int, int], mode: str, tmp_path: Path) -> None:
    width = size[0]
    values = [5 + 1000 * x // (width - 1) for x in range(width)]
    picture = Pillow.new(mode, (width, 1))
    picture.putdata(values)
    image, seen = sent(saved(picture.resize(size, Pillow.Resampling.NEAREST), "TIFF"), tmp_path)
    assert image.notes[0] == "32 bits as 8, from its darkest to its lightest"
    for share in (0.01, 0.25, 0.5, 0.75, 0.99):
        assert near(at(seen, share, 0.5), (int(255 * share),) * 3)


def test_what_is_no_number_is_black_and_the_infinite_as_light_as_can_be(tmp_path: Path) -> None:
    row = [math.nan, 0.25, 0.5, 0.75, math.inf, -math.inf]
    picture = Pillow.new("F", (6, 1))
    picture.putdata(row)
    _, seen = sent(saved(picture.resize((60, 40), Pillow.Resampling.NEAREST), "TIFF"), tmp_path)
    assert [seen.getpixel((5 + 10 * place, 20)) for place in range(6)] == [
        *(BLACK, BLACK, (128, 128, 128), WHITE, WHITE, BLACK)
    ]
    _, seen = sent(saved(Pillow.new("F", (40, 40), 7.5), "TIFF"), tmp_path)
    assert at(seen, 0.5, 0.5) == BLACK


def test_a_transparent_value_of_sixteen_bits_is_white(tmp_path: Path) -> None:
    width, height = 256, 4
    clear = 64 * 65535 // (width - 1)
    image, picture = sent(deep((width, height), clear), tmp_path)
    assert [picture.getpixel((x, 1)) for x in (63, 64, 65)] == [(63,) * 3, WHITE, (65,) * 3]
    assert "transparent parts on white" in image.notes


@pytest.mark.parametrize("size", [SMALL, LARGE], ids=["small", "large"])
def test_inks_are_sent_as_colours(size: tuple[int, int], tmp_path: Path) -> None:
    image, picture = sent(saved(quarters(size, "CMYK"), "JPEG", quality=95), tmp_path)
    assert shows(picture, CORNERS)
    assert "CMYK as RGB" in image.notes


# Where the corners go, from what the orientation says of the first row and column (Exif 2.32, 4.6.4).
TURNED = {
    2: (1, 0, 3, 2),
    3: (3, 2, 1, 0),
    4: (2, 3, 0, 1),
    5: (0, 2, 1, 3),
    6: (2, 0, 3, 1),
    7: (3, 1, 2, 0),
    8: (1, 3, 0, 2),
}


@pytest.mark.parametrize("orientation", TURNED)
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "MPO", "AVIF"])
def test_pictures_are_sent_upright(kind: str, orientation: int, tmp_path: Path) -> None:
    image, picture = sent(saved(quarters(), kind, exif=exif(orientation)), tmp_path)
    assert shows(picture, tuple(CORNERS[place] for place in TURNED[orientation]))
    assert picture.size == (SMALL if orientation < 5 else SMALL[::-1])
    assert "turned upright" in image.notes


@pytest.mark.parametrize("orientation", [0, 1, 9, 300])
def test_an_orientation_that_turns_nothing_leaves_the_pixels_as_they_are(
    orientation: int, tmp_path: Path
) -> None:
    image, picture = sent(saved(quarters(), "JPEG", exif=exif(orientation)), tmp_path)
    assert image.load() == saved(quarters(), "JPEG")
    assert shows(picture, CORNERS)


@pytest.mark.parametrize("size", [SMALL, LARGE], ids=["small", "large"])
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_colours_are_those_of_the_profile(kind: str, size: tuple[int, int], tmp_path: Path) -> None:
    image, picture = sent(saved(quarters(size), kind, icc_profile=red_for_green()), tmp_path)
    assert shows(picture, tuple((green, red, blue) for red, green, blue in CORNERS))
    assert "colours to sRGB" in image.notes
    with Pillow.open(io.BytesIO(image.load())) as opened:
        assert "icc_profile" not in opened.info


def test_a_profile_of_srgb_changes_nothing(tmp_path: Path) -> None:
    content = saved(quarters(), "JPEG", icc_profile=srgb())
    image, _ = sent(content, tmp_path)
    assert (image.load(), image.notes) == (content, ())


def test_a_broken_profile_is_no_profile(tmp_path: Path) -> None:
    _, picture = sent(saved(quarters(LARGE), "JPEG", icc_profile=b"none" * 50), tmp_path)
    assert shows(picture, CORNERS)


@pytest.mark.parametrize(
    ("size", "said"),
    [
        ((1, 1), {"a side under 28 pixels"}),
        ((28, 28), set()),
        ((20_000, 3), {"over 200 times as long as wide", "a side under 28 pixels", "scaled down"}),
        ((40, 8_001), {"over 200 times as long as wide", "a side under 28 pixels", "scaled down"}),
        ((40, 2_000), set()),
    ],
)
def test_sizes_that_show_little_are_noted(size: tuple[int, int], said: set[str], tmp_path: Path) -> None:
    image, _ = sent(saved(Pillow.new("RGB", size, RED), "PNG"), tmp_path)
    assert set(image.notes) == said


def test_a_truncated_jpeg_is_sent_only_if_that_is_wanted(tmp_path: Path) -> None:
    whole = saved(noise((400, 400)), "JPEG", quality=90)
    for length in (len(whole) - 2, len(whole) - 200, len(whole) // 2):
        with pytest.raises(ImageError, match=r"truncated.*--image-truncated"):
            sent(whole[:length], tmp_path)
        image, picture = sent(whole[:length], tmp_path, truncated=True)
        assert "truncated: the rest is grey" in image.notes
        with Pillow.open(io.BytesIO(whole)) as opened:
            wanted = opened.convert("RGB")
        assert near(
            picture.resize((1, 1), box=(0, 0, 400, 100)).getpixel((0, 0)),
            wanted.resize((1, 1), box=(0, 0, 400, 100)).getpixel((0, 0)),
        )
    with pytest.raises(ImageError):
        sent(whole[:100], tmp_path, truncated=True)
    # A whole one is sent as it is either way.
    image, _ = sent(whole, tmp_path, truncated=True)
    assert (image.load(), image.notes) == (whole, ())


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP"])
@pytest.mark.parametrize(
    ("wanted", "arrives"),
    [
        ("original", {"JPEG": "jpeg", "PNG": "png", "WEBP": "webp", "GIF": "gif", "BMP": "png"}),
        ("common", {"JPEG": "jpeg", "PNG": "png", "WEBP": "jpeg", "GIF": "png", "BMP": "png"}),
        ("jpeg", dict.fromkeys(("JPEG", "PNG", "WEBP", "GIF", "BMP"), "jpeg")),
        ("png", dict.fromkeys(("JPEG", "PNG", "WEBP", "GIF", "BMP"), "png")),
    ],
)
def test_the_format_can_be_chosen(wanted: str, arrives: dict[str, str], kind: str, tmp_path: Path) -> None:
    content = saved(quarters(), kind)
    image, picture = sent(content, tmp_path, format=wanted)
    assert image.media_type == f"image/{arrives[kind]}"
    assert shows(picture, CORNERS)
    assert (image.load() == content) == (arrives[kind] == kind.lower())


def test_a_png_that_does_not_fit_is_made_smaller_if_nothing_else_is_wanted(tmp_path: Path) -> None:
    content = saved(noise((400, 300)), "PNG")
    image, _ = sent(content, tmp_path, max_bytes=150_000)
    assert (image.media_type, image.width) == ("image/jpeg", 400)
    image, _ = sent(content, tmp_path, max_bytes=100_000, format="png")
    assert image.media_type == "image/png"
    assert image.width < 400
    assert image.size <= 100_000


@pytest.mark.parametrize("size", [SMALL, LARGE], ids=["small", "large"])
@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_what_was_sent_rightly_before_has_the_same_hash(
    kind: str, size: tuple[int, int], tmp_path: Path
) -> None:
    (tmp_path / "a").write_bytes(saved(quarters(size), kind))
    now, before = prepare(tmp_path / "a", item="a"), prepare_as_before(tmp_path / "a", item="a")
    assert now.sha256 == before.sha256
    assert (now.preparation, before.preparation) == (2, None)
