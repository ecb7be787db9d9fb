"""The pixels of a picture as they are meant: 8 bits, in sRGB, on white and upright; then encoded to fit."""

from __future__ import annotations

import io
from collections.abc import Sequence
from functools import cache, lru_cache

from PIL import Image as Pillow
from PIL import ImageChops, ImageCms

__all__ = ["differs_from_srgb", "encoded", "meant", "seen_through", "upright"]

_DEEP = ("I;16", "I;16L", "I;16B", "I;16N")
_WIDE = ("I", "F")
"""Pixels of 32 bits, whole or fractions."""
_AT_ONCE = 2**20
"""Pixels of 32 bits that are looked at together."""
_TOLERANCE = 4
"""The most, of 255, that a profile may move a colour and still count as sRGB: less than a new JPEG would."""


def seen_through(picture: Pillow.Image) -> Pillow.Image | None:
    """How opaque each pixel is, or None if all of them are."""
    if not picture.has_transparency_data:
        return None
    if picture.mode in _DEEP:
        picture = _of_deep(picture)
    whole = picture if picture.mode in ("LA", "RGBA") else picture.convert("RGBA")
    opaque = whole.getchannel("A")
    return None if opaque.getextrema()[0] == 255 else opaque


def meant(picture: Pillow.Image) -> tuple[Pillow.Image, tuple[str, ...]]:
    """The picture in grey or sRGB, what is transparent on white, and what was done in short words."""
    notes = []
    opaque = seen_through(picture)
    profile = picture.info.get("icc_profile")
    if picture.mode in _WIDE:
        picture = _of_wide(picture)
        notes.append("32 bits as 8, from its darkest to its lightest")
    if picture.mode in _DEEP:
        picture = _of_deep(picture)
        notes.append("16 bits as 8")
    if picture.mode == "CMYK":
        notes.append("CMYK as RGB")
    if profile and (converted := _in_srgb(_plain(picture, cmyk=True), profile)) is not None:
        notes.append("colours to sRGB")
        picture = converted
    picture = _plain(picture)
    if opaque is not None:
        ground = Pillow.new(picture.mode, picture.size, "white")
        ground.paste(picture, mask=opaque)
        picture = ground
        notes.append("transparent parts on white")
        if not _varies(picture):
            notes.append("one colour only")
    picture.info.clear()
    return picture, tuple(notes)


def _plain(picture: Pillow.Image, *, cmyk: bool = False) -> Pillow.Image:
    """Grey or RGB, without transparency; CMYK too where a profile is to convert it."""
    if picture.mode in ("L", "RGB") or (cmyk and picture.mode == "CMYK"):
        return picture
    if picture.mode in ("1", "LA", "La"):
        return picture.convert("L")
    if picture.mode in ("P", "PA"):
        # By way of RGBA, since a palette may give its colours an opacity.
        picture = picture.convert("RGBA")
    return picture.convert("RGB")


def _of_deep(picture: Pillow.Image) -> Pillow.Image:
    """Grey of 16 bits by its upper 8; one of its values may be transparent."""
    data = picture.tobytes()
    low = 1 if picture.mode == "I;16B" else 0
    grey = Pillow.frombytes("L", picture.size, data[1 - low :: 2])
    clear = picture.info.get("transparency")
    if not isinstance(clear, int):
        return grey
    rest = Pillow.frombytes("L", picture.size, data[low::2])
    same = [
        band.point([255 * (value == part) for value in range(256)])
        for band, part in ((grey, clear >> 8), (rest, clear & 255))
    ]
    opaque = Pillow.new("L", picture.size, 255)
    opaque.paste(0, mask=Pillow.composite(same[0], Pillow.new("L", picture.size, 0), same[1]))
    return Pillow.merge("LA", (grey, opaque))


def _of_wide(picture: Pillow.Image) -> Pillow.Image:
    """Grey of 32 bits, with its least value as black and its greatest as white.

    Nothing in such a file says which values these are. What is not a number is black.
    """
    import numpy as np

    step = max(1, _AT_ONCE // picture.width)
    strips = [
        (0, top, picture.width, min(top + step, picture.height)) for top in range(0, picture.height, step)
    ]
    low, high = np.inf, -np.inf
    for box in strips:
        values = np.asarray(picture.crop(box), dtype=np.float64)
        values = values[np.isfinite(values)]
        if values.size:
            low, high = min(low, float(values.min())), max(high, float(values.max()))
    grey = Pillow.new("L", picture.size)
    if high > low:
        for box in strips:
            values = np.asarray(picture.crop(box), dtype=np.float64)
            values = np.nan_to_num(values, nan=low, posinf=high, neginf=low)
            shares = (values - low) / (high - low)
            grey.paste(Pillow.fromarray(np.rint(255 * shares).astype(np.uint8)), box[:2])
    return grey


def _varies(picture: Pillow.Image) -> bool:
    """Whether there is anything to be seen."""
    return any(low != high for low, high in (band.getextrema() for band in picture.split()))


def differs_from_srgb(picture: Pillow.Image) -> bool:
    """Whether the picture has a profile under which its colours are not what sRGB makes of its numbers."""
    profile = picture.info.get("icc_profile")
    return bool(profile) and _differs(picture.mode, profile or b"")


@lru_cache(64)
def _differs(mode: str, profile: bytes) -> bool:
    # The pictures of one camera have one profile, and to try it takes longer than to decode a photograph.
    return _in_srgb(_sample(mode), profile) is not None


@cache
def _sample(mode: str) -> Pillow.Image:
    """Colours from all over a mode's range."""
    if mode in ("1", "L", "LA"):
        return Pillow.frombytes("L", (256, 1), bytes(range(256)))
    steps = range(0, 256, 51)
    colours = [(r, g, b) for r in steps for g in steps for b in steps]
    return Pillow.frombytes("RGB", (len(colours), 1), bytes(value for colour in colours for value in colour))


def _in_srgb(picture: Pillow.Image, profile: bytes) -> Pillow.Image | None:
    """The picture in sRGB by its profile; None if it is so already, or the profile says nothing of it."""
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        space = source.profile.xcolor_space.strip()
        if space == "RGB" and picture.mode == "L":
            picture = picture.convert("RGB")
        if {"GRAY": "L", "RGB": "RGB", "CMYK": "CMYK"}.get(space) != picture.mode:
            return None
        change = ImageCms.buildTransform(source, ImageCms.createProfile("sRGB"), picture.mode, "RGB")
        if picture.mode != "CMYK":
            sample = _sample(picture.mode)
            made = ImageCms.applyTransform(sample, change)
            if made is not None and _near(sample.convert("RGB"), made):
                return None
        return ImageCms.applyTransform(picture, change)
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return None


def _near(one: Pillow.Image, other: Pillow.Image) -> bool:
    bands = ImageChops.difference(one, other).split()
    return max(value for band in bands for value in band.tobytes()) <= _TOLERANCE


def encoded(
    picture: Pillow.Image, kinds: Sequence[str], *, max_edge: int, max_bytes: int, exif: bytes = b""
) -> tuple[bytes, str, tuple[int, int]]:
    """The bytes, their format and size: the first of the formats that fits, scaled down as far as needed."""
    edge = min(max_edge, max(picture.size))
    while True:
        small = picture.copy() if max(picture.size) > edge else picture
        small.thumbnail((edge, edge), Pillow.Resampling.LANCZOS)
        for kind in kinds:
            out = io.BytesIO()
            if kind == "PNG":
                small.save(out, "PNG", optimize=True, exif=exif)
            else:
                small.convert("RGB").save(out, "JPEG", quality=90, exif=exif)
            if out.tell() <= max_bytes:
                return out.getvalue(), kind, small.size
        if edge <= 16:
            return out.getvalue(), kind, small.size
        edge = edge * 3 // 4


def upright(picture: Pillow.Image, orientation: int) -> Pillow.Image:
    """The picture turned as its EXIF orientation says; another value than 2 to 8 says nothing."""
    turns = Pillow.Transpose
    turn = {
        2: turns.FLIP_LEFT_RIGHT,
        3: turns.ROTATE_180,
        4: turns.FLIP_TOP_BOTTOM,
        5: turns.TRANSPOSE,
        6: turns.ROTATE_270,
        7: turns.TRANSVERSE,
        8: turns.ROTATE_90,
    }.get(orientation)
    return picture if turn is None else picture.transpose(turn)
