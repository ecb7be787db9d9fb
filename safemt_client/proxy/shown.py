"""What a guard is shown of a message, or of any other part of a body: every text, wherever it stands.

What it cannot be shown, such as a picture at a web address, is replaced by a placeholder and counted.
"""

from __future__ import annotations

import base64
import hashlib
import io
import re
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from PIL import Image as Pillow

from safemt_client.providers.json_codec import dumps
from safemt_client.providers.types import Image

__all__ = ["LABELS", "TEXT_PARTS", "InvalidChatError", "Shown", "speaks"]

TEXT_PARTS = ("text", "input_text", "output_text")
_PICTURE_PARTS = ("image_url", "input_image")
# Binary data of other kinds, which would only fill a guard's context.
_HIDDEN_PARTS = ("input_audio", "audio", "audio_url", "video", "video_url", "file", "input_file")
_HIDDEN_PICTURE, _HIDDEN_DATA = "[a picture that is not shown]", "[data that is not shown]"
LABELS = frozenset(
    (
        *("id", "object", "type", "role", "name", "index", "status", "format", "model", "provider"),
        *("tool_call_id", "call_id", "file_id", "response_id", "system_fingerprint", "service_tier"),
        *("finish_reason", "native_finish_reason", "stop_reason", "matched_stop", "detail", "version"),
        *("media_type", "mime_type", "encoding", "severity", "category", "probability", "code", "param"),
    )
)
"""A single word under one of these names says nothing of the conversation; a longer text there is shown."""

_WORD = re.compile(r"[!-~]{0,128}")
_DATA = re.compile(r"[!-~]*")
_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_BASE64 = re.compile(r"(?:data:[\w.+/;=-]{0,100},)?[A-Za-z0-9+/_=-]{200,}")
_ALTERNATIVES = "top_logprobs"
_TYPES = {"JPEG": "image/jpeg", "PNG": "image/png", "WEBP": "image/webp", "GIF": "image/gif"}


class InvalidChatError(ValueError):
    """The messages are not those of a chat request. The message is one line."""


@dataclass
class Shown:
    """What a guard is shown; `hidden` counts the pictures and other parts that it is not shown."""

    texts: list[str] = field(default_factory=list)
    images: list[Image] = field(default_factory=list)
    hidden: int = 0

    @property
    def text(self) -> str:
        """All texts, in their order."""
        return "\n".join(self.texts)

    def hide(self, placeholder: str) -> None:
        """Show a placeholder, and count it."""
        self.texts.append(placeholder)
        self.hidden += 1

    def add(self, other: Shown) -> None:
        """Show what another shows, too."""
        self.texts += other.texts
        self.images += other.images
        self.hidden += other.hidden

    def message(self, message: Mapping[str, Any]) -> None:
        """Show what a message says: its content, its reasoning, its tool calls and whatever else it has.

        Raises:
            InvalidChatError: the content is neither a string nor a list of parts.
        """
        for name, value in message.items():
            if name == "content":
                self._content(value)
            elif name == "tool_calls":
                for call in value if isinstance(value, list) else [value]:
                    self._call(call)
            elif name == "function_call" and isinstance(value, dict):
                self._call({"function": value})
            elif name == "audio" and isinstance(value, dict):
                self._audio(value)
            elif name == "images" and isinstance(value, list):
                self._content(value)
            elif isinstance(value, str) and name not in LABELS and _NAME.fullmatch(name):
                self.texts += [value] if value else []
            else:
                self.entry(name, value)

    def entries(self, content: Mapping[str, Any], *but: str) -> None:
        """Show the entries of an object, except those with these names."""
        for name, value in content.items():
            if name not in but:
                self.entry(name, value)

    def entry(self, name: str, value: object) -> None:
        """Show the texts of a value by its name, whatever its structure; nothing if it has none."""
        if name in LABELS and _is_word(value):
            return
        left = self._left(value)
        if left is not None:
            self.texts.append(f"[{name}: {left if isinstance(left, str) else _json(left)}]")
        elif not _NAME.fullmatch(name):
            self.texts.append(name)

    def logprobs(self, value: object, *, name: str = "logprobs") -> None:
        """Show what tokens spell, unless it is shown already; alternatives to them are only counted."""
        spelled = _spelled(value).strip()
        if spelled and spelled not in self.text:
            self.texts.append(f"[{name}: {spelled}]")
        self.hidden += _has_alternatives(value)

    def _content(self, content: object) -> None:
        if isinstance(content, str):
            self.texts.append(content)
        elif isinstance(content, list):
            for part in content:
                self._part(part)
        elif content is not None:
            raise InvalidChatError("the content of a message must be a string or a list of parts")

    def _part(self, part: object) -> None:
        if isinstance(part, str):
            self.texts.append(part)
            return
        if not isinstance(part, dict):
            raise InvalidChatError("each part of a message's content must be an object")
        kind = part.get("type")
        if kind in TEXT_PARTS and isinstance(part.get("text"), str):
            self.texts.append(part["text"])
            self.entries(part, "type", "text")
        elif kind in _PICTURE_PARTS:
            named = part.get("image_url")
            url = named.get("url") if isinstance(named, dict) else named
            image = _picture(url)
            if image is None:
                self.hide(_HIDDEN_PICTURE)
                self._beside_data(url)
            else:
                self.images.append(image)
            if isinstance(named, dict):
                self.entries(named, "url")
            self.entries(part, "type", "image_url")
        elif kind in _HIDDEN_PARTS:
            self.hide(f"[a part of type {kind} that is not shown]")
            self._beside_data(part)
        elif (left := self._left(part)) is not None:
            # A kind that is not known here may still be a text to the model.
            self.texts.append(_json(left))

    def _audio(self, audio: Mapping[str, Any]) -> None:
        if audio.get("transcript"):
            self.texts.append(str(audio["transcript"]))
        if audio.get("data"):
            self.hide("[a part of type audio that is not shown]")
        self._beside_data({name: value for name, value in audio.items() if name != "transcript"})

    def _beside_data(self, part: object) -> None:
        """Show what is said beside binary data: its strings without blanks are the data, or its place."""
        self.texts += [text for text in _strings(part) if not _DATA.fullmatch(text)]

    def _call(self, call: object) -> None:
        kind = "custom" if isinstance(call, dict) and "custom" in call else "function"
        called = call.get(kind) if isinstance(call, dict) else None
        if not isinstance(call, dict) or not isinstance(called, dict):
            left = self._left(call)
            self.texts += [] if left is None else [f"[calls {_json(left)}]"]
            return
        given = called.get("arguments", called.get("input"))
        self.texts.append(
            f"[calls {called.get('name')}: {given if isinstance(given, str) else _json(given)}]"
        )
        self.entries(called, "name", "arguments", "input")
        self.entries(call, kind)

    def _left(self, value: object) -> Any:
        """The value without what says nothing: labels, numbers, data; None if nothing is left."""
        if isinstance(value, str):
            if _BASE64.fullmatch(value):
                self.hidden += 1
                return _HIDDEN_DATA
            return value or None
        if isinstance(value, list):
            return [left for one in value if (left := self._left(one)) is not None] or None
        if isinstance(value, dict):
            told = {}
            for name, inner in value.items():
                if name in LABELS and _is_word(inner):
                    continue
                left = self._left(inner)
                if left is not None or not _NAME.fullmatch(name):
                    told[name] = left
            return told or None
        return None


def speaks(value: object) -> bool:
    """Whether a value has a text of more than one word in it."""
    return any(not _WORD.fullmatch(text) for text in _strings(value))


def _strings(value: object) -> Iterable[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for one in value:
            yield from _strings(one)
    elif isinstance(value, dict):
        for name, inner in value.items():
            yield name
            yield from _strings(inner)


def _spelled(value: object) -> str:
    """What the tokens of a structure spell one after the other."""
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        return "".join(map(_spelled, value))
    if not isinstance(value, dict):
        return ""
    chosen = {name: inner for name, inner in value.items() if name != _ALTERNATIVES}
    return "".join(
        ("" if _NAME.fullmatch(name) else name) + _spelled(inner) for name, inner in chosen.items()
    )


def _has_alternatives(value: object) -> bool:
    if isinstance(value, dict):
        return bool(value.get(_ALTERNATIVES)) or any(map(_has_alternatives, value.values()))
    return isinstance(value, list) and any(map(_has_alternatives, value))


def _is_word(value: object) -> bool:
    return isinstance(value, str) and _WORD.fullmatch(value) is not None


def _json(value: object) -> str:
    return dumps(value).decode()


def _picture(url: object) -> Image | None:
    """The picture of a data URL; None if it holds none that models accept. Nothing is fetched."""
    if not isinstance(url, str) or url[:5].lower() != "data:":
        return None
    try:
        data = _decode(url)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Pillow.DecompressionBombWarning)
            with Pillow.open(io.BytesIO(data), formats=list(_TYPES)) as opened:
                kind, (width, height) = opened.format or "", opened.size
    except (OSError, ValueError, SyntaxError, EOFError, Pillow.DecompressionBombError):
        return None
    digest = hashlib.sha256(data).hexdigest()
    # The bytes are decoded again when they are sent: the request holds them as text already.
    return Image(digest, _TYPES[kind], len(data), width, height, partial(_decode, url))


def _decode(url: str) -> bytes:
    head, comma, data = url.partition(",")
    if not comma or not head.lower().endswith(";base64"):
        raise ValueError("not a base64 data URL")
    return base64.b64decode(data)
