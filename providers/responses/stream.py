"""Server-sent events of a chat completion, read into the body that the same reply would have as a whole.

Some endpoints stream although they were not asked to, and some models can only stream.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import groupby
from typing import Any

from safemt_client.providers.json_codec import loads
from safemt_client.providers.responses.fields import count, text_of
from safemt_client.providers.responses.finish_reasons import ending_of
from safemt_client.providers.responses.reasoning import words_of

__all__ = ["is_stream", "whole"]

_BEGIN = re.compile(rb"[\s\xef\xbb\xbf]*(data|event|id|retry)?:")
_LINE_BREAK = re.compile(rb"\r\n|\n|\r")
# DashScope puts the status of an error into a comment.
_STATUS = re.compile(rb"HTTP_STATUS/([45]\d\d)")
_DONE = b"[DONE]"
_JOINED = ("index", "delta", "message", "logprobs")
_BROKEN = {"message": "the stream ended before the reply did", "type": "broken_stream"}


def is_stream(body: bytes, content_type: str = "") -> bool:
    """Whether a body consists of server-sent events, whatever its content type says."""
    if _BEGIN.match(body[:100]):
        return True
    return content_type.lower().startswith("text/event-stream") and body.lstrip()[:1] not in (b"{", b"[")


def whole(body: bytes) -> dict[str, Any] | None:
    """The body of a chat completion with all that its chunks say; None if there is nothing to read in it.

    An error within the stream is its `error`. A choice without a finish reason, in a stream that does not say
    that it is done, has an `error` of its own.
    """
    content: dict[str, Any] = {}
    choices: dict[int, _Choice] = {}
    done = False
    for kind, data in _events(body):
        if data.strip() == _DONE:
            done = True
            continue
        try:
            chunk = loads(data)
        except ValueError:
            continue  # cut off, or not for us
        if (error := _error_of(kind, chunk)) is not None:
            content.setdefault("error", error)
        if not isinstance(chunk, dict) or error is chunk:
            continue
        pieces = chunk.pop("choices", None)
        for piece in pieces if isinstance(pieces, list) else ():
            if isinstance(piece, dict):
                choices.setdefault(count(piece.get("index")) or 0, _Choice()).add(piece)
        if isinstance(pieces, list):
            content.setdefault("choices", [])
        content |= {name: value for name, value in chunk.items() if value is not None and name != "error"}
    if choices:
        content["choices"] = [choice.whole(done) for choice in choices.values()]
    elif content and not done:
        content.setdefault("error", _BROKEN)
    return content or None


class _Choice:
    """What the chunks say of one choice; the pieces are joined at the end, since they may be very many."""

    def __init__(self) -> None:
        self._said: dict[str, list[Any]] = {}
        self._messages: list[dict[str, Any]] = []
        self._rest: dict[str, Any] = {}
        self._logprobs: list[Any] = []

    def add(self, piece: dict[str, Any]) -> None:
        """A chunk's piece of the choice."""
        delta, message, logprobs = (piece.get(name) for name in ("delta", "message", "logprobs"))
        for name, value in delta.items() if isinstance(delta, dict) else ():
            if value is not None:
                self._said.setdefault(name, []).append(value)
        if isinstance(message, dict):
            self._messages.append(message)
        if isinstance(logprobs, dict) and isinstance(logprobs.get("content"), list):
            self._logprobs += logprobs["content"]
        self._rest |= {name: value for name, value in piece.items() if value and name not in _JOINED}

    def whole(self, done: bool) -> dict[str, Any]:
        """The choice as it would be in a body; `done` says that the stream came to its end."""
        message = {name: _sum(values) for name, values in self._said.items() if name != "role"}
        for name in {name for one in self._messages for name in one if name != "role"}:
            values = [one[name] for one in self._messages if one.get(name)]
            if values:
                message[name] = _latest([message[name], *values] if name in message else values)
        choice = self._rest | {"message": message}
        if self._logprobs:
            choice["logprobs"] = {"content": self._logprobs}
        if not done and ending_of(choice.get("finish_reason"), choice.get("native_finish_reason")) is None:
            choice.setdefault("error", _BROKEN)
        return choice


def _sum(values: list[Any]) -> Any:
    """Texts or lists of parts joined to one; what is neither is as it was said last."""
    if all(isinstance(value, str) for value in values):
        return "".join(values)
    if not all(isinstance(value, str | list) for value in values):
        return values[-1]
    flat = [
        part
        for value in values
        for part in (value if isinstance(value, list) else [{"type": "text", "text": value}])
    ]
    parts: list[Any] = []
    for kind, alike in groupby(flat, _kind):
        group = list(alike)
        parts += group if kind is None else [{"type": kind, "text": "".join(map(words_of, group))}]
    return parts


def _kind(part: Any) -> str | None:
    return text_of(part.get("type")) if isinstance(part, dict) and words_of(part) else None


def _latest(values: list[Any]) -> Any:
    """What messages say that come in pieces, or as a whole at the end or each time."""
    first, last = values[0], values[-1]
    if len(values) == 1 or not all(isinstance(value, str) for value in values) or last.startswith(first):
        return last
    return "".join(values)


def _events(body: bytes) -> Iterator[tuple[str, bytes]]:
    """The kind and the data of each event; some servers leave out the empty line between two of them."""
    kind, data = "", list[bytes]()
    for line in [*_LINE_BREAK.split(body.removeprefix(b"\xef\xbb\xbf")), b""]:
        field, _, value = line.partition(b":")
        field, value = field.strip(), value.removeprefix(b" ")
        if not line.strip():
            if data:
                yield kind, b"\n".join(data)
            kind, data = "", []
        elif not field and (status := _STATUS.search(value)):
            kind = f"error {status[1].decode()}"
        elif field == b"event":
            kind = kind or value.strip().decode("utf-8", "replace")
        elif field == b"error":
            yield "error", value  # llama.cpp
        elif field == b"data":
            if data and value.startswith((b"{", _DONE)) and _complete(b"\n".join(data)):
                yield kind, b"\n".join(data)
                data = []
            data.append(value)


def _complete(data: bytes) -> bool:
    try:
        return data.strip() == _DONE or loads(data) is not None
    except ValueError:
        return False


def _error_of(kind: str, chunk: Any) -> Any:
    """The error that an event states, None if it states none; the chunk itself if that is all it is."""
    if not isinstance(chunk, dict):
        return chunk if kind.startswith("error") else None
    if chunk.get("error"):
        return chunk["error"]
    alone = not chunk.get("choices")
    if alone and (kind.startswith("error") or "error" in (chunk.get("object"), chunk.get("type"))):
        if status := kind.removeprefix("error").strip():
            chunk |= {"code": int(status), "type": chunk.get("code")}
        return chunk
    return chunk if alone and "message" in chunk and chunk.keys() & {"code", "error_code"} else None
