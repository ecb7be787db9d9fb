"""The grammars of guards, and guards that are held to them."""

import pytest

from safemt_client.moderator.guards import build_guard
from safemt_client.moderator.guards.common import Adapter
from safemt_client.moderator.held import HeldGuard, held
from safemt_client.providers.errors import InputError
from safemt_client.providers.types import Message, Outcome, Reply

ASKED = [Message("user", "What is a kite?")]


def test_a_held_guard_sends_the_grammar_of_the_stage() -> None:
    guard = build_guard("qwen3guard")
    found = held(guard, lambda grammar: {"grammar": grammar}, "g")
    assert isinstance(found, HeldGuard)
    asked = found.request(ASKED, "input").sampling.extra["grammar"]
    replied = found.request([*ASKED, Message("assistant", "A toy.")], "output").sampling.extra["grammar"]
    assert "Refusal" in replied
    assert "Refusal" not in asked
    assert found.card is guard.card
    text = "Safety: Unsafe\nCategories: PII"
    assert found.parse(Reply(Outcome.ANSWERED, text), "input") == guard.parse(
        Reply(Outcome.ANSWERED, text), "input"
    )


def test_what_is_held_is_never_taken_for_what_is_not() -> None:
    guard = build_guard("llama-guard-3")
    fields = ({"grammar": "x"}, {"structured_outputs": {"grammar": "x"}})
    keys = {held(guard, lambda grammar, one=one: one, "g").key for one in fields}
    assert len(keys | {guard.key}) == 3


def test_a_guard_without_a_grammar_stays_as_it_is() -> None:
    guard = build_guard("shieldgemma")
    assert held(guard, lambda grammar: {"grammar": grammar}, "g") is guard


@pytest.mark.parametrize("name", ["shieldgemma", "llm"])
def test_an_engine_that_drops_forms_is_refused_where_one_is_needed(name: str) -> None:
    guard = build_guard(name)
    with pytest.raises(InputError, match=r"g=x: .* needs a form or probabilities"):
        held(guard, None, "g=x")


@pytest.mark.parametrize("name", ["llama-guard-3", "llama-guard-3-vision", "llama-guard-4"])
def test_the_codes_are_those_that_the_guard_knows(name: str) -> None:
    guard = build_guard(name)
    assert isinstance(guard, Adapter)
    grammar = guard.grammar("input")
    assert grammar is not None
    assert ('"S14"' in grammar) == (name != "llama-guard-3-vision")
    assert held(guard, None, "g") is guard
