"""Images as they are sent: verified, with their true type, as they are meant to be seen, and within limits.

A file that every model sees as it is meant is sent as it is, without what it holds beside the picture.
"""

from __future__ import annotations

import hashlib
import io
import struct
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

from PIL import Image as Pillow
from PIL import ImageFile

from safemt_client.datasets.image_before import encode_as_before
from safemt_client.datasets.image_files import TYPES, ImageError, bare, contents, opened, read_through
from safemt_client.datasets.image_pixels import differs_from_srgb, encoded, meant, seen_through, upright
from safemt_client.providers.types import Image

__all__ = [
    "DEFAULT_MAX_BYTES",
    "DEFAULT_MAX_EDGE",
    "VERSION",
    "ImageError",
    "Preparation",
    "before",
    "blank",
    "find",
    "load_again",
    "look",
    "prepare",
    "prepare_as_before",
]

DEFAULT_MAX_EDGE = 2048
"""Longest edge in pixels; hosted vision models scale larger images down themselves."""
DEFAULT_MAX_BYTES = 4_000_000
"""Largest file in bytes: below the 5 MB that the strictest hosted endpoint accepts."""
VERSION = 2
"""The version of this preparation; `image_before` is 1."""

_ORIENTATION, _GPS = 0x0112, 0x8825
_START_OF_JPEG, _END_OF_JPEG = b"\xff\xd8", b"\xff\xd9"
_MODES = ("1", "L", "LA", "P", "RGB", "RGBA")
"""The pixels that every decoder shows alike."""
_KINDS = {media_type: kind for kind, media_type in TYPES.items()}
_LOSSLESS = ("PNG", "GIF", "BMP", "TIFF")
_TINY = 28
"""Pixels. Vision models cut a picture into squares of about this size."""
_EXTREME = 200
"""Long side over short side: https://github.com/QwenLM/Qwen2.5-VL refuses more."""


@dataclass(frozen=True, slots=True)
class Preparation:
    """How pictures are prepared: the settings `image_max_edge` to `image_truncated`, without their prefix."""

    max_edge: int = DEFAULT_MAX_EDGE
    max_bytes: int = DEFAULT_MAX_BYTES
    format: Literal["original", "common", "jpeg", "png"] = "original"
    metadata: Literal["strip", "keep"] = "strip"
    truncated: bool = False

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> Preparation:
        """That of a run's settings by their names; what is missing or None has its default."""
        named = {name: settings.get(f"image_{name}") for name in cls.__slots__}
        return cls(**{name: value for name, value in named.items() if value is not None})

    @property
    def existed_before(self) -> bool:
        """Whether the first preparation could be asked for the same."""
        return self.format == "original" and self.metadata == "strip"

    def sends(self, kind: str) -> bool:
        """Whether files of this format may be sent as they are."""
        kinds = {"original": tuple(TYPES), "common": ("JPEG", "PNG"), "jpeg": ("JPEG",), "png": ("PNG",)}
        return ("JPEG" if kind == "MPO" else kind) in kinds[self.format]

    def kinds(self, lossless: bool) -> tuple[str, ...]:
        """The formats that others are encoded in, the next one where the first does not fit."""
        if self.format in ("jpeg", "png"):
            return (self.format.upper(),)
        return ("PNG", "JPEG") if lossless else ("JPEG",)


@dataclass(frozen=True, slots=True)
class _Made:
    data: bytes
    media_type: str
    size: tuple[int, int]
    notes: tuple[str, ...] = ()


def prepare(path: Path, *, item: str, how: Preparation = Preparation()) -> Image:
    """Verify an image and describe what is sent; its bytes are read again when they are needed.

    Its `notes` say what was done to the picture and what is odd about it.

    Raises:
        ImageError: not an image, truncated, or too large to open.
    """
    return look(path, item=item, how=how)[0]


def look(path: Path, *, item: str, how: Preparation) -> tuple[Image, str]:
    """The image that `prepare` describes, and the SHA-256 of its file; raises as that does."""
    return _described(lambda raw: _encoded(raw, how), path, item, VERSION)


def load_again(path: Path, image: tuple[str, str], *, item: str, how: Preparation) -> bytes:
    """The bytes of an image that was prepared before, as `Image.load` gives them.

    `image` is its hash and its media type.

    Raises:
        ImageError: the file is not as it was.
    """
    return _again(lambda raw: _encoded(raw, how), path, item, *image)


def prepare_as_before(path: Path, *, item: str, how: Preparation = Preparation()) -> Image:
    """The image as the first preparation sent it.

    Raises:
        ImageError: it did not.
    """

    def make(raw: bytes) -> _Made:
        return _Made(*encode_as_before(raw, how.max_edge, how.max_bytes))

    return _described(make, path, item, None)[0]


def blank(image: Image) -> Image:
    """A grey image of the same size, for the ablation `--images blank`."""

    def make() -> bytes:
        out = io.BytesIO()
        Pillow.new("RGB", (image.width, image.height), (128, 128, 128)).save(out, "PNG")
        return out.getvalue()

    data = make()
    return Image(_hash(data), "image/png", len(data), image.width, image.height, make, image.preparation)


def before(path: Path, image: Image, *, item: str, how: Preparation) -> Image | None:
    """What the first preparation sent of the file; None if it sent the same, or nothing."""
    try:
        if not how.existed_before or _hash(contents(path)) == image.sha256:
            return None
        earlier = prepare_as_before(path, item=item, how=how)
    except (ImageError, OSError):
        return None
    return None if earlier.sha256 == image.sha256 else earlier


def find(path: Path, sha256: str, how: Preparation) -> Image | None:
    """The image of this hash, if this version or an earlier one makes it of the file; a blank one too."""
    for made in (prepare, prepare_as_before):
        try:
            image = made(path, item=str(path), how=how)
        except ImageError:
            continue
        for one in (image, blank(image)):
            if one.sha256 == sha256:
                return one
    return None


def _described(
    make: Callable[[bytes], _Made], path: Path, item: str, version: int | None
) -> tuple[Image, str]:
    """The image that is made of a file, and the SHA-256 of the file."""
    with _named(path, item):
        raw = contents(path)
        made = make(raw)
    digest = _hash(made.data)
    load = partial(_again, make, path, item, digest, made.media_type)
    image = Image(digest, made.media_type, len(made.data), *made.size, load, version, made.notes)
    return image, digest if made.data is raw else _hash(raw)


def _again(make: Callable[[bytes], _Made], path: Path, item: str, sha256: str, media_type: str) -> bytes:
    """The bytes that were made of a file before, of the file as it is now.

    Where the pixels were not encoded anew, the hash says that these are the bytes that were verified: they
    are not decoded again for each request.
    """
    with _named(path, item):
        raw = contents(path)
        if _hash(raw) == sha256:
            return raw
        kind = _KINDS.get(media_type)
        data = None if kind is None else bare(raw, kind)
        if data is None or data is raw or _hash(data) != sha256:
            data = make(raw).data
    if _hash(data) != sha256:
        raise ImageError(f"item {item!r}: {path}: the image has changed since the run began: restore it")
    return data


def _hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@contextmanager
def _named(path: Path, item: str) -> Iterator[None]:
    """Whatever is wrong with a file, said with its name and its item's."""
    try:
        yield
    except ImageError as error:
        raise ImageError(f"item {item!r}: {path}: {error}") from None
    except OSError as error:
        raise ImageError(f"item {item!r}: {path}: {error.strerror or error}") from None


def _encoded(raw: bytes, how: Preparation) -> _Made:
    try:
        return _encode(raw, how)
    except ImageError as error:
        if "is truncated" not in str(error):
            raise
        may_be_let_in = raw.startswith(_START_OF_JPEG) and not how.truncated
        fix = "--image-truncated sends what there is" if may_be_let_in else "copy it again"
        raise ImageError(f"{error}: {fix}") from None


def _encode(raw: bytes, how: Preparation) -> _Made:
    with opened(raw) as picture:
        notes = list(_odd(picture))
        made = _as_it_is(picture, raw, how)
        if made is None and _is_cut(picture, how):
            with opened(raw + _END_OF_JPEG) as whole:
                made = _anew(whole, raw, how)
            notes.append("truncated: the rest is grey")
        made = made or _anew(picture, raw, how)
    return _Made(made.data, made.media_type, made.size, (*notes, *made.notes, *_small(made.size)))


def _as_it_is(picture: ImageFile.ImageFile, raw: bytes, how: Preparation) -> _Made | None:
    """The file, or what is left of it without metadata, if it is seen as it is meant and fits."""
    kind = picture.format or ""
    if not how.sends(kind) or max(picture.size) > how.max_edge or _orientation(picture) > 1:
        return None
    several = kind != "JPEG" and bool(getattr(picture, "is_animated", False))
    data = bare(raw, kind) if how.metadata == "strip" or several else raw
    if data is None or len(data) > how.max_bytes:
        return None
    try:
        with opened(data) as sent:
            kind = sent.format or ""
            if kind not in TYPES or getattr(sent, "is_animated", False) or sent.mode not in _MODES:
                return None
            if sent.size != picture.size or differs_from_srgb(sent):
                return None
            read_through(sent, data)
            if seen_through(sent) is not None:
                return None
    except ImageError:
        return None  # said when the pixels are read for encoding them anew
    return _Made(data, TYPES[kind], picture.size, _left_out(picture, raw, data))


def _anew(picture: ImageFile.ImageFile, raw: bytes, how: Preparation) -> _Made:
    """The picture of its pixels, as they are meant."""
    kind = picture.format or ""
    lossless = kind in _LOSSLESS or (kind == "WEBP" and b"VP8L" in raw[:4096])
    picture.load()
    orientation, found = _orientation(picture), _exif(picture)
    found.pop(_ORIENTATION, None)
    keeps = how.metadata == "keep" and kind != "TIFF" and len(found)
    exif = found.tobytes() if keeps else b""
    metadata = _metadata(picture) if how.metadata == "strip" else ()
    flat, notes = meant(picture)
    flat = upright(flat, orientation)
    data, made, size = encoded(
        flat, how.kinds(lossless), max_edge=how.max_edge, max_bytes=how.max_bytes, exif=exif
    )
    did = [*notes, *metadata]
    did += ["turned upright"] if orientation > 1 else []
    did += ["scaled down"] if size != flat.size else []
    did += [f"{kind} as {made}"] if kind != made else []
    return _Made(data, TYPES[made], size, tuple(did))


def _exif(picture: Pillow.Image) -> Pillow.Exif:
    """The picture's EXIF; empty where it cannot be read, which takes nothing from the pixels."""
    try:
        return picture.getexif()
    except (SyntaxError, struct.error, ValueError, LookupError, TypeError):
        return Pillow.Exif()


def _orientation(picture: Pillow.Image) -> int:
    """How the camera was turned, 1 to 8; other values say nothing."""
    found = _exif(picture).get(_ORIENTATION)
    return found if isinstance(found, int) and found in range(1, 9) else 1


def _is_cut(picture: ImageFile.ImageFile, how: Preparation) -> bool:
    if not how.truncated or picture.format not in ("JPEG", "MPO"):
        return False
    try:
        picture.load()
    except OSError:
        return True
    return False


def _odd(picture: ImageFile.ImageFile) -> list[str]:
    """What is not seen of the file, and shapes that models may not take."""
    several = bool(getattr(picture, "is_animated", False)) and picture.format != "MPO"
    found = ["first frame of several"] if several else []
    long, short = max(picture.size), min(picture.size)
    return [*found, *([f"over {_EXTREME} times as long as wide"] if long > _EXTREME * short else [])]


def _small(size: tuple[int, int]) -> list[str]:
    return [f"a side under {_TINY} pixels"] if min(size) < _TINY else []


def _left_out(picture: ImageFile.ImageFile, raw: bytes, data: bytes) -> tuple[str, ...]:
    """How what is sent of a file differs from it."""
    if data is raw:
        return ()
    if len(data) > len(raw):
        return ("missing end added",)
    did = [*_metadata(picture), *(["MPO as JPEG"] if picture.format == "MPO" else [])]
    return tuple(did) if did or getattr(picture, "is_animated", False) else ("other data left out",)


def _metadata(picture: ImageFile.ImageFile) -> tuple[str, ...]:
    """What of a picture's metadata is not sent."""
    exif = _exif(picture)
    if _GPS in exif:
        return ("metadata with a position left out",)
    # The tags of a TIFF file are the picture's own.
    there = (len(exif) and picture.format != "TIFF") or "xmp" in picture.info
    return ("metadata left out",) if there else ()
