"""Pictures as cameras, scanners and drawing programs save them, each with colours that are known beforehand."""

import io
import random
import struct
import zlib
from functools import cache
from typing import Any

from PIL import Image, ImageCms, ImageDraw

Colour = tuple[int, ...]
RED, GREEN, BLUE, YELLOW = (220, 30, 30), (20, 160, 60), (30, 60, 220), (240, 220, 40)
WHITE, BLACK = (255, 255, 255), (0, 0, 0)
CORNERS = (RED, GREEN, BLUE, YELLOW)
"""Upper left, upper right, lower left, lower right."""
SMALL, LARGE = (320, 200), (3000, 1900)


def quarters(
    size: tuple[int, int] = SMALL, mode: str = "RGB", colours: tuple[Colour, ...] = CORNERS
) -> Image.Image:
    """A picture whose quarters have one colour each."""
    width, height = size
    made = Image.new("RGB", size)
    for place, colour in enumerate(colours):
        left, top = place % 2 * (width // 2), place // 2 * (height // 2)
        made.paste(colour, (left, top, width - (1 - place % 2) * (width // 2), top + height))
    return made.convert(mode)


def saved(picture: Image.Image, kind: str, **options: Any) -> bytes:
    """The file of a picture."""
    out = io.BytesIO()
    picture.save(out, kind, **options)
    return out.getvalue()


def frames(size: tuple[int, int] = SMALL) -> list[Image.Image]:
    """Frames of which the first alone shows the quarters in their order."""
    return [
        quarters(size),
        quarters(size, colours=CORNERS[::-1]),
        quarters(size, colours=(*CORNERS[1:], RED)),
    ]


def moving(kind: str, size: tuple[int, int] = SMALL) -> bytes:
    """An animation, or a camera's file of several pictures."""
    first, *others = frames(size)
    options: dict[str, Any] = {} if kind in ("MPO", "TIFF") else {"duration": 200}
    return saved(first, kind, save_all=True, append_images=others, **options)


def written_on_nothing(size: tuple[int, int], mode: str) -> Image.Image:
    """Black bars on a transparent ground, whose hidden colour is black too; a half-opaque one below."""
    made = Image.new("RGBA", size, (0, 0, 0, 0))
    draw = ImageDraw.Draw(made)
    width, height = size
    draw.rectangle((width // 4, height // 4, width // 2, height // 3), fill=(0, 0, 0, 255))
    if mode in ("RGBA", "LA"):
        draw.rectangle((width // 4, height // 2, width // 2, height * 2 // 3), fill=(0, 0, 0, 128))
    return made.convert(mode) if mode != "P" else _with_a_clear_colour(made)


def _with_a_clear_colour(picture: Image.Image) -> Image.Image:
    """The same by a palette of two blacks, of which the first is transparent."""
    made = Image.new("P", picture.size, 0)
    made.putpalette(bytes(6))
    made.paste(1, mask=picture.getchannel("A"))
    made.info["transparency"] = 0
    return made


def exif(orientation: int | None = None, *, camera: str = "", position: bool = False) -> Image.Exif:
    """Metadata as a camera writes them."""
    made = Image.Exif()
    if orientation is not None:
        made[0x0112] = orientation
    if camera:
        made[0x010F] = camera
    if position:
        place = made.get_ifd(0x8825)
        place[1], place[2] = "N", (51.0, 30.0, 0.0)
    return made


def chunk(name: bytes, content: bytes) -> bytes:
    """A chunk of a PNG file."""
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def deep(size: tuple[int, int], clear: int | None = None) -> bytes:
    """A grey PNG of 16 bits, from black on the left to white on the right; one value may be transparent."""
    width, height = size
    row = b"\0" + b"".join(struct.pack(">H", x * 65535 // (width - 1)) for x in range(width))
    head = struct.pack(">IIBBBBB", width, height, 16, 0, 0, 0, 0)
    parts = [b"\x89PNG\r\n\x1a\n", chunk(b"IHDR", head)]
    parts += [] if clear is None else [chunk(b"tRNS", struct.pack(">H", clear))]
    return b"".join([*parts, chunk(b"IDAT", zlib.compress(row * height)), chunk(b"IEND", b"")])


def ruled(size: tuple[int, int], step: int, mode: str) -> Image.Image:
    """White paper with a black line, one pixel wide, every so many pixels."""
    made = Image.new("L", size, 255)
    for x in range(step // 2, size[0], step):
        made.paste(0, (x, 0, x + 1, size[1]))
    return made.convert(mode)


def red_for_green() -> bytes:
    """The profile of a device whose red is sRGB's green, and the other way round."""
    made = bytearray(srgb())
    red, green = made.index(b"rXYZ"), made.index(b"gXYZ")
    made[red : red + 4], made[green : green + 4] = b"gXYZ", b"rXYZ"
    return bytes(made)


@cache
def srgb() -> bytes:
    """The profile of sRGB, which holds the time at which it was made."""
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def noise(size: tuple[int, int]) -> Image.Image:
    """A picture that no format makes small; the same each time."""
    return Image.frombytes("RGB", size, random.Random(7).randbytes(size[0] * size[1] * 3))
