"""The shapes of a conversation in a record: messages, ShareGPT's, parts, user turns alone, one question."""

from __future__ import annotations

import ast
import json
import warnings
from collections.abc import Mapping
from typing import Any

from safemt_client.datasets import pictures_in
from safemt_client.datasets.files import shown
from safemt_client.datasets.marks import Role, Said
from safemt_client.datasets.model import Oddity
from safemt_client.providers.errors import InputError

__all__ = ["CONVERSATIONS", "conversation", "is_record"]

CONVERSATIONS = ("dialogue", "messages", "conversations", "conversation", "turns")
"""The fields of a conversation; the first that a record has is read."""
_QUESTIONS = ("prompt", "question")
"""Without a conversation the first of these is the only turn."""
_MAX_LITERAL = 1_000_000
_ROLES: dict[str, Role] = {
    "user": "user",
    "human": "user",
    "system": "system",
    "assistant": "assistant",
    "gpt": "assistant",
    "model": "assistant",
    "bot": "assistant",
    "chatgpt": "assistant",
    "ai": "assistant",
}
_ROLE, _TEXT = ("role", "from", "speaker"), ("content", "value", "text")
_MESSAGE = {*_ROLE, *_TEXT, "label"}
_IN_PART = ("image_url", "image", "source", "url", "path", "data", "bytes", "base64")


def is_record(value: Any) -> bool:
    """Whether an object is a dialogue, and not one that contains records."""
    return isinstance(value, dict) and any(
        name in value and not _holds_records(value[name]) for name in (*CONVERSATIONS, *_QUESTIONS)
    )


def _holds_records(value: Any) -> bool:
    return isinstance(value, list) and any(is_record(entry) for entry in value)


def conversation(record: Mapping[str, Any], where: str, oddities: list[Oddity]) -> tuple[str, list[Said]]:
    """The field that has the conversation of a record, and its messages as they are given there.

    Raises:
        InputError: there is none, or it has a wrong shape.
    """
    # Some sets give the number of turns under such a name, and tables have columns that are not filled.
    found = [name for name in CONVERSATIONS if name in record and not isinstance(record[name], int | float)]
    if not found:
        return _one_turn(record, where, oddities)
    name = next((name for name in found if record[name] is not None), found[0])
    raw = record[name]
    if isinstance(raw, str):
        raw = _from_text(raw, f"{where}: field {name}")
    if not isinstance(raw, list) or not raw:
        raise InputError(f"{where}: field {name}: must be a list of messages")
    if name == "turns" and all(isinstance(entry, str) for entry in raw):
        return name, [Said("user", entry) for entry in raw]
    return name, [
        _plain(entry) or _message(entry, f"{where}: {name}[{n}]", oddities) for n, entry in enumerate(raw)
    ]


def _one_turn(record: Mapping[str, Any], where: str, oddities: list[Oddity]) -> tuple[str, list[Said]]:
    for name in _QUESTIONS:
        value = record.get(name)
        if isinstance(value, str) and value:
            oddities.append(Oddity("question as dialogue", where, f"no dialogue: {name} is the only turn"))
            return name, [Said("user", value)]
    raise InputError(f"{where}: field dialogue: must be a list of messages, and the record has none")


def _from_text(text: str, where: str) -> Any:
    """A dialogue given as a string: JSON, or a Python literal (parsed without running any code)."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        pass
    if len(text) > _MAX_LITERAL:
        raise InputError(f"{where}: {len(text)} characters of text that is not JSON")
    try:
        with warnings.catch_warnings():
            # Python warns of unknown escape sequences.
            warnings.simplefilter("ignore")
            return ast.literal_eval(text)
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
        by_numpy = text.startswith("array(") or "}\n {" in text
        fix = ": it is how NumPy shows an array: write it by json.dumps" if by_numpy else ""
        raise InputError(f"{where}: is neither JSON nor a Python literal{fix}") from None


def _plain(entry: Any) -> Said | None:
    """A message of a role and a text alone: by far the most are."""
    if type(entry) is dict and len(entry) == 2:
        role, content = entry.get("role"), entry.get("content")
        if type(role) is str and type(content) is str and role in _ROLES:
            return Said(_ROLES[role], content)
    return None


def _message(entry: Any, where: str, oddities: list[Oddity]) -> Said:
    if isinstance(entry, str):
        raise InputError(
            f"{where}: is a string: write role and content, or name the list 'turns' if all are the user's"
        )
    if not isinstance(entry, dict):
        raise InputError(f"{where}: is not a JSON object: write one with role and content")
    role_name, text_name = _first(entry, _ROLE), _first(entry, _TEXT)
    role, content = entry.get(role_name), entry.get(text_name)
    known = _ROLES.get(role.strip().lower()) if isinstance(role, str) else None
    if known is None:
        raise InputError(f"{where}: field {role_name}: must be user or assistant, not {shown(role)}")
    if isinstance(content, list):
        said = _parts(content, known, f"{where}: {text_name}", oddities)
    elif isinstance(content, str):
        said = Said(known, content)
    else:
        raise InputError(f"{where}: field {text_name}: must be a string")
    for name in pictures_in.picture_fields(entry):
        # `images` was read before there were other ways.
        said.as_written = said.as_written or (name == "images" and not isinstance(content, list))
        said.pictures += pictures_in.names_of(entry[name], f"{where}: field {name}")
    for name, value in entry.items():
        if (
            name not in _MESSAGE
            and not pictures_in.is_picture_field(name)
            and pictures_in.looks_like_picture(value)
        ):
            raise InputError(f"{where}: {pictures_in.unread(name)}")
    said.label = entry.get("label")
    if said.pictures and known != "user":
        raise InputError(f"{where}: field images: only user messages can have images")
    return said


def _first(entry: Mapping[str, Any], names: tuple[str, ...]) -> str:
    return next((name for name in names if entry.get(name) is not None), names[0])


def _parts(parts: list[Any], role: Role, where: str, oddities: list[Oddity]) -> Said:
    """A message in parts of text and pictures, as OpenAI, Anthropic and Hugging Face have them."""
    texts: list[str] = []
    pictures: list[str] = []
    for number, part in enumerate(parts):
        here = f"{where}[{number}]"
        if isinstance(part, str):
            texts.append(part)
            continue
        if not isinstance(part, dict):
            raise InputError(f"{here}: must be a part with type text or image_url")
        kind = part.get("type")
        if isinstance(part.get("text"), str) and kind in (None, "text", "input_text", "output_text"):
            texts.append(part["text"])
        elif kind in (None, "image", "image_url", "input_image"):
            given = next((part[name] for name in _IN_PART if part.get(name)), None)
            if given is None:
                # A place for one of the record's pictures.
                texts.append("<image>")
            elif any(text.strip() for text in texts):
                odd = "a picture follows a text in one message: pictures are sent before the text"
                oddities.append(Oddity("picture after text", where, odd))
            pictures += pictures_in.names_of(given, here)
        else:
            raise InputError(f"{here}: field type: {shown(kind)} cannot be sent: only text and image_url can")
    return Said(role, "\n".join(texts), pictures, in_parts=True)
