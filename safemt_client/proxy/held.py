"""A model's answer that is held back: all that it says, and the same answer with refusals in it.

It is read into objects and written anew from them, so that no comment, repeated field or odd event reaches a
client that was not read here. A stream is joined into one object in the form of a whole completion.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from safemt_client.providers.json_codec import dumps, loads
from safemt_client.proxy.shown import LABELS, Shown
from safemt_client.proxy.wire import refusing_choice, refusing_pieces, stream_of

__all__ = ["Held", "hold"]

# What a changed answer keeps, where it is no text: anything else may contain what was replaced.
_KEPT = ("id", "object", "created", "model", "usage", "system_fingerprint", "service_tier")
_LINES = re.compile(rb"\r\n|\n|\r")
_LOGPROBS = ("logprobs", "prompt_logprobs")
# Lists that some endpoints send with every piece of a stream, instead of continuing them.
_SENT_AGAIN = ("citations", "search_results", "prompt_filter_results")
_ERROR = {"message": "the upstream reported an error", "type": "upstream_error", "param": None, "code": None}
_MOST_IN_PARALLEL = 1024


class Held(ABC):
    """A complete answer that has not been forwarded yet.

    `said` is what each choice says, by its index; what the answer says outside its choices is part of each.
    """

    media_type: str
    said: dict[int, Shown]

    @property
    @abstractmethod
    def whole(self) -> bytes:
        """The answer as it came."""
        ...

    @abstractmethod
    def with_refusals(self, text: str, at: Iterable[int]) -> bytes:
        """The answer with this text in place of some choices, and nothing left of their content."""
        ...


def hold(raw: bytes, *, stream: bool) -> Held:
    """A model's answer, read.

    Raises:
        ValueError: it is not in the expected form, so what it says cannot be determined.
    """
    try:
        return _HeldStream(raw) if stream else _HeldCompletion(raw)
    except RecursionError:
        raise ValueError("nested too deeply") from None


class _HeldCompletion(Held):
    media_type = "application/json"

    def __init__(self, raw: bytes) -> None:
        self._content = _object(loads(raw))
        self._choices = _objects(self._content.get("choices"))
        self.said = _said(self._content, dict(enumerate(self._choices)))

    @property
    def whole(self) -> bytes:
        return dumps(self._content)

    def with_refusals(self, text: str, at: Iterable[int]) -> bytes:
        places = set(at)
        choices = [
            refusing_choice(index if isinstance(index := choice.get("index"), int) else place, text)
            if place in places
            else choice
            for place, choice in enumerate(self._choices or [{}])
        ]
        changed = {"object": "chat.completion"} | _kept(self._content) | {"choices": choices}
        if places < self.said.keys() and self._content.get("error"):
            changed["error"] = _ERROR
        return dumps(changed)


class _HeldStream(Held):
    media_type = "text/event-stream"

    def __init__(self, raw: bytes) -> None:
        self._chunks: list[dict[str, Any]] = []
        around: dict[str, Any] = {}
        again: dict[str, Any] = {}
        choices: dict[int, dict[str, Any]] = {}
        done = False
        for data in _data(raw):
            if done:
                raise ValueError("data after the end of the stream")
            if data.strip() == b"[DONE]":
                done = True
                continue
            chunk = _object(loads(data))
            self._chunks.append(chunk)
            for choice in _objects(chunk.get("choices")):
                _join(choices.setdefault(_index(choice), {}), choice)
            rest = {name: value for name, value in chunk.items() if name != "choices"}
            for name in _SENT_AGAIN:
                if name in rest and rest[name] == again.get(name):
                    del rest[name]
            again |= rest
            _join(around, rest)
        if raw.strip() and not self._chunks and not done:
            raise ValueError("no events in it")
        self.said = _said(_settled(around), _settled(choices))

    @property
    def whole(self) -> bytes:
        return stream_of(self._chunks)

    def with_refusals(self, text: str, at: Iterable[int]) -> bytes:
        places = set(at)
        first = next((chunk for chunk in self._chunks if chunk.get("choices")), {})
        frame = {"object": "chat.completion.chunk"} | _kept(first) | {"usage": None}
        if not any("usage" in chunk for chunk in self._chunks):
            del frame["usage"]
        pieces = [piece for place in sorted(places) for piece in refusing_pieces(place, text)]
        out = [frame | {"choices": [piece]} for piece in pieces]
        for chunk in self._chunks:
            choices = [choice for choice in chunk.get("choices") or [] if _index(choice) not in places]
            # A chunk without choices, such as the usage, stays; one with only replaced choices does not.
            if choices or not chunk.get("choices") or chunk.get("usage"):
                out.append(_kept(chunk) | {"choices": choices})
        if places < self.said.keys() and any(chunk.get("error") for chunk in self._chunks):
            # What is left is not whole, whoever worded it.
            out.append({"error": _ERROR})
        return stream_of(out)


def _said(around: Mapping[str, Any], choices: Mapping[int, dict[str, Any]]) -> dict[int, Shown]:
    """What each choice says; of an answer without any, what its only refusal takes the place of."""
    beside = Shown()
    _see_rest(beside, around, "choices")
    said: dict[int, Shown] = {}
    for index, choice in (choices or {0: {}}).items():
        seen = said[index] = Shown()
        for name in ("message", "delta"):
            if isinstance(choice.get(name), dict):
                seen.message(choice[name])
        if isinstance(choice.get("text"), str):
            seen.texts.append(choice["text"])
        known = [name for name in ("message", "delta") if isinstance(choice.get(name), dict)]
        _see_rest(seen, choice, *known, *(["text"] if isinstance(choice.get("text"), str) else []))
        seen.add(beside)
    return said


def _see_rest(seen: Shown, content: Mapping[str, Any], *but: str) -> None:
    seen.entries(content, *but, *_LOGPROBS)
    # Last, since tokens that spell what is shown already need not be shown again.
    for name in _LOGPROBS:
        seen.logprobs(content.get(name), name=name)


def _says(name: str, value: object) -> bool:
    seen = Shown()
    _see_rest(seen, {name: value})
    return bool(seen.texts or seen.hidden)


def _data(raw: bytes) -> Iterable[bytes]:
    """The data of each server-sent event."""
    lines: list[bytes] = []
    for line in _LINES.split(raw.removeprefix(b"\xef\xbb\xbf") + b"\n\n"):
        if not line:
            if lines:
                yield b"\n".join(lines)
            lines = []
        elif line.startswith(b"data:"):
            lines.append(line[5:].removeprefix(b" "))


@dataclass(eq=False)
class _Text:
    """A string that is continued: adding each piece to all before it would take quadratic time."""

    pieces: list[str]

    def whole(self) -> str:
        return "".join(self.pieces)


def _join(message: dict[str, Any], piece: Mapping[str, Any]) -> None:
    """Add a piece of an object to what came before it."""
    for name, value in piece.items():
        message[name] = _joined(name, message.get(name), value)


def _joined(name: str, before: Any, value: Any) -> Any:
    """What came before with a piece added. No text is lost, whatever the types; the piece is not changed."""
    if not isinstance(value, str | list | dict):
        return before if isinstance(before, _Text | list | dict) else value
    if not isinstance(before, _Text | list | dict):
        before = _Text([]) if isinstance(value, str) else type(value)()
    if isinstance(before, _Text) and isinstance(value, str):
        # An identity comes with every piece; some endpoints begin with an empty one.
        if not (name in LABELS and len(before.pieces) < 3 and before.whole() == value):
            before.pieces.append(value)
        return before
    if isinstance(before, dict) and isinstance(value, dict):
        _join(before, value)
        return before
    # Some endpoints switch between a string and a list of parts.
    return _merged(
        before if isinstance(before, list) else [before], value if isinstance(value, list) else [value]
    )


def _merged(before: list[Any], pieces: list[Any]) -> list[Any]:
    """A list with the pieces of a later one added to the entries that they continue."""
    earlier = len(before)
    for piece in pieces:
        place = _place(before[:earlier], piece)
        if place is None:
            before.append(_joined("", None, piece))
        else:
            before[place] = _joined("", before[place], piece)
    return before


def _place(before: list[Any], piece: object) -> int | None:
    """Where the entry is that a piece continues: of the same index, or else the last of the same type."""
    named = piece if isinstance(piece, dict) else {}
    mark = next((name for name in ("index", "type") if name in named), None)
    if mark == "index" and len(before) > _MOST_IN_PARALLEL:
        raise ValueError("too many parts in parallel")
    kind = _Text if isinstance(piece, str) else type(piece)
    for place in reversed(range(len(before))):
        entry = before[place]
        if not isinstance(entry, kind):
            continue
        if mark is None or (isinstance(entry, dict) and _settled(entry.get(mark)) == named[mark]):
            return place
    return None


def _settled(value: Any) -> Any:
    """The value with its strings as they are after the last piece."""
    if isinstance(value, _Text):
        return value.whole()
    if isinstance(value, list):
        return [_settled(one) for one in value]
    if isinstance(value, dict):
        return {name: _settled(inner) for name, inner in value.items()}
    return value


def _object(value: object) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError("not an object")
    return value


def _objects(value: object) -> list[dict[str, Any]]:
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(one, dict) for one in value):
        raise ValueError("not a list of objects")
    return value


def _index(entry: Mapping[str, Any]) -> int:
    index = entry.get("index", 0)
    if not isinstance(index, int) or index < 0:
        raise ValueError("an index that is not a number")
    return index


def _kept(content: Mapping[str, Any]) -> dict[str, Any]:
    return {name: content[name] for name in _KEPT if name in content and not _says(name, content[name])}
