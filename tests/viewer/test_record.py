"""A conversation as a JSON file: what the store has of it, to the letter."""

import json
from collections.abc import Callable
from pathlib import Path

import duckdb
import httpx
import pytest
from support.hostile import RUN as HOSTILE_RUN
from support.hostile import TEXTS, make_hostile_store
from support.talk import REPLIES, RUN, make_talk


@pytest.fixture(scope="module")
def talk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_talk(tmp_path_factory.mktemp("record") / "talk.duckdb")


@pytest.fixture(scope="module")
def client(talk: Path, serve_store: Callable[[Path], httpx.Client]) -> httpx.Client:
    return serve_store(talk)


WHERE = {"run": RUN, "t": "guarded", "d": "d:2"}


def test_it_has_what_the_store_has(talk: Path, client: httpx.Client) -> None:
    answer = client.get("/conversation.json", params=WHERE)
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["content-disposition"] == 'attachment; filename="item-2-guarded.json"'
    found = answer.json()
    assert found["run"]["settings"] == {"history": "live"}
    assert found["target"]["sampling"] == {"temperature": 0.5}
    assert [judge["name"] for judge in found["judges"]] == ["first judge", "second judge"]
    assert [row["guard"] for row in found["moderators"]] == ["qwen"]
    assert found["dialogue"]["messages"][0]["role"] == "user"
    assert found["label"] == "safe"
    with duckdb.connect(str(talk), read_only=True) as store:
        for number, turn in enumerate(found["turns"], start=1):
            [attempt] = turn["attempts"]
            cursor = store.execute("SELECT * FROM turns WHERE request_hash = ?", [f"guarded{number}"])
            names = [column[0] for column in cursor.description]
            stored = dict(zip(names, cursor.fetchall()[0], strict=True))
            assert attempt == stored | {
                "request": json.loads(stored["request"]),
                "started_at": f"{stored['started_at'].isoformat()}Z",
            }
            assert turn["reply"]["text"] == REPLIES["guarded"][number - 1]
            assert [row["explanation"] for row in turn["verdicts"]] == [
                f"{which} reason {number} of guarded" for which in ("first", "second")
            ]
            assert [row["intent"] for row in turn["assessments"]] == [f"intent {number}"]
            assert turn["assessments"][0]["categories"] == ["S1"]
            assert len(turn["model_attempts"]) == 1
    assert [row["note"] for row in found["turns"][1]["human_labels"]] == ["odd"]


def test_comments_and_no_guard_where_there_is_none(client: httpx.Client) -> None:
    found = client.get("/conversation.json", params=WHERE | {"t": "plain"}).json()
    assert [row["text"] for row in found["comments"]] == ["look at the paper"]
    assert found["moderators"] == []


def test_only_from_its_own_pages_and_of_what_there_is(client: httpx.Client) -> None:
    for site, status in (("cross-site", 403), ("same-site", 403), ("same-origin", 200)):
        headers = {"Sec-Fetch-Site": site}
        assert client.get("/conversation.json", params=WHERE, headers=headers).status_code == status
    for name in WHERE:
        assert client.get("/conversation.json", params=WHERE | {name: "x"}).status_code == 404
    page = client.get("/conversation", params=WHERE).text
    assert f"/conversation.json?run={RUN}&amp;t=guarded&amp;d=d%3A2" in page


def test_hostile_texts_are_exact_and_inert(
    tmp_path: Path, serve_store: Callable[[Path], httpx.Client]
) -> None:
    client = serve_store(make_hostile_store(tmp_path / "h.duckdb"))
    for name, text in TEXTS.items():
        where = {"run": HOSTILE_RUN, "t": "t", "d": f"d:1:{name}"}
        answer = client.get("/conversation.json", params=where)
        assert answer.content.isascii()
        assert not any(byte < 32 and byte != 10 for byte in answer.content)
        assert '"' not in answer.headers["content-disposition"].removeprefix('attachment; filename="')[:-1]
        if name != "surrogate":  # half a pair is not stored as such
            assert answer.json()["turns"][0]["reply"]["text"] == text
