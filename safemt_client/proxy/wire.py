"""Answers in the form of OpenAI's chat API: refusals, errors, and a model's answer that is held back."""

from __future__ import annotations

import re
import time
import uuid
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from typing import Any

from safemt_client.providers.json_codec import as_dict, dumps, loads
from safemt_client.proxy.chat import said

__all__ = ["ApiError", "Held", "hold", "refusal", "refusal_stream", "wants_stream"]

_DONE = b"data: [DONE]\n\n"
# What a changed answer keeps: anything else may contain the replaced text.
_KEPT = ("id", "object", "created", "model", "usage", "system_fingerprint", "service_tier", "error")
_LINES = re.compile(rb"\r\n|\n|\r")
_MOST_CHOICES = 128


class ApiError(Exception):
    """An error that is answered in OpenAI's form, with these headers."""

    def __init__(
        self, status: int, kind: str, message: str, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.kind = kind
        self.headers = dict(headers or {})

    @property
    def body(self) -> bytes:
        """The JSON of the answer."""
        content = {"message": str(self), "type": self.kind, "param": None, "code": self.kind}
        return dumps({"error": content})


def wants_stream(body: Mapping[str, Any]) -> bool:
    """Whether the request asks for a stream."""
    return body.get("stream") is True


def refusal(body: Mapping[str, Any], text: str) -> bytes:
    """A completion that refuses, in answer to this request."""
    choices = [
        {
            "index": index,
            "message": {"role": "assistant", "content": text, "refusal": None},
            "logprobs": None,
            "finish_reason": "content_filter",
        }
        for index in range(_choices(body))
    ]
    return dumps(_frame(body, "chat.completion") | {"choices": choices, "usage": _no_usage()})


def refusal_stream(body: Mapping[str, Any], text: str) -> bytes:
    """A stream that refuses, in answer to this request."""
    frame = _frame(body, "chat.completion.chunk")
    chunks = [frame | {"choices": [choice]} for i in range(_choices(body)) for choice in _refusing(i, text)]
    if as_dict(body.get("stream_options")).get("include_usage") is True:
        chunks = [chunk | {"usage": None} for chunk in chunks]
        chunks.append(frame | {"choices": [], "usage": _no_usage()})
    return b"".join(map(_event, chunks)) + _DONE


class Held(ABC):
    """A complete answer that has not been forwarded yet; `said` is what each choice says, by its index."""

    def __init__(self, raw: bytes) -> None:
        self.raw = raw
        self.said: dict[int, str] = {}

    @abstractmethod
    def with_refusals(self, text: str, at: Iterable[int]) -> bytes:
        """The answer with this text in place of some choices, and nothing left of their content."""
        ...


def hold(raw: bytes, *, stream: bool) -> Held:
    """A model's answer, read.

    Raises:
        ValueError: it is not in the expected form, so what it says cannot be determined.
    """
    return _HeldStream(raw) if stream else _HeldCompletion(raw)


class _HeldCompletion(Held):
    def __init__(self, raw: bytes) -> None:
        super().__init__(raw)
        self._content = as_dict(loads(raw))
        self._choices = _objects(self._content.get("choices"))
        for place, choice in enumerate(self._choices):
            if not isinstance(message := choice.get("message"), dict):
                raise ValueError("a choice without a message")
            self.said[place] = said(message)

    def with_refusals(self, text: str, at: Iterable[int]) -> bytes:
        places = set(at)
        choices = [
            {
                "index": choice.get("index", place),
                "message": {"role": "assistant", "content": text, "refusal": None},
                "logprobs": None,
                "finish_reason": "content_filter",
            }
            if place in places
            else choice
            for place, choice in enumerate(self._choices)
        ]
        return dumps(_kept(self._content) | {"choices": choices})


class _HeldStream(Held):
    def __init__(self, raw: bytes) -> None:
        super().__init__(raw)
        self._chunks: list[dict[str, Any]] = []
        messages: dict[int, dict[str, Any]] = {}
        done = False
        for data in _data(raw):
            if done:
                raise ValueError("data after the end of the stream")
            if data.strip() == b"[DONE]":
                done = True
                continue
            chunk = loads(data)
            if not isinstance(chunk, dict):
                raise ValueError("a chunk that is not an object")
            self._chunks.append(chunk)
            for choice in _objects(chunk.get("choices") or []):
                message = messages.setdefault(_index(choice), {})
                pieces = [choice[name] for name in ("delta", "message") if choice.get(name) is not None]
                if isinstance(choice.get("text"), str):
                    pieces.append({"content": choice["text"]})
                for piece in pieces:
                    if not isinstance(piece, dict):
                        raise ValueError("a piece that is not an object")
                    _join(message, piece)
        if not done:
            self.raw += b"" if raw.endswith(b"\n\n") else b"\n\n"
            self.raw += _DONE
        self.said = {index: said(message) for index, message in messages.items()}

    def with_refusals(self, text: str, at: Iterable[int]) -> bytes:
        places = set(at)
        frame = _kept(next(chunk for chunk in self._chunks if chunk.get("choices"))) | {"usage": None}
        out = [frame | {"choices": [choice]} for index in sorted(places) for choice in _refusing(index, text)]
        if not any("usage" in chunk for chunk in self._chunks):
            out = [{name: value for name, value in chunk.items() if name != "usage"} for chunk in out]
        for chunk in self._chunks:
            choices = [choice for choice in chunk.get("choices") or [] if _index(choice) not in places]
            # A chunk without choices, such as the usage, stays; one with only replaced choices does not.
            if choices or not chunk.get("choices") or chunk.get("usage"):
                out.append(_kept(chunk) | {"choices": choices})
        return b"".join(map(_event, out)) + _DONE


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


def _join(message: dict[str, Any], delta: Mapping[str, Any]) -> None:
    """Add a piece of a message to what came before it."""
    for name, value in delta.items():
        before = message.get(name)
        if name == "tool_calls" and isinstance(value, list):
            calls = message.setdefault(name, [])
            for call in _objects(value):
                index = _index(call)
                if index > _MOST_CHOICES:
                    raise ValueError("too many tool calls")
                calls += [{} for _ in range(index + 1 - len(calls))]
                _join(calls[index], call)
        elif isinstance(value, dict):
            inner = dict(before) if isinstance(before, dict) else {}
            _join(inner, value)
            message[name] = inner
        elif isinstance(before, str) and isinstance(value, str):
            message[name] = before + value
        elif isinstance(before, list | str) and isinstance(value, list | str):
            # Some endpoints switch between a string and a list of parts.
            message[name] = _parts(before) + _parts(value)
        elif value is not None or before is None:
            message[name] = value


def _parts(value: list[Any] | str) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _objects(value: object) -> list[dict[str, Any]]:
    if not isinstance(value, list) or not all(isinstance(one, dict) for one in value):
        raise ValueError("not a list of objects")
    return value


def _index(entry: Mapping[str, Any]) -> int:
    index = entry.get("index", 0)
    if not isinstance(index, int) or index < 0:
        raise ValueError("an index that is not a number")
    return index


def _kept(content: Mapping[str, Any]) -> dict[str, Any]:
    return {name: content[name] for name in _KEPT if name in content}


def _refusing(index: int, text: str) -> list[dict[str, Any]]:
    common = {"index": index, "logprobs": None}
    return [
        common | {"delta": {"role": "assistant", "content": text}, "finish_reason": None},
        common | {"delta": {}, "finish_reason": "content_filter"},
    ]


def _frame(body: Mapping[str, Any], kind: str) -> dict[str, Any]:
    identity = f"chatcmpl-safemt-{uuid.uuid4().hex}"
    return {"id": identity, "object": kind, "created": int(time.time()), "model": str(body.get("model", ""))}


def _choices(body: Mapping[str, Any]) -> int:
    wanted = body.get("n")
    return wanted if isinstance(wanted, int) and 1 <= wanted <= _MOST_CHOICES else 1


def _no_usage() -> dict[str, int]:
    return {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}


def _event(chunk: Mapping[str, Any]) -> bytes:
    return b"data: " + dumps(chunk) + b"\n\n"
