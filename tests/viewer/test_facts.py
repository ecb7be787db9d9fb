"""The viewer on facts: the same figures and lists as on their store, and no texts."""

import csv
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import httpx
import pytest
from support.talk import REPLIES, RUN, make_talk

from safemt_client.providers.errors import InputError
from safemt_client.results.exports import export
from safemt_client.results.store.reader import open_reader
from safemt_client.results.store.rows import CommentRow
from safemt_client.viewer.desk import Desk
from safemt_client.viewer.saved import SavedFilters
from safemt_client.viewer.snapshot import Snapshot

WHERE = {"run": RUN, "t": "guarded", "d": "d:2"}


@pytest.fixture(scope="module")
def both(
    tmp_path_factory: pytest.TempPathFactory, serve_store: Callable[[Path], httpx.Client]
) -> tuple[httpx.Client, httpx.Client]:
    """A viewer of a store, and one of its facts."""
    folder = tmp_path_factory.mktemp("facts")
    store = make_talk(folder / "talk.duckdb")
    with open_reader(store) as reader:
        export(reader, "facts", None, folder / "facts", redact=False)
    return serve_store(store), serve_store(folder / "facts")


def test_lists_have_the_same_rows(both: tuple[httpx.Client, httpx.Client]) -> None:
    told = []
    for client in both:
        answer = client.get("/download", params={"run": RUN, "as": "csv"})
        assert answer.status_code == 200, answer.text
        told.append(list(csv.DictReader(answer.text.splitlines())))
    of_store, of_facts = told
    assert len(of_facts) == len(of_store) > 0
    without = ("reply", "explanation", "reason", "request_hash", "judged_hash", "reply_hash")
    for mine, theirs in zip(of_facts, of_store, strict=True):
        assert (mine["reply"], mine["explanation"]) == ("", "")
        assert theirs["reply"]
        assert {k: v for k, v in mine.items() if k not in without} == {
            k: v for k, v in theirs.items() if k not in without
        }


@pytest.mark.parametrize("page", ["/", "/run", "/results", "/matrix", "/conversation", "/sql", "/label"])
def test_pages_have_no_texts_and_say_so(both: tuple[httpx.Client, httpx.Client], page: str) -> None:
    answer = both[1].get(page, params=WHERE if page == "/conversation" else {"run": RUN})
    assert answer.status_code == 200, answer.text
    assert "facts: without texts" in answer.text
    assert not [text for texts in REPLIES.values() for text in texts if text in answer.text]


def test_nothing_can_be_adjudicated(both: tuple[httpx.Client, httpx.Client]) -> None:
    assert both[1].get("/adjudicate", params={"run": RUN}).status_code == 200
    answer = both[1].get("/adjudicate/next", params={"run": RUN}, headers={"Cookie": _named(both[1])})
    assert answer.status_code == 400
    assert "facts have no texts" in answer.text


def _named(client: httpx.Client) -> str:
    return "; ".join(
        f"{name}={value}" for name, value in {**client.cookies, "safemt_annotator": "me"}.items()
    )


def test_what_people_say_is_not_taken(tmp_path: Path) -> None:
    store, facts = make_talk(tmp_path / "talk.duckdb"), tmp_path / "facts"
    with open_reader(store) as reader:
        export(reader, "facts", None, facts, redact=False)
    snapshot = Snapshot(facts)
    snapshot.refresh(wait=True)
    at = datetime(2026, 1, 1)
    with pytest.raises(InputError, match="facts have no texts"):
        Desk(snapshot).say(CommentRow("c", RUN, "guarded", "d:2", "me", "well", at))
    with pytest.raises(InputError, match="kept beside a store"):
        SavedFilters(facts).save("mine", "verdict=unsafe")
    snapshot.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["facts", "talk.duckdb"]
