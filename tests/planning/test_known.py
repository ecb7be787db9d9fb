"""A plan is made of what is wanted and what is known of it, without a store."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from safemt_client.datasets.model import Dataset, Dialogue, ScriptedMessage
from safemt_client.planning.build import make_plan
from safemt_client.planning.resolved import NothingKnown, of_dataset
from safemt_client.planning.target import Target
from safemt_client.providers.types import Sampling


class Said(NothingKnown):
    """Replies by the hash of their request."""

    def __init__(self, texts: Mapping[str, str]) -> None:
        self._texts = texts

    def observed(self, hashes: Sequence[str]) -> Mapping[str, str]:
        return {key: "answered" for key in hashes if key in self._texts}

    def texts(self, hashes: Sequence[str]) -> Mapping[str, str]:
        return {key: self._texts[key] for key in hashes}


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
