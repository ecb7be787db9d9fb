"""What endpoints answer, as data: `cases.json`, and `others.json` with the same kinds in other vendors' words.

By kind and name, each case has the response: `status` (200), `headers`, and as its body `body` (a text as it is,
else JSON) or `completion`: the fields of the choice and its message that are not usual, `usage` and `encoding`
likewise. It is given to every request, or to the one of number `request`, while the body has a field (`while`),
or unless it has such values (`unless`); every other request gets a usual answer. `with` is what the user adds: `extra_body`, or what the
user `asks`.

`want` is what has to be in the store, on the screen or in the log; `why` says what a reader may wonder about.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from support.faults import Behaviour, Received, response

HERE = Path(__file__).resolve().parent
TEXT = "The library opens at nine."
_OF_CHOICE = {"finish_reason", "native_finish_reason", "content_filter_results"}


@dataclass(frozen=True)
class Case:
    """One case by its name, `kind/name`."""

    name: str
    given: Mapping[str, Any]

    @property
    def want(self) -> Mapping[str, Any]:
        found: Mapping[str, Any] = self.given["want"]
        return found

    @property
    def asks(self) -> str | None:
        """What the user asks, None for the usual questions."""
        found: str | None = self.given.get("with", {}).get("asks")
        return found

    @property
    def flags(self) -> list[str]:
        """What the user adds to the command, from `with`."""
        added = self.given.get("with", {})
        return ["--extra-body", json.dumps(added["extra_body"])] if "extra_body" in added else []

    def answers(self, number: int, received: Received) -> Behaviour:
        """What the request of this number, from 1, meets."""
        body = received.json
        applies = (
            self.given.get("request", number) == number
            and self.given.get("while", "model") in body
            and not _has(body, self.given.get("unless", {"model": None}))
        )
        if applies:
            return response(self.given.get("status", 200), self._body(), **self.given.get("headers", {}))
        return _streamed() if body.get("stream") else response(200, completion([{}], None))

    def _body(self) -> bytes:
        if (choices := self.given.get("completion")) is None:
            body = self.given.get("body", "")
        else:
            several = choices if isinstance(choices, list) else [choices]
            body = completion(several, self.given.get("usage"))
        if isinstance(body, str):
            return body.encode()
        return json.dumps(body, ensure_ascii=False).encode(self.given.get("encoding", "utf-8"))


def completion(choices: list[dict[str, Any]], usage: object) -> dict[str, Any]:
    """A chat completion whose choices differ from the usual one in these fields."""
    made = []
    for index, fields in enumerate(choices):
        outer = {name: value for name, value in fields.items() if name in _OF_CHOICE}
        inner = {name: value for name, value in fields.items() if name not in _OF_CHOICE}
        message = {"role": "assistant", "content": TEXT} | inner
        made.append({"index": index, "message": message, "finish_reason": "stop"} | outer)
    return {
        "id": "c1",
        "object": "chat.completion",
        "created": 1,
        "model": "m",
        "choices": made,
        "usage": usage or {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15},
    }


def _streamed() -> Behaviour:
    """The usual answer to who asks for a stream."""
    choice = {"index": 0, "delta": {"role": "assistant", "content": TEXT}, "finish_reason": "stop"}
    chunk = {"id": "c1", "object": "chat.completion.chunk", "model": "m", "choices": [choice]}
    return response(200, f"data: {json.dumps(chunk)}\n\ndata: [DONE]\n\n", content_type="text/event-stream")


def _has(body: Mapping[str, Any], values: Mapping[str, Any]) -> bool:
    return all(name in body and body[name] == value for name, value in values.items())


def cases(file: str) -> Iterator[Case]:
    """The cases of a file."""
    kinds = json.loads((HERE / file).read_text(encoding="utf-8"))
    for kind, named in kinds.items():
        for name, given in named.items():
            yield Case(f"{kind}/{name}", given)
