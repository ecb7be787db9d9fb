"""A chat request's own messages: what a guard is shown of them, and how a policy is added to them.

A guard is shown every text, wherever in a message it occurs. What it cannot be shown, such as a picture at
a web address, is replaced by a placeholder and counted.
"""

from __future__ import annotations

import base64
import hashlib
import io
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from PIL import Image as Pillow

from safemt_client.moderator.moderator import PolicyPlace, policy_after, policy_before
from safemt_client.providers.json_codec import dumps
from safemt_client.providers.types import Image, Message, Role

__all__ = ["Conversation", "NoChatError", "place_policy", "read_conversation", "said"]

_HIDDEN_PICTURE = "[a picture that is not shown]"
_ROLES: Mapping[object, Role] = {
    "system": "system",
    "developer": "developer",
    "user": "user",
    "assistant": "assistant",
}
_TEXT_PARTS = ("text", "input_text", "output_text")
_PICTURE_PARTS = ("image_url", "input_image")
# Binary data of other kinds, which would only fill a guard's context.
_HIDDEN_PARTS = ("input_audio", "audio", "audio_url", "video", "video_url", "file", "input_file")
# Entries of a message without content; any other text is shown.
_SAY_NOTHING = ("role", "name", "id", "tool_call_id", "type", "status", "object")
_TYPES = {"JPEG": "image/jpeg", "PNG": "image/png", "WEBP": "image/webp", "GIF": "image/gif"}


class NoChatError(ValueError):
    """The messages are not those of a chat request. The message is one line."""


@dataclass(frozen=True, slots=True)
class Conversation:
    """What a guard is shown; `hidden` counts the pictures and other parts that it is not shown."""

    messages: tuple[Message, ...]
    hidden: int = 0


@dataclass
class _Seen:
    texts: list[str] = field(default_factory=list)
    images: list[Image] = field(default_factory=list)
    hidden: int = 0

    def hide(self, placeholder: str) -> None:
        self.texts.append(placeholder)
        self.hidden += 1


def read_conversation(messages: object) -> Conversation:
    """The messages of a request as they are shown to a guard.

    A tool's message, or one of any other role, is shown as the user's, preceded by its role. So are
    instructions at the end of the conversation, since a guard assesses conversations that end with a user's
    message.

    Raises:
        NoChatError: they are not a list of messages.
    """
    if not isinstance(messages, list) or not messages:
        raise NoChatError("messages must be a list of at least one message")
    read: list[Message] = []
    hidden = 0
    for message in messages:
        if not isinstance(message, dict) or not isinstance(message.get("role"), str):
            raise NoChatError("each message must be an object with a role")
        seen = _see(message)
        hidden += seen.hidden
        text, role = "\n".join(seen.texts), message["role"]
        if role not in _ROLES:
            text = f"[{role}]\n{text}"
        read.append(Message(_ROLES.get(role, "user"), text, tuple(seen.images)))
    for place in reversed(range(len(read))):
        if read[place].role not in ("system", "developer"):
            break
        text = f"[instructions to the assistant]\n{read[place].text}"
        read[place] = Message("user", text, read[place].images)
    return Conversation(tuple(read), hidden)


def said(message: Mapping[str, Any]) -> str:
    """All that a model's message says: its text, its reasoning, its refusal and its tool calls.

    Raises:
        NoChatError: the content is neither a string nor a list of parts.
    """
    return "\n".join(_see(message).texts)


def place_policy(messages: Sequence[Any], policy: str, place: PolicyPlace) -> list[Any]:
    """The messages with a policy in its place, everything else as it was; see `with_policy`."""
    changed = list(messages)
    if place == "user":
        users = [at for at, message in enumerate(changed) if message["role"] == "user"]
        if users:
            message = changed[users[-1]]
            changed[users[-1]] = message | {"content": _before(message.get("content"), policy)}
            return changed
        # Without a user's message there is nothing to put it before.
        place = "system"
    if place == "system" and changed and changed[0]["role"] == "system":
        content = changed[0].get("content")
        if isinstance(content, list):
            after: Any = [*content, {"type": "text", "text": policy}]
        else:
            after = policy_after(content or "", policy)
        changed[0] = changed[0] | {"content": after}
        return changed
    return [{"role": place, "content": policy}, *changed]


def _before(content: Any, policy: str) -> Any:
    if not isinstance(content, list):
        return policy_before(content or "", policy)
    for at, part in enumerate(content):
        if isinstance(part, str):
            return [*content[:at], policy_before(part, policy), *content[at + 1 :]]
        if part.get("type") in _TEXT_PARTS and isinstance(part.get("text"), str):
            told = part | {"text": policy_before(part["text"], policy)}
            return [*content[:at], told, *content[at + 1 :]]
    return [*content, {"type": "text", "text": policy_before("", policy).strip()}]


def _see(message: Mapping[str, Any]) -> _Seen:
    seen = _Seen()
    for name, value in message.items():
        if name == "content":
            _see_content(value, seen)
        elif name == "tool_calls":
            seen.texts += [_call(call) for call in (value if isinstance(value, list) else [value]) if call]
        elif name == "function_call" and value:
            seen.texts.append(_call({"function": value}))
        elif name == "audio" and isinstance(value, dict) and value.get("transcript"):
            seen.texts.append(str(value["transcript"]))
        elif name not in _SAY_NOTHING and isinstance(value, str) and value:
            seen.texts.append(value)
    return seen


def _see_content(content: object, seen: _Seen) -> None:
    if isinstance(content, str):
        seen.texts.append(content)
    elif isinstance(content, list):
        for part in content:
            _see_part(part, seen)
    elif content is not None:
        raise NoChatError("the content of a message must be a string or a list of parts")


def _see_part(part: object, seen: _Seen) -> None:
    if isinstance(part, str):
        seen.texts.append(part)
        return
    if not isinstance(part, dict):
        raise NoChatError("each part of a message's content must be an object")
    kind = part.get("type")
    if kind in _TEXT_PARTS and isinstance(part.get("text"), str):
        seen.texts.append(part["text"])
    elif kind in _PICTURE_PARTS:
        named = part.get("image_url")
        image = _picture(named.get("url") if isinstance(named, dict) else named)
        if image is None:
            seen.hide(_HIDDEN_PICTURE)
        else:
            seen.images.append(image)
    elif kind in _HIDDEN_PARTS:
        seen.hide(f"[a part of type {kind} that is not shown]")
    else:
        # A kind that is not known here may still be a text to the model.
        seen.texts.append(_json(part))


def _call(call: object) -> str:
    function = call.get("function") if isinstance(call, dict) else None
    if isinstance(function, dict) and isinstance(function.get("arguments"), str):
        return f"[calls {function.get('name')}: {function['arguments']}]"
    return f"[calls {_json(call)}]"


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
