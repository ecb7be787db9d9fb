"""Answers of the proxy's own in the form of OpenAI's chat API: refusals, whole or as a stream, and errors."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterable, Mapping
from typing import Any

from safemt_client.providers.json_codec import as_dict, dumps

__all__ = [
    "ApiError",
    "refusal",
    "refusal_stream",
    "refusing_choice",
    "refusing_pieces",
    "stream_of",
    "wants_stream",
]

_DONE = b"data: [DONE]\n\n"
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
    choices = [refusing_choice(index, text) for index in range(_choices(body))]
    return dumps(_frame(body, "chat.completion") | {"choices": choices, "usage": _no_usage()})


def refusal_stream(body: Mapping[str, Any], text: str) -> bytes:
    """A stream that refuses, in answer to this request."""
    frame = _frame(body, "chat.completion.chunk")
    pieces = [piece for index in range(_choices(body)) for piece in refusing_pieces(index, text)]
    chunks = [frame | {"choices": [piece]} for piece in pieces]
    if as_dict(body.get("stream_options")).get("include_usage") is True:
        chunks = [chunk | {"usage": None} for chunk in chunks]
        chunks.append(frame | {"choices": [], "usage": _no_usage()})
    return stream_of(chunks)


def stream_of(chunks: Iterable[Mapping[str, Any]]) -> bytes:
    """These chunks as a whole stream of server-sent events."""
    return b"".join(b"data: " + dumps(chunk) + b"\n\n" for chunk in chunks) + _DONE


def refusing_choice(index: int, text: str) -> dict[str, Any]:
    """The choice of a completion that refuses."""
    return {
        "index": index,
        "message": {"role": "assistant", "content": text, "refusal": None},
        "logprobs": None,
        "finish_reason": "content_filter",
    }


def refusing_pieces(index: int, text: str) -> list[dict[str, Any]]:
    """The same choice in the pieces of a stream."""
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
