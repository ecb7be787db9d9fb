"""Names, options, keys and cards of the guards."""

from pathlib import Path

import pytest
from support.guards import TEMPLATE

from safemt_client.moderator.guards import GUARDS, build_guard, guards_table
from safemt_client.moderator.guards.common import SCENARIOS
from safemt_client.moderator.guards.gpt_oss_safeguard import DEFINITIONS
from safemt_client.providers.errors import InputError

DOC = Path(__file__).parents[3] / "docs" / "guards.md"


def test_keys_tell_apart_whatever_decides_an_answer(tmp_path: Path) -> None:
    changed = tmp_path / "template.toml"
    changed.write_text(TEMPLATE.read_text().replace('safe = ["safe"]', 'safe = ["safe", "ok"]', 1))
    guards = [build_guard(name) for name in GUARDS]
    guards += [build_guard("granite-guardian", options={"generation": g}) for g in ("3.2", "4.1")]
    guards += [
        build_guard("shieldgemma-2", options={"policy": "sexual"}),
        build_guard("llm", template=str(changed)),
    ]
    assert len({guard.key for guard in guards}) == len(guards)
    assert build_guard("llm").key == build_guard("llm", template=None).key


def test_unknown_names_and_options_are_refused(tmp_path: Path) -> None:
    for name, options, says in [
        ("lama-guard", {}, "llama-guard-3, "),
        ("llama-guard-3", {"policy": "x"}, "its options are: none"),
        ("shieldgemma-2", {"policy": "x"}, "dangerous"),
        ("granite-guardian", {"generation": "2"}, "3.3"),
        ("gpt-oss-safeguard", {"template": str(tmp_path / "absent")}, "cannot be read"),
    ]:
        with pytest.raises(InputError, match=says):
            build_guard(name, options=options)


def test_cards_are_complete() -> None:
    for name, kind in GUARDS.items():
        assert build_guard(name).card == kind.card
        assert kind.card.source.startswith("https://")
        assert kind.card.stages[0] == "input"
    assert tuple(DEFINITIONS) == SCENARIOS


def test_the_table_in_the_docs_is_that_of_the_cards() -> None:
    assert guards_table() in DOC.read_text(encoding="utf-8")
