"""Policies are data: complete for the benchmark, replaceable by a file, refused in one line when wrong."""

from pathlib import Path

import pytest

from safemt_client.moderator.guards.common import SCENARIOS
from safemt_client.moderator.policies import load_policies
from safemt_client.providers.errors import InputError


def test_every_scenario_and_the_general_one_have_a_policy() -> None:
    policies = load_policies()
    assert set(policies.texts) == {*SCENARIOS, "general"}
    assert len(SCENARIOS) == 17
    assert all(150 < len(text) < 500 for text in policies.texts.values())


def test_the_policies_of_several_scenarios_are_joined() -> None:
    policies = load_policies()
    fraud, malware = policies.texts["Fraud"].strip(), policies.texts["Malware"].strip()
    assert policies.text_for(["Malware", "unheard of", "Fraud", "Malware"]) == f"{malware}\n\n{fraud}"


@pytest.mark.parametrize("scenarios", [[], ["unheard of"]])
def test_without_a_known_scenario_the_general_policy_applies(scenarios: list[str]) -> None:
    policies = load_policies()
    assert policies.text_for(scenarios) == policies.texts["general"].strip()


def test_a_file_replaces_them_and_its_content_decides_the_hash(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text('version = "2"\n[policies]\ngeneral = "Be careful."\n"My kind" = "Be kind."\n')
    mine = load_policies(str(file))
    assert (mine.name, mine.version, mine.text_for(["My kind"])) == (str(file), "2", "Be kind.")
    assert mine.hash == load_policies(str(file)).hash
    before = mine.hash
    file.write_text('version = "2"\n[policies]\ngeneral = "Be careful!"\n"My kind" = "Be kind."\n')
    assert load_policies(str(file)).hash != before


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("policies = [", "not TOML"),
        ("", "general"),
        ('[policies]\n"Fraud" = "x"', "general"),
        ("[policies]\ngeneral = 1", "'general'"),
        ('[policies]\ngeneral = " "', "not blank"),
        ('general = "x"', "unknown entry"),
        ('version = 2\n[policies]\ngeneral = "x"', "must be strings"),
    ],
)
def test_a_bad_file_is_refused_in_one_line(tmp_path: Path, text: str, says: str) -> None:
    file = tmp_path / "bad.toml"
    file.write_text(text)
    with pytest.raises(InputError, match=says) as error:
        load_policies(str(file))
    assert str(error.value).startswith(str(file))
    assert "\n" not in str(error.value)


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe\x00")
    for name in ("absent.toml", "binary.toml"):
        with pytest.raises(InputError, match="cannot be read"):
            load_policies(str(tmp_path / name))
