"""The hash of a request is that of its canonical JSON, as every store has it."""

import hashlib
import json
from typing import Any

import pytest

from safemt_client.providers.types import Image, Message, Request, Sampling, request_hash

ODD = 'a "quote", a \\ and a \t, \u2028é😀, half a pair \ud800, \x00 and \x7f'
PICTURE = Image("0f", "image/png", 3, 1, 1, lambda: b"")


@pytest.mark.parametrize(
    ("request_", "more"),
    [
        (Request((Message("user", "Hello"),)), {}),
        (Request((Message("system", ODD), Message("user", ODD, (PICTURE, PICTURE)))), {"sample": 2}),
        (
            Request(
                (Message("user", ""),),
                Sampling(None, 5, stop=(ODD,), extra={"z": {"b": [1, None], "a": 0.1}}),
                {"type": "object", "title": ODD},
            ),
            {"moderator": ODD},
        ),
    ],
)
def test_it_is_that_of_sorted_json(request_: Request, more: dict[str, Any]) -> None:
    content = {
        "identity": ODD,
        "messages": [[m.role, m.text, [i.sha256 for i in m.images]] for m in request_.messages],
        "sampling": request_.sampling.as_dict(),
        "schema": request_.response_schema,
        "moderator": None,
        "sample": 0,
    } | more
    canonical = json.dumps(content, sort_keys=True, ensure_ascii=True, separators=(",", ":"))
    assert request_hash(ODD, request_, **more) == hashlib.sha256(canonical.encode()).hexdigest()
