"""Files of pictures: opened within bounds, named when they are none, and without what is not the picture."""

from __future__ import annotations

import io
import logging
import re
import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image as Pillow
from PIL import ImageFile, UnidentifiedImageError, features

from safemt_client.providers.errors import InputError

__all__ = ["TYPES", "ImageError", "bare", "contents", "opened", "read_through"]

TYPES = {"JPEG": "image/jpeg", "PNG": "image/png", "WEBP": "image/webp", "GIF": "image/gif"}
"""What models are sent: formats, as Pillow names them, with their media types."""
_MAX_PIXELS = 100_000_000
_MAX_OF_HUNGRY = 50_000_000
"""Of AVIF and JPEG 2000, whose decoders take twice the memory for a pixel."""
_MAX_FILE = 64 * 2**20
# What Pillow's readers raise for files that were made to break them.
_BROKEN = (
    *(OSError, ValueError, SyntaxError, EOFError, LookupError, TypeError, ArithmeticError, AttributeError),
    *(MemoryError, RuntimeError, struct.error, zlib.error),
)
# What Pillow logs of broken files is said by the errors.
logging.getLogger("PIL").addHandler(logging.NullHandler())


class ImageError(InputError):
    """An image cannot be sent. The line names the item and the file."""


def contents(path: Path) -> bytes:
    """The bytes of a picture's file.

    Raises:
        OSError: it cannot be read.
        ImageError: it is too large.
    """
    if path.stat().st_size > _MAX_FILE:
        raise ImageError(f"larger than {_MAX_FILE} bytes")
    return path.read_bytes()


@contextmanager
def opened(raw: bytes, formats: tuple[str, ...] | None = None) -> Iterator[ImageFile.ImageFile]:
    """The picture of a file, of a size that can be read. Its pixels are read by `load`.

    Raises:
        ImageError: it is no picture, broken, or has too many pixels; the reason alone. So does whatever is
            done with it inside.
    """
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=r"PIL\.")
            with Pillow.open(io.BytesIO(raw), formats=formats or _formats()) as picture:
                most = _MAX_OF_HUNGRY if picture.format in ("AVIF", "JPEG2000") else _MAX_PIXELS
                if picture.width * picture.height > most:
                    raise ImageError(f"{picture.width} x {picture.height} pixels is too large")
                yield picture
    except ImageError:
        raise
    except UnidentifiedImageError:
        raise ImageError(_named(raw)) from None
    except Pillow.DecompressionBombError:
        raise ImageError("too many pixels (decompression bomb)") from None
    except _BROKEN as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ImageError(f"broken image: {reason}") from None


def read_through(picture: ImageFile.ImageFile, raw: bytes) -> None:
    """Have all of a picture's file decoded, so that what is broken in it is found. Its pixels are of no use.

    Of a JPEG every code is read, and of the 64 pixels of a block one is computed: a file is cut or broken in
    its codes, and computing the other pixels takes as long again.

    Raises:
        OSError: it is truncated or broken.
    """
    if picture.format == "JPEG" and _in_blocks(raw):
        picture.draft(None, (1, 1))
    picture.load()


_FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
"""The markers of a JPEG that say how its pixels are coded."""
_IN_BLOCKS = {0xC0, 0xC1, 0xC2}
"""Those of blocks in Huffman codes, the usual ones: not every decoder can compute fewer pixels of others."""
_ALONE = {0x01, *range(0xD0, 0xDA)}
"""Markers that nothing follows; none of them belongs before the frame."""


def _in_blocks(raw: bytes) -> bool:
    """Whether it is certain that a JPEG's pixels are coded in the usual way."""
    at = 2
    while at + 4 <= len(raw) and raw[at] == 0xFF:
        marker = raw[at + 1]
        if marker in _FRAMES or marker in _ALONE:
            return marker in _IN_BLOCKS
        at += 1 if marker == 0xFF else 2 + int.from_bytes(raw[at + 2 : at + 4])
    return False


def _formats() -> tuple[str, ...]:
    """The formats that are read, by Pillow's names, MPO among JPEG; some builds lack the last two."""
    more = [name for name, feature in (("AVIF", "avif"), ("JPEG2000", "jpg_2000")) if features.check(feature)]
    return (*TYPES, "BMP", "TIFF", *more)


_HEIC = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"}
_NAMES = (
    (rb"\s*\Z", "empty file: copy it again"),
    (rb"version https://git-lfs", "not the picture but a Git LFS pointer to it: run git lfs pull"),
    (rb"(?i)\s*(<\?xml[^>]*>\s*|<!--.*?-->\s*|<!doctype svg.*?>\s*)*<svg\b", "SVG: convert it to PNG"),
    (rb"(?i)\s*<(!doctype html|html|head|body)\b", "not a picture but a web page (HTML): download it again"),
    (rb"(?s)....ftypavi[fs]", "AVIF, broken or not read by this Pillow: convert it to JPEG or PNG"),
    (rb"(?s)....ftyp(" + b"|".join(sorted(_HEIC)) + rb")", "HEIC is not read: convert it to JPEG or PNG"),
    (rb"(?s)....ftyp", "a film, not a picture: save a frame of it as JPEG or PNG"),
    (rb"(?s)\xff\x0a|\0\0\0\x0cJXL ", "JPEG XL is not read: convert it to JPEG or PNG"),
    (
        rb"(?s)\xff\x4f\xff\x51|\0\0\0\x0cjP",
        "JPEG 2000, broken or not read by this Pillow: convert it",
    ),
    (
        rb"(?s)II[*+]\0|MM\0[*+]",
        "TIFF, broken or of a kind that is not read: save it as PNG",
    ),
    (rb"%PDF", "PDF: convert the page to PNG"),
    (rb"PK\x03\x04", "a zip archive, not a picture: unpack it"),
)


def _named(raw: bytes) -> str:
    """What a file is that is no picture, and what to do about it."""
    head = raw[:4096]
    for pattern, said in _NAMES:
        if re.match(pattern, head):
            return said
    return "not a JPEG, PNG, WebP, GIF, AVIF, BMP, TIFF or JPEG 2000 image"


def bare(raw: bytes, kind: str) -> bytes | None:
    """The file with its picture alone, its compressed pixels as they are; `raw` itself if that is all.

    What is left out: EXIF, XMP, IPTC, comments and other texts, thumbnails, what follows the picture, and the
    later frames of a PNG or MPO. Colour profiles stay. None where this needs the pixels to be encoded anew.
    """
    try:
        parts = _PARTS[kind](raw)
    except (IndexError, struct.error):
        parts = None
    if parts is None:
        return None
    made = b"".join(parts)
    return raw if made == raw else made


_JPEG_TEXTS = (*range(0xE0, 0xF0), 0xFE)
"""The markers of applications' segments and of comments."""
_ENTROPY_END = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
"""What ends compressed data: a marker that is neither a stuffed zero, nor a restart, nor a filler."""


def _jpeg(raw: bytes) -> list[bytes] | None:
    """The segments that decoding needs: JFIF and Adobe tell the kind of colours, ICC their profile."""
    parts, at = [raw[:2]], 2
    while at + 4 <= len(raw) and raw[at] == 0xFF:
        marker = raw[at + 1]
        if marker == 0xFF:
            at += 1
            continue
        if marker == 0xD9:
            return [*parts, raw[at : at + 2]]
        end = at + 2 + int.from_bytes(raw[at + 2 : at + 4])
        segment = raw[at:end]
        if marker == 0xDA:
            found = _ENTROPY_END.search(raw, end)
            if found is None:
                return None
            parts.append(raw[at : found.start()])
            end = found.start()
            if raw[end + 1] == 0xD9:
                return [*parts, raw[end : end + 2]]
        elif marker in (0xE0, 0xEE) or segment[4:16] == b"ICC_PROFILE\0" or marker not in _JPEG_TEXTS:
            parts.append(segment)
        at = end
    return None


_PNG_KEPT = {
    *(b"IHDR", b"PLTE", b"IDAT", b"tRNS", b"gAMA", b"cHRM", b"sRGB", b"iCCP", b"cICP", b"sBIT", b"bKGD"),
    *(b"pHYs", b"hIST"),
}
_PNG_END = b"\0\0\0\0IEND\xaeB`\x82"


def _png(raw: bytes) -> list[bytes] | None:
    """The chunks of the picture, closed even where the file is not."""
    parts, at = [raw[:8]], 8
    while at + 12 <= len(raw):
        length, name = struct.unpack_from(">I4s", raw, at)
        if name == b"IEND":
            break
        if name in _PNG_KEPT:
            parts.append(raw[at : at + 12 + length])
        at += 12 + length
    return [*parts, _PNG_END]


_WEBP_KEPT = {b"VP8X", b"VP8 ", b"VP8L", b"ALPH", b"ICCP"}
_WEBP_TEXTS = 0x08 | 0x04
"""The bits of a VP8X header that announce EXIF and XMP."""


def _webp(raw: bytes) -> list[bytes] | None:
    """The chunks of the picture, under a header that announces no others; not of an animation."""
    parts, at = [], 12
    end = min(len(raw), 8 + int.from_bytes(raw[4:8], "little"))
    while at + 8 <= end:
        name, length = struct.unpack_from("<4sI", raw, at)
        after = at + 8 + length + length % 2
        chunk = raw[at:after]
        if name == b"VP8X":
            chunk = chunk[:8] + bytes([chunk[8] & ~_WEBP_TEXTS]) + chunk[9:]
        elif name in (b"ANIM", b"ANMF"):
            return None
        if name in _WEBP_KEPT:
            parts.append(chunk)
        at = after
    body = b"".join(parts)
    return [raw[:4], struct.pack("<I", len(body) + 4), b"WEBP", body]


def _gif(raw: bytes) -> list[bytes] | None:
    """The blocks of the picture: no comments, texts and applications' blocks but the count of repetitions."""
    at = 13 + _gif_table(raw[10])
    parts = [raw[:at]]
    while at < len(raw) and raw[at] in b"!,":
        start = at
        if raw[at] == 0x2C:
            at += 10 + _gif_table(raw[at + 9]) + 1
            kept = True
        else:
            kept = raw[at + 1] == 0xF9 or raw[at + 3 : at + 11] in (b"NETSCAPE", b"ANIMEXTS")
            at += 2
        while at < len(raw) and raw[at]:
            at += raw[at] + 1
        at += 1
        if kept:
            parts.append(raw[start:at])
    return [*parts, b";"] if at <= len(raw) else None


def _gif_table(flags: int) -> int:
    """The bytes of a table of colours that these flags announce."""
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0


_PARTS = {"JPEG": _jpeg, "MPO": _jpeg, "PNG": _png, "WEBP": _webp, "GIF": _gif}
