"""Images as they are sent: verified, with their true type, upright, and scaled down only when needed."""

from __future__ import annotations

import hashlib
import io
import struct
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path

from PIL import Image as Pillow
from PIL import ImageOps

from safemt_client.providers.errors import InputError
from safemt_client.providers.types import Image

__all__ = ["DEFAULT_MAX_BYTES", "DEFAULT_MAX_EDGE", "ImageError", "blank", "prepare"]

DEFAULT_MAX_EDGE = 2048
"""Longest edge in pixels; hosted vision models scale larger images down themselves."""
DEFAULT_MAX_BYTES = 4_000_000
"""Largest file in bytes: below the 5 MB that the strictest hosted endpoint accepts."""

_MAX_PIXELS = 100_000_000
_MAX_FILE = 64 * 2**20
_TYPES = {"JPEG": "image/jpeg", "PNG": "image/png", "WEBP": "image/webp", "GIF": "image/gif"}
_ORIENTATION = 0x0112
# What Pillow's readers raise for files that were made to break them.
_BROKEN = (
    *(OSError, ValueError, SyntaxError, EOFError, LookupError, TypeError, ArithmeticError, AttributeError),
    *(MemoryError, RecursionError, struct.error, zlib.error),
)


class ImageError(InputError):
    """An image cannot be sent. The line names the item and the file."""


def prepare(path: Path, *, max_edge: int, max_bytes: int, item: str) -> Image:
    """Verify an image and describe what is sent; its bytes are read again when they are needed.

    A file within the limits and upright is sent as it is. Others are turned upright and scaled
    down, and sent as JPEG, or as PNG if they are PNG and fit.

    Raises:
        ImageError: not an image of a type that models accept, truncated, or too large to open.
    """

    def make() -> tuple[bytes, str, tuple[int, int]]:
        return _encode(path, max_edge, max_bytes, item)

    data, media_type, (width, height) = make()
    digest = hashlib.sha256(data).hexdigest()
    return Image(digest, media_type, len(data), width, height, _loader(make, digest, path, item))


def blank(image: Image) -> Image:
    """A grey image of the same size, for the ablation `--images blank`."""

    def make() -> bytes:
        out = io.BytesIO()
        Pillow.new("RGB", (image.width, image.height), (128, 128, 128)).save(out, "PNG")
        return out.getvalue()

    data = make()
    digest = hashlib.sha256(data).hexdigest()
    return Image(digest, "image/png", len(data), image.width, image.height, make)


def _loader(
    make: Callable[[], tuple[bytes, str, tuple[int, int]]], digest: str, path: Path, item: str
) -> Callable[[], bytes]:
    def load() -> bytes:
        data = make()[0]
        if hashlib.sha256(data).hexdigest() != digest:
            raise ImageError(f"item {item!r}: {path}: the image has changed since the run began: restore it")
        return data

    return load


def _encode(path: Path, max_edge: int, max_bytes: int, item: str) -> tuple[bytes, str, tuple[int, int]]:
    try:
        if path.stat().st_size > _MAX_FILE:
            raise ImageError(f"item {item!r}: {path}: larger than {_MAX_FILE} bytes")
        raw = path.read_bytes()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Pillow.DecompressionBombWarning)
            with Pillow.open(io.BytesIO(raw), formats=list(_TYPES)) as opened:
                kind = opened.format or ""
                if opened.width * opened.height > _MAX_PIXELS:
                    raise ImageError(
                        f"item {item!r}: {path}: {opened.width} x {opened.height} pixels is too large"
                    )
                opened.load()
                upright = opened.getexif().get(_ORIENTATION, 1) == 1
                if upright and max(opened.size) <= max_edge and len(raw) <= max_bytes:
                    return raw, _TYPES[kind], opened.size
                picture = ImageOps.exif_transpose(opened)
    except ImageError:
        raise
    except Pillow.DecompressionBombError:
        raise ImageError(f"item {item!r}: {path}: too many pixels (decompression bomb)") from None
    except _BROKEN as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        reason = "not a JPEG, PNG, WebP or GIF image" if "cannot identify" in reason else reason
        raise ImageError(f"item {item!r}: {path}: broken image: {reason}") from None
    edge = min(max_edge, max(picture.size))
    while True:
        small = picture.copy()
        small.thumbnail((edge, edge), Pillow.Resampling.LANCZOS)
        out = io.BytesIO()
        if kind == "PNG":
            small.save(out, "PNG", optimize=True)
        else:
            small.convert("RGB").save(out, "JPEG", quality=90)
        if out.tell() > max_bytes and kind == "PNG":
            out = io.BytesIO()
            small.convert("RGB").save(out, "JPEG", quality=90)
            media_type = "image/jpeg"
        else:
            media_type = "image/png" if kind == "PNG" else "image/jpeg"
        if out.tell() <= max_bytes or edge <= 16:
            return out.getvalue(), media_type, small.size
        edge = edge * 3 // 4
