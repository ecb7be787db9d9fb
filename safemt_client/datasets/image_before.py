"""The first preparation of images, kept unchanged: the replies of older stores are known by its hashes."""

from __future__ import annotations

import io

from PIL import Image as Pillow
from PIL import ImageOps

from safemt_client.datasets.image_files import TYPES, ImageError, opened

__all__ = ["encode_as_before"]

_ORIENTATION = 0x0112


def encode_as_before(raw: bytes, max_edge: int, max_bytes: int) -> tuple[bytes, str, tuple[int, int]]:
    """What was sent of a file: its bytes, the media type, and width and height.

    Raises:
        ImageError: it was not sent.
    """
    with opened(raw, tuple(TYPES)) as picture:
        kind = picture.format or ""
        if kind not in TYPES:
            raise ImageError(f"{kind} was not sent")
        picture.load()
        turned = picture.getexif().get(_ORIENTATION, 1) != 1
        if not turned and max(picture.size) <= max_edge and len(raw) <= max_bytes:
            return raw, TYPES[kind], picture.size
        return _smaller(ImageOps.exif_transpose(picture), kind == "PNG", max_edge, max_bytes)


def _smaller(
    picture: Pillow.Image, as_png: bool, max_edge: int, max_bytes: int
) -> tuple[bytes, str, tuple[int, int]]:
    edge = min(max_edge, max(picture.size))
    while True:
        small = picture.copy()
        small.thumbnail((edge, edge), Pillow.Resampling.LANCZOS)
        out, media_type = io.BytesIO(), "image/png"
        if as_png:
            small.save(out, "PNG", optimize=True)
        if not as_png or out.tell() > max_bytes:
            out, media_type = io.BytesIO(), "image/jpeg"
            small.convert("RGB").save(out, "JPEG", quality=90)
        if out.tell() <= max_bytes or edge <= 16:
            return out.getvalue(), media_type, small.size
        edge = edge * 3 // 4
