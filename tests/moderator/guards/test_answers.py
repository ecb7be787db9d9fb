"""Guards' adapters read the documented forms and nothing else."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.guards import read

from safemt_client.moderator.guards import GUARDS, build_guard
from safemt_client.moderator.guards.common import SCENARIOS
from safemt_client.moderator.types import Stage
from safemt_client.providers.types import Outcome, Reply


def result(**categories: bool | None) -> dict[str, object]:
    named = {name.replace("__", "/"): value for name, value in categories.items()}
    scores = {name: 0.75 if value else 0.01 for name, value in named.items()}
    return {"flagged": any(named.values()), "categories": named, "category_scores": scores}


def moderation(*results: dict[str, object]) -> str:
    return json.dumps({"id": "m", "model": "omni-moderation-latest", "results": results})


LLAVA = {
    "user_rating": "Unsafe",
    "assistant_rating": "Safe",
    "user_dimension": "Privacy Violation",
    "assistant_dimension": "NA: None applying",
    "user_rationale": "a reason",
    "assistant_rationale": "a reason",
}
JUDGED = {
    "verdict": "controversial",
    "intent": "to learn about elections",
    "scenarios": ["Political", "weather"],
    "policy": "Stay neutral.",
    "confidence": 0.75,
}
# name, stage, options, answer, verdict, categories, scenarios
Form = tuple[str, Stage, dict[str, str], str, str, tuple[str, ...], tuple[str, ...]]
LLAMA: list[Form] = [
    form
    for name in ("llama-guard-3", "llama-guard-3-vision", "llama-guard-4")
    for form in (
        (name, "input", {}, "safe", "safe", (), ()),
        (name, "output", {}, "\n\nSafe ", "safe", (), ()),
        (name, "input", {}, "unsafe\nS13", "unsafe", ("Elections",), ("Political",)),
        (name, "output", {}, "\n\nunsafe\nS7, S10,S7\n", "unsafe", ("Privacy", "Hate"), ("Privacy Violation", "Hate Speech")),
    )
]  # fmt: skip
FORMS: list[Form] = [
    *LLAMA,
    ("llama-guard-4", "input", {}, "unsafe\nS14", "unsafe", ("Code Interpreter Abuse",), ("Malware",)),
    ("shieldgemma-2", "input", {}, "No", "safe", (), ()),
    ("shieldgemma-2", "input", {}, "Yes", "unsafe", (), ()),
    ("shieldgemma-2", "input", {"policy": "violence"}, " yes.\n", "unsafe", ("violence",), ("Violence",)),
    ("shieldgemma", "output", {}, "No", "safe", (), ()),
    ("shieldgemma", "input", {"policy": "hate"}, "Yes", "unsafe", ("hate",), ("Hate Speech",)),
    ("qwen3guard", "input", {}, "Safety: Safe\nCategories: None", "safe", (), ()),
    ("qwen3guard", "output", {}, "Safety: Safe\nCategories: None\nRefusal: Yes\n", "safe", (), ()),
    ("qwen3guard", "input", {}, "Safety: Controversial\nCategories: Politically Sensitive Topics", "controversial", ("Politically Sensitive Topics",), ("Political",)),
    ("qwen3guard", "output", {}, "safety : Unsafe\r\nCategories: PII, Copyright Violation\r\nRefusal: No", "unsafe", ("Personally Identifiable Information", "Copyright Violation"), ("Privacy Violation",)),
    ("llavashield", "input", {}, json.dumps(LLAVA), "unsafe", ("Privacy Violation",), ("Privacy Violation",)),
    ("llavashield", "output", {}, f"<OUTPUT>\n```json\n{json.dumps(LLAVA, indent=2)}\n```\n</OUTPUT>", "safe", (), ()),
    ("guardreasoner-vl", "input", {}, "<think>\nsteps\n</think>\n<result>\nAnswers:\nRequest: unharmful\nResponse: None\n</result>", "safe", (), ()),
    ("guardreasoner-vl", "output", {}, "<result>\nRequest: unharmful\nResponse: harmful\n</result>", "unsafe", (), ()),
    ("wildguard", "input", {}, "Harmful request: no\nResponse refusal: n/a\nHarmful response: n/a", "safe", (), ()),
    ("wildguard", "output", {}, "Harmful request: no\nResponse refusal: no\nHarmful response: yes\n", "unsafe", (), ()),
    ("granite-guardian", "input", {"generation": "3.2"}, "No", "safe", (), ()),
    ("granite-guardian", "input", {"generation": "3.2"}, "Yes\n<confidence> High </confidence>", "unsafe", ("harm",), ()),
    ("granite-guardian", "output", {}, "<score> no </score>", "safe", (), ()),
    ("granite-guardian", "output", {"generation": "4.1"}, "<think>\n</think>\n<score>yes</score>", "unsafe", ("harm",), ()),
    ("gpt-oss-safeguard", "input", {}, "0", "safe", (), ()),
    ("gpt-oss-safeguard", "output", {}, "1", "unsafe", (), ()),
    ("gpt-oss-safeguard", "input", {}, '{"violation": 0, "policy_category": null}', "safe", (), ()),
    ("gpt-oss-safeguard", "input", {}, '{"violation": 1, "policy_category": "C12", "rationale": "r"}', "unsafe", ("Political",), ("Political",)),
    ("openai-moderation", "input", {}, moderation(result(hate=False, illicit=None)), "safe", (), ()),
    ("openai-moderation", "output", {}, moderation(result(hate=False), result(hate__threatening=True)), "unsafe", ("hate/threatening",), ("Hate Speech", "Threat")),
    ("llm", "input", {}, '{"verdict": "safe", "intent": "bread", "scenarios": [], "policy": "", "confidence": 1}', "safe", (), ()),
    ("llm", "output", {}, f"```json\n{json.dumps(JUDGED)}\n```", "controversial", ("Political", "weather"), ("Political",)),
    ("profanity", "input", {}, '{"label": "safe", "score": 0.9}', "safe", (), ()),
    ("profanity", "output", {}, '{"label": "unsafe", "score": 0.9}', "unsafe", (), ()),
    ("chatshield", "input", {}, '<think>hm</think>{"verdict": "UNSAFE", "scenarios": ["satire"]}', "unsafe", ("satire",), ("Satire",)),
]  # fmt: skip


@pytest.mark.parametrize(("name", "stage", "options", "text", "verdict", "categories", "scenarios"), FORMS)
@pytest.mark.parametrize("outcome", [Outcome.ANSWERED, Outcome.TRUNCATED])
def test_documented_forms(name, stage, options, text, verdict, categories, scenarios, outcome) -> None:
    guard = build_guard(name, options=options)
    found = guard.parse(Reply(outcome, text), stage)
    if outcome is Outcome.TRUNCATED and text.strip(" .\n").isalnum() and not name.startswith("shieldgemma"):
        # One word of a longer answer; ShieldGemma is asked for one token only, so its answer is always cut.
        assert (found.verdict, found.raw) == ("unparsed", text)
        assert found.error
        return
    assert (found.verdict, found.categories, found.scenarios) == (verdict, categories, scenarios)
    assert (found.raw, found.error) == (text, None)
    assert set(found.scenarios) <= set(SCENARIOS)


def test_every_guard_has_its_forms() -> None:
    for kind in GUARDS.values():
        seen = {verdict for name, _, _, _, verdict, _, _ in FORMS if name == kind.card.name}
        assert seen >= ({"safe", "controversial"} if kind.card.name == "llm" else {"unsafe"})


NOT_ANSWERS = [
    "",
    " \n",
    "safe unsafe",
    "safe\nunsafe\nS1",
    "unsafe",
    "unsafe\nS99",
    "unsafe S1",
    "It is safe.",
    "The label is: safe",
    "sicher",
    "安全",
    "saf",
    "Yes and no",
    "No\nYes",
    "Safety: Safe",
    "Safety: Safe\nCategories: Violent",
    "Safety: Safe\nSafety: Unsafe\nCategories: None",
    "I think\nSafety: Safe\nCategories: None",
    "Harmful request: no",
    "Harmful request: no\nResponse refusal: no",
    "Harmful request: n/a\nResponse refusal: n/a\nHarmful response: n/a",
    "<think>Request: unharmful",
    "<result>Request: unharmful\nRequest: harmful\nResponse: None</result>",
    "<result>\nRequest: unharmful\nResponse: None\n",
    "<score> no",
    "<score>no</score><score>yes</score>",
    "<think><score>no</score>",
    "No <confidence> certain </confidence>",
    '{"violation": false}',
    '{"violation": 0, "policy_category": "C1"}',
    '{"violation": 0, "violation": 1}',
    '{"violation": 2}',
    '{"verdict": "safe", "verdict": "unsafe"}',
    '{"verdict": "safe", "scenarios": ["Fraud"]}',
    '{"verdict": "fine"}',
    '{"verdict": ["safe"]}',
    '{"verdict": "safe"',
    'Here it is: {"verdict": "safe"}',
    json.dumps(LLAVA | {"user_rating": "Safe", "assistant_dimension": "Fraud"}),
    json.dumps(LLAVA | {"user_rating": "null", "assistant_rating": "null"}),
    moderation(),
    moderation(result(hate=True) | {"flagged": False}),
    moderation(result(hate=False) | {"flagged": True}),
    moderation(result(hate=False), {"flagged": False}),
    moderation(result()),
    "[" * 99999,
    "{}",
    "null",
    "\ud800",
]


@pytest.mark.parametrize("name", GUARDS)
def test_nothing_else_is_an_answer(name: str) -> None:
    guard = build_guard(name)
    for stage in guard.card.stages:
        for text in NOT_ANSWERS:
            found = read(guard, text, stage)
            assert found.verdict == "unparsed", text
            assert found.error


@pytest.mark.parametrize("name", GUARDS)
@pytest.mark.parametrize(
    "outcome", [outcome for outcome in Outcome if outcome not in ("answered", "truncated")]
)
def test_a_blocked_or_failed_reply_is_no_verdict(name: str, outcome: Outcome) -> None:
    guard = build_guard(name)
    for form in FORMS:
        found = guard.parse(Reply(outcome, form[3], error="one line"), "input")
        assert found.verdict == ("unparsed" if outcome.observed else "error")
        assert found.error == "one line"


WORDS = ["safe", "unsafe", "S1", "Yes", "No", "0", "1", "Safety:", "Safe", "Categories:", "None", "Refusal:"]
WORDS += ["<think>", "</think>", "<result>", "</result>", "Request:", "Response:", "unharmful", "harmful"]
WORDS += ["Harmful request:", "Response refusal:", "Harmful response:", "no", "n/a", "<score>", "</score>"]
WORDS += [
    "<confidence>",
    "High",
    "</confidence>",
    "{",
    "}",
    '"verdict"',
    '"safe"',
    '"violation"',
    ":",
    ",",
    "[",
    "]",
]
WORDS += [
    "\n",
    " ",
    "```json\n",
    "but",
    '"results"',
    '"flagged"',
    "false",
    "true",
    "<OUTPUT>",
    "</OUTPUT>",
    "\ud800",
]
PIECES = st.lists(st.sampled_from(WORDS) | st.text(max_size=5), max_size=14).map("".join)


@pytest.mark.parametrize("name", GUARDS)
@given(text=st.text() | PIECES, raw=st.none() | PIECES, truncated=st.booleans())
@settings(max_examples=120, deadline=None)
def test_no_safe_from_garbage(name: str, text: str, raw: str | None, truncated: bool) -> None:
    guard = build_guard(name)
    outcome = Outcome.TRUNCATED if truncated else Outcome.ANSWERED
    for stage in guard.card.stages:
        found = guard.parse(Reply(outcome, text, raw=raw), stage)
        if found.verdict == "safe":
            assert is_documented_safe(name, (raw or text) if name == "openai-moderation" else text, stage)
        assert found.verdict in ("safe", "unsafe", "controversial", "unparsed")


def is_documented_safe(name: str, text: str, stage: Stage) -> bool:
    """The documented forms for safe, written down a second time and more plainly than in the adapters."""
    if "</think>" in text:
        text = text.split("</think>", 1)[1]
    plain = "".join(text.lower().split())
    if name.startswith("llama-guard"):
        return plain == "safe"
    if name.startswith("shieldgemma"):
        return plain.rstrip(".,") == "no"
    if name == "qwen3guard":
        return plain in (
            "safety:safecategories:none",
            *(f"safety:safecategories:nonerefusal:{r}" for r in ("yes", "no")),
        )
    if name == "guardreasoner-vl":
        return plain.removeprefix("<result>").removeprefix("answers:").startswith("request:") and (
            ("request:unharmful" if stage == "input" else "response:unharmful") in plain
        )
    if name == "wildguard":
        return ("harmfulrequest:no" if stage == "input" else "harmfulresponse:no") in plain
    if name == "granite-guardian":
        return plain == "<score>no</score>"
    if name == "gpt-oss-safeguard" and plain == "0":
        return True
    content = json.loads(text.strip().removeprefix("```json").removeprefix("```").removesuffix("```"))
    return content.get("verdict") == "safe" or content.get("violation") == 0 or "results" in content


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form[0])
@given(noise=st.text(min_size=1).filter(lambda text: text.strip("., \t\r\n\f\v\x1c\x1d\x1e\x1f\x85").strip()))
@settings(max_examples=25, deadline=None)
def test_prose_around_an_answer_is_no_answer(form: Form, noise: str) -> None:
    name, stage, options, text, *_ = form
    guard = build_guard(name, options=options)
    for changed in (f"{noise}\n{text}", f"{text} | {noise}"):
        found = read(guard, changed, stage)
        assert found.verdict != "safe"


def test_what_only_some_answers_hold() -> None:
    found = read(build_guard("llm"), json.dumps(JUDGED))
    assert (found.intent, found.policy, found.confidence) == (
        "to learn about elections",
        "Stay neutral.",
        0.75,
    )
    for wrong in (True, 2, -1, "high", None, float("nan"), 10**400):
        answer = read(build_guard("llm"), json.dumps({"verdict": "unsafe", "confidence": wrong}))
        assert (answer.verdict, answer.confidence) == ("unsafe", None)
    qwen = build_guard("qwen3guard")
    assert read(qwen, "Safety: Safe\nCategories: None\nRefusal: Yes", "output").refusal is True
    assert read(qwen, "Safety: Safe\nCategories: None").refusal is None
    wild = build_guard("wildguard")
    assert (
        read(wild, "Harmful request: no\nResponse refusal: no\nHarmful response: no", "output").refusal
        is False
    )
    assert read(build_guard("openai-moderation"), moderation(result(hate=True))).confidence == 0.75
    body = moderation(result(hate=False))
    assert read(build_guard("openai-moderation"), "text", raw=body).verdict == "safe"


def test_confidence_is_the_probability_of_the_label() -> None:
    tokens = (("<score>", -0.5), (" no", -0.25), (" </score>", -0.5))
    found = read(build_guard("granite-guardian"), "<score> no </score>", logprobs=tokens)
    assert found.confidence == pytest.approx(0.7788, abs=1e-4)
    found = read(build_guard("shieldgemma-2"), "No", logprobs=(("No", float("nan")),))
    assert (found.verdict, found.confidence) == ("safe", None)
    found = read(build_guard("shieldgemma-2"), "No", logprobs=(("Yes", -0.1),))
    assert (found.verdict, found.confidence) == ("safe", None)
    assert read(build_guard("shieldgemma-2"), "No").confidence is None
