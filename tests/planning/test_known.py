"""A plan is made of what is wanted and what is known of it, without a store."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from safemt_client.datasets.model import Dataset, Dialogue, ScriptedMessage
from safemt_client.planning.build import make_plan
from safemt_client.planning.pictures import Pictures
from safemt_client.planning.plan import Plan
from safemt_client.planning.resolved import NothingKnown, Resolved, of_dataset
from safemt_client.planning.target import Target
from safemt_client.providers.types import Image, Sampling
from safemt_client.results.store.queries import OpenBatch
from safemt_client.results.store.rows import ModeratorRow


class Said(NothingKnown):
    """Replies by the hash of their request."""

    def __init__(self, texts: Mapping[str, str]) -> None:
        self._texts = texts

    def observed(self, hashes: Sequence[str]) -> Mapping[str, str]:
        return {key: "answered" for key in hashes if key in self._texts}

    def texts(self, hashes: Sequence[str]) -> Mapping[str, str]:
        return {key: self._texts[key] for key in hashes}


class Submitted(NothingKnown):
    """One request in a batch under way."""

    def __init__(self, key: str) -> None:
        self._key = key

    def open_batches(self, hashes: Sequence[str]) -> Sequence[OpenBatch]:
        now = datetime(2026, 1, 1, tzinfo=UTC)
        return [OpenBatch("b", "remote", now, 1, (self._key,))] if self._key in hashes else []


def test_a_live_conversation_goes_on_where_the_known_replies_end() -> None:
    messages = (
        ScriptedMessage("user", "one"),
        ScriptedMessage("assistant", "scripted"),
        ScriptedMessage("user", "two"),
    )
    data = Dataset("d", Path(), (Dialogue("item", messages),))
    wanted = of_dataset(data, data.dialogues, [Target("t", "local/m", "live", "off", Sampling())])
    first = make_plan(wanted, NothingKnown())
    request_hash = first.pending[0].next()[1]
    then = make_plan(wanted, Said({request_hash: "my own words"}))
    assert (first.pending[0].turn, then.pending[0].turn) == (1, 2)
    assert [message.text for message in then.pending[0].next()[0].messages] == ["one", "my own words", "two"]
    assert [step.request_hash for step in then.steps] == [request_hash]
    assert then.run.run_id == first.run.run_id
    assert sum(then.cached_turns.values()) == 1


def image(sha256: str) -> Image:
    return Image(sha256, "image/png", 1, 1, 1, bytes)


def test_a_conversation_that_began_with_an_earlier_picture_goes_on_with_it() -> None:
    messages = (ScriptedMessage("user", "one", ("a.png", "b.png")), ScriptedMessage("user", "two"))
    data = Dataset("d", Path(), (Dialogue("item", messages),))
    targets = [Target("t", "local/m", "live", "on", Sampling())]
    now = {"a.png": image("a"), "b.png": image("b")}

    def planned(said: Mapping[str, str], **before: Image) -> Plan:
        pictures = Pictures(now, {f"{name}.png": one for name, one in before.items()})
        return make_plan(of_dataset(data, data.dialogues, targets, pictures=pictures), Said(said))

    def pictures_of(plan: Plan) -> list[str]:
        [conversation] = plan.pending
        return [one.sha256 for one in conversation.next()[0].messages[0].images]

    earlier = make_plan(
        of_dataset(
            data, data.dialogues, targets, pictures=Pictures({"a.png": image("old"), "b.png": image("b")})
        ),
        NothingKnown(),
    )
    was = earlier.pending[0].next()[1]
    nothing = planned({}, a=image("old"))
    assert (nothing.pending[0].turn, pictures_of(nothing)) == (1, ["a", "b"])
    assert not sum(nothing.earlier_pictures.values())

    then = planned({was: "my own words"}, a=image("old"))
    assert (then.pending[0].turn, pictures_of(then)) == (2, ["old", "b"])
    assert [step.request_hash for step in then.steps] == [was]
    assert then.earlier_pictures == {targets[0].key: 1}
    # A batch under way asks about it: nothing else is to be asked.
    data_of_batch = of_dataset(data, data.dialogues, targets, pictures=Pictures(now, {"a.png": image("old")}))
    assert pictures_of(make_plan(data_of_batch, Submitted(was))) == ["old", "b"]
    assert pictures_of(make_plan(data_of_batch, Submitted("another"))) == ["a", "b"]
    # A reply to the picture as it is now comes first.
    is_now = nothing.pending[0].next()[1]
    both = planned({was: "my own words", is_now: "others"}, a=image("old"))
    assert [step.request_hash for step in both.steps] == [is_now]
    assert not sum(both.earlier_pictures.values())


def test_a_moderated_conversation_that_began_with_the_picture_of_now_keeps_it() -> None:
    messages = (ScriptedMessage("user", "one", ("a.png",)), ScriptedMessage("user", "two"))
    data = Dataset("d", Path(), (Dialogue("item", messages),))
    model = Target("t", "local/m", "live", "on", Sampling())
    guarded = replace(model, name="guarded", moderator="guard")
    settings = '{"interventions": [], "prefixes": false}'
    row = ModeratorRow("", "guard", "g", "g", "g", "local/g", "", settings, None)

    def wanted(target: Target, now: str, **before: Image) -> Resolved:
        pictures = Pictures({"a.png": image(now)}, {f"{name}.png": one for name, one in before.items()})
        found = of_dataset(data, data.dialogues, [target], pictures=pictures)
        return replace(found, moderators=(row,) if target.moderator else ())

    def key(one: Resolved) -> str:
        return make_plan(one, NothingKnown()).pending[0].next()[1]

    both = wanted(guarded, "new", a=image("old"))
    said = {key(wanted(model, "old")): "a word"}
    [begins] = make_plan(both, Said(said)).pending
    assert (begins.turn, begins.earlier) == (1, True)
    [goes_on] = make_plan(both, Said(said | {key(both): "another"})).pending
    assert (goes_on.turn, goes_on.earlier) == (2, False)
    # The model was asked about both pictures: the one of now counts.
    [newer] = make_plan(both, Said(said | {key(wanted(model, "new")): "a word"})).pending
    assert (newer.turn, newer.earlier) == (1, False)
