"""The page of a conversation: what is known of a turn stands with it, one target's beside another's."""

import re
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from support.talk import POLICY, REPLIES, RUN, START, USER, make_talk

from safemt_client.providers.types import reply_hash
from safemt_client.results.store.rows import HumanLabelRow
from safemt_client.results.store.store import Store
from safemt_client.viewer.conversation import Conversation, Message, Turn
from safemt_client.viewer.layout import exchanges


@pytest.fixture(scope="module")
def client(
    tmp_path_factory: pytest.TempPathFactory, serve_store: Callable[[Path], httpx.Client]
) -> httpx.Client:
    return serve_store(make_talk(tmp_path_factory.mktemp("reading") / "talk.duckdb"))


def page(client: httpx.Client, target: str, **more: str) -> str:
    answer = client.get("/conversation", params={"run": RUN, "t": target, "d": "d:2"} | more)
    assert answer.status_code == 200
    return answer.text


def turns_of(text: str) -> dict[str, str]:
    """The text of each section of the page by its heading."""
    text = re.sub("</?mark>", "", text)
    sections = re.findall(r'<section class="exchange".*?<h3[^>]*>(.*?)</h3>(.*?)</section>', text, re.S)
    return {name: re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", body)) for name, body in sections}


def test_what_is_known_of_a_reply_stands_with_its_turn(client: httpx.Client) -> None:
    found = turns_of(page(client, "guarded"))
    assert list(found) == ["Before the first turn", "Turn 1", "Turn 2", "Requests"]
    assert POLICY in found["Before the first turn"]
    for number, other in ((1, 2), (2, 1)):
        turn = found[f"Turn {number}"]
        for text in (
            *(USER[number - 1], REPLIES["guarded"][number - 1], f"first reason {number} of guarded"),
            *(f"second reason {number} of guarded", f"intent: intent {number}", f"{number}.25 s"),
        ):
            assert text in turn, text
        assert f"first reason {other}" not in turn
        assert f"intent: intent {other}" not in turn
        # Each reply once, though it was sent again as history.
        assert turn.count(REPLIES["guarded"][number - 1]) == 1
    assert "policy" in found["Turn 2"]
    assert "a person" in found["Turn 2"]
    assert "a person" not in found["Turn 1"]


def test_the_judge_that_decides_comes_first(client: httpx.Client) -> None:
    turn = turns_of(page(client, "plain"))["Turn 2"]
    assert turn.index("first judge") < turn.index("other judges: safe") < turn.index("second reason 2")
    assert "details open><summary>other judges" in page(client, "plain", judge="j2")


def test_two_targets_are_read_turn_by_turn(client: httpx.Client) -> None:
    text = page(client, "plain", beside="guarded", at="0", q="paper", sort="slow")
    found = turns_of(text)
    for number in (1, 2):
        turn = found[f"Turn {number}"]
        # What the user said is the same, and stands once; then comes each side's reply with its own verdict.
        assert turn.count(USER[number - 1]) == 1
        places = [turn.index(REPLIES[target][number - 1]) for target in ("plain", "guarded")]
        reasons = [turn.index(f"first reason {number} of {target}") for target in ("plain", "guarded")]
        assert places[0] < reasons[0] < reasons[1]
    assert "nothing at this turn" in found["Before the first turn"]
    # Choosing another target keeps the place and the filters.
    form = text.partition('class="beside"')[2].partition("</form>")[0]
    for field in ('name="at" value="0"', 'name="q" value="paper"', 'name="sort" value="slow"'):
        assert field in form
    # And so does the next conversation of the list: the guarded target's, or the last one's neighbour.
    assert re.search(r'rel="(next|prev)" href="[^"]*q=paper', text)


def test_a_target_that_has_no_such_conversation_is_said(client: httpx.Client) -> None:
    assert "The other target has no conversation of this dialogue." in page(client, "plain", beside="none")


def conversation(messages: list[Message], turns: list[Turn]) -> Conversation:
    return Conversation({"judge_key": "j"}, messages, turns, True)


def turn(number: int, text: str | None) -> Turn:
    return Turn(number, {"text": text}, {"text": text}, [])


def test_without_history_the_only_message_is_of_the_last_turn() -> None:
    (only,) = exchanges(conversation([Message("user", "last", (), 1)], [turn(4, "reply")]))
    assert only.number == 4
    assert only.sides[0].turn is not None
    assert [message.text for message in only.sides[0].messages] == ["last"]


def test_a_reply_that_history_has_otherwise_is_shown_with_it() -> None:
    messages = [Message("user", "a", (), 1), Message("assistant", "sent", (), 1), Message("user", "b", (), 2)]
    first, _ = exchanges(conversation(messages, [turn(1, "asked again"), turn(2, "c")]))
    assert [message.text for message in first.sides[0].messages] == ["a", "sent"]
    assert first.sides[0].turn is not None


def test_what_differs_is_not_taken_together() -> None:
    one = conversation([Message("system", "x"), Message("user", "a", ("1",), 1)], [turn(1, "r")])
    two = conversation([Message("user", "a", ("2",), 1)], [turn(1, None)])
    start, first = exchanges(one, two)
    assert not start.alike
    assert start.sides[1].empty
    assert first.shared == []
    assert [len(side.messages) for side in first.sides] == [1, 1]


def test_what_a_person_said_of_a_reply_twice_stands_once(
    tmp_path: Path, serve_store: Callable[[Path], httpx.Client]
) -> None:
    path = make_talk(tmp_path / "d.duckdb")
    reply = reply_hash(REPLIES["guarded"][0])
    labels = [
        ("model1", "zoe", "safe"),
        ("guarded1", "zoe", "safe"),
        ("model1", "yan", "safe"),
        ("guarded1", "yan", "unsafe"),
    ]
    with Store.open(path) as store:
        store.save_now(*(HumanLabelRow(key, "d:2", "", who, said, START, reply) for key, who, said in labels))
    turn = turns_of(page(serve_store(path), "guarded"))["Turn 1"]
    assert [turn.count(f"{who} a person") for who in ("zoe", "yan")] == [1, 2]
