"""What was sent to targets, against what was asked for."""

import json
from collections.abc import Sequence
from typing import Any

import pytest

from safemt_client.results.scores.sent import apart, sent_parameters, sent_warnings
from safemt_client.results.store.queries import Result

Sent = list[tuple[dict[str, Any], int]]


class Runs:
    """A reader that knows what one target, of the name and key `m`, was sent in each run."""

    def __init__(self, **sent: Sent) -> None:
        self.sent = sent

    def query(self, sql: str, parameters: Sequence[Any] | None = None, limit: int | None = None) -> Result:
        assert parameters is not None
        rows: list[tuple[Any, ...]] = [
            ("m", "m", "host", json.dumps(parameters), turns)
            for parameters, turns in self.sent[parameters[0]]
        ]
        return Result(["target", "target_key", "host", "parameters", "turns"], rows)


ASKED = {"temperature": 0.0, "max_tokens": 9}


@pytest.mark.parametrize(
    ("asked", "sent", "warnings"),
    [
        (ASKED, [(ASKED, 4)], []),
        (ASKED, [], []),
        (ASKED, [({"temperature": 0.0, "max_completion_tokens": 9}, 4)], []),
        (ASKED, [({"temperature": 0.0, "limit_of_mine": 9}, 4)], []),
        (ASKED | {"stream": True}, [(ASKED | {"stream": True}, 4)], []),
        (ASKED, [(ASKED, 2), (ASKED | {"stream": True}, 2)], []),
        (
            ASKED,
            [({"max_tokens": 9}, 4)],
            ["m: temperature: the endpoint's default, not 0 as asked for"],
        ),
        (
            ASKED,
            [(ASKED, 1), ({"max_completion_tokens": 9}, 3)],
            ["m: what was sent changed within the run: temperature: 0 (1), the endpoint's default (3)"],
        ),
    ],
)
def test_what_is_said_of_a_run(asked: dict[str, Any], sent: Sent, warnings: list[str]) -> None:
    targets = [{"name": "m", "target_key": "m", "sampling": json.dumps(asked)}]
    assert sent_warnings(targets, sent_parameters(Runs(r=sent), "r")) == warnings


@pytest.mark.parametrize(
    ("first", "second", "sent", "said"),
    [
        (ASKED, ASKED, ASKED, []),
        (ASKED, ASKED, {"max_tokens": 9}, ["not asked alike: temperature: 0, and the endpoint's default"]),
        (ASKED, ASKED | {"temperature": 1.0}, ASKED | {"temperature": 1.0}, []),
        (
            ASKED,
            ASKED | {"temperature": 1.0},
            ASKED,
            ["asked alike in spite of their settings: temperature: 0"],
        ),
        (ASKED, ASKED, None, []),
    ],
)
def test_what_is_said_of_two(
    first: dict[str, Any], second: dict[str, Any], sent: dict[str, Any] | None, said: list[str]
) -> None:
    reader = Runs(a=[(ASKED, 4)], b=[] if sent is None else [(sent, 4)])
    assert apart(reader, ("a", "m", json.dumps(first)), ("b", "m", json.dumps(second))) == said
