"""Runs on data of other shapes, over HTTP: what is really sent."""

import json
from pathlib import Path
from typing import Any

import pytest
from support.dialogues import in_base64, lines, picture, put, record, reply, user
from support.faults import answer
from support.program import against, sql

from safemt_client.__main__ import main

A, B = picture(), picture("PNG")


def run(path: Path, *words: str) -> tuple[int, list[list[dict[str, Any]]]]:
    """Exit status and the messages of each request."""
    status, endpoint = against(
        [],
        answer("I see."),
        *("--provider", "m@URL", "--data", str(path), "--judge", "none", "--max-wait", "0", *words),
    )
    return status, [request.json["messages"] for request in endpoint.requests]


def texts(messages: list[dict[str, Any]]) -> list[tuple[str, str, int]]:
    """Role, text and number of pictures of each message."""
    found = []
    for message in messages:
        content = message["content"]
        parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
        said = "".join(part["text"] for part in parts if part["type"] == "text")
        found.append((message["role"], said, sum(part["type"] == "image_url" for part in parts)))
    return found


def test_user_turns_alone_with_pictures_are_asked_of_the_models_own_replies(here: Path) -> None:
    put(here / "a.jpg", A)
    first, last = user("What is this?", images=["a.jpg"]), user("And this?", images=[in_base64(B)])
    path = put(here / "d.jsonl", lines({"id": "a", "messages": [first, user("Go on."), last]}))
    status, requests = run(path, "--history", "live")
    assert status == 0
    assert [texts(messages) for messages in requests] == [
        (said := [("user", "What is this?", 1)]),
        said := [*said, ("assistant", "I see.", 0), ("user", "Go on.", 0)],
        [*said, ("assistant", "I see.", 0), ("user", "And this?", 1)],
    ]


@pytest.mark.parametrize("history", ["scripted", "none"])
def test_user_turns_alone_need_live_history(
    history: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = put(here / "d.jsonl", lines(record(), {"id": "b", "turns": ["Hi.", "How is tea made?"]}))
    assert main(["--provider", "demo", "--data", str(path), "--history", history]) == 2
    err = capsys.readouterr().err
    assert len(err.splitlines()) == 1
    assert "'b' has user turns without scripted replies between them: add --history live" in err


def test_those_that_are_left_out_do_not_matter(here: Path) -> None:
    path = put(here / "d.jsonl", lines(record(), {"id": "b", "turns": ["Hi.", "How is tea made?"]}))
    status, requests = run(path, "--turns", "1")
    assert (status, len(requests)) == (0, 1)


@pytest.mark.parametrize(
    ("history", "before"),
    [("scripted", [("user", "a", 0), ("assistant", "b", 0)]), ("none", []), ("live", [])],
)
def test_a_system_message_is_sent_first(history: str, before: list[Any], here: Path) -> None:
    system = {"role": "system", "content": "Be kind."}
    path = put(here / "d.jsonl", lines(record(system, user("a"), reply("b"), user("c"))))
    status, requests = run(path, "--history", history)
    assert status == 0
    if history == "live":
        before = [("user", "a", 0), ("assistant", "I see.", 0)]
    assert texts(requests[-1]) == [("system", "Be kind.", 0), *before, ("user", "c", 0)]


def test_two_system_messages_are_refused(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = put(here / "d.jsonl", lines(record({"role": "system", "content": "Be kind."}, user("a"))))
    assert main(["--provider", "demo", "--data", str(path), "--system-prompt", "Be brief."]) == 2
    err = capsys.readouterr().err
    assert len(err.splitlines()) == 1
    assert "--system-prompt" in err
    assert "has a system message of its own: leave one out" in err


def test_what_a_record_holds_is_stored(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = put(here / "d.jsonl", lines(record(user("a", label="safe"), image=in_base64(A), pair="p1")))
    assert run(path)[0] == 0
    (row,) = sql("SELECT extra, messages FROM dialogues", capsys)
    assert json.loads(row["extra"]) == {"turn_labels": ["safe"], "pair": "p1"}
    (message,) = json.loads(row["messages"])
    assert message["images"][0].startswith("sha256:")
