"""Prompts and forms of answers that users write themselves."""

from pathlib import Path

import pytest
from support.guards import ASKED, TEMPLATE, read

from safemt_client.moderator.guards import build_guard
from safemt_client.providers.errors import InputError


def test_text_templates(tmp_path: Path) -> None:
    file = tmp_path / "prompt.txt"
    file.write_text("Rate this:\n{conversation}")
    text = build_guard("llavashield", template=str(file)).request(ASKED, "input").messages[0].text
    assert text.startswith('Rate this:\n[{"role": "user"')
    file.write_text("My policy: answer 0 or 1. K1: manners.")
    guard = build_guard("gpt-oss-safeguard", template=str(file))
    assert guard.request(ASKED, "input").messages[0].text == "My policy: answer 0 or 1. K1: manners."
    found = read(guard, '{"violation": 1, "policy_category": "K1"}')
    assert (found.verdict, found.categories, found.scenarios) == ("unsafe", ("K1",), ())
    with pytest.raises(InputError, match="conversation"):
        build_guard("llavashield", template=str(file))


LINES = """
prompt = "{asked}|{conversation}"
system = "You moderate."
[asked]
input = "Asked?"
[answer]
form = "lines"
verdict = "Risk"
intent = "Intent"
scenarios = "Kind"
confidence = "Sure"
[answer.labels]
safe = ["none"]
unsafe = ["high", "low"]
"""


def test_a_template_with_lines(tmp_path: Path) -> None:
    file = tmp_path / "lines.toml"
    file.write_text(LINES)
    guard = build_guard("chatshield", template=str(file))
    request = guard.request(ASKED, "input")
    assert [message.role for message in request.messages] == ["system", "user"]
    assert request.messages[1].text.startswith("Asked?|<user ")
    assert request.response_schema is None
    found = read(guard, "Risk: Low\nKind: Satire, Bias\nIntent: a joke: on cats\n\nSure: 0.5")
    assert (found.verdict, found.scenarios, found.intent) == ("unsafe", ("Satire", "Bias"), "a joke: on cats")
    assert found.confidence == 0.5
    assert read(guard, "Risk: none\nKind: None").verdict == "safe"
    for text in ("Risk: none\nRisk: high", "Risk: none\nand more", "none", "Risk: none\nKind: Fraud"):
        assert read(guard, text).verdict == "unparsed"


def test_a_template_with_a_word(tmp_path: Path) -> None:
    file = tmp_path / "word.toml"
    file.write_text(
        'prompt = "{conversation}"\n[answer]\nform = "word"\n[answer.labels]\nsafe = ["ok"]\nunsafe = ["bad"]'
    )
    guard = build_guard("llm", template=str(file))
    assert [read(guard, text).verdict for text in ("OK\n", "bad", "ok bad", "")] == [
        "safe",
        "unsafe",
        "unparsed",
        "unparsed",
    ]


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("[answer]", "[answer", "not TOML"),
        ("{conversation}", "", "conversation"),
        ("max_tokens = 700", "max_tokens = 0", "max_tokens"),
        ('name = "default"', "name = 1", "must be strings"),
        ('name = "default"', 'title = "x"', "title"),
        ('form = "json"', 'form = "yaml"', "form"),
        ('verdict = "verdict"', "", "verdict"),
        ('intent = "intent"', "intent = 1", "fields"),
        ('safe = ["safe"]', "", "safe"),
        ('safe = ["safe"]', 'safe = ["unsafe"]', "two verdicts"),
        ('safe = ["safe"]', 'safe = "safe"', "list"),
        ('input = "', 'before = "', "before"),
    ],
)
def test_a_bad_template_is_refused_in_one_line(tmp_path: Path, old: str, new: str, says: str) -> None:
    file = tmp_path / "bad.toml"
    file.write_text(TEMPLATE.read_text().replace(old, new))
    with pytest.raises(InputError, match=says) as error:
        build_guard("chatshield", template=str(file))
    assert str(error.value).startswith(str(file))
    assert "\n" not in str(error.value)
