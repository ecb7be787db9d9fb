"""The classifier as a provider and a guard: its form, its errors and, where installed, its real weights."""

import json
import sys
import threading

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from safemt_client.moderator.classifier import LocalClassifier
from safemt_client.moderator.guards.profanity import ClassifierGuard
from safemt_client.moderator.types import Assessment
from safemt_client.providers.errors import InputError
from safemt_client.providers.types import Image, Message, Outcome, Reply, Request

PICTURE = Image("a" * 64, "image/png", 1, 1, 1, lambda: b"x")
TALK = (Message("user", "first", (PICTURE,)), Message("assistant", "second"), Message("user", "third"))


def said(text: str) -> Reply:
    return Reply(Outcome.ANSWERED, text=text)


def assess(text: str) -> Assessment:
    return ClassifierGuard().parse(said(text), "input")


def classify(classifier: LocalClassifier, *messages: Message) -> Reply:
    return anyio.run(classifier.ask, Request(messages))


def test_a_guard_sees_the_last_message_or_all_without_images() -> None:
    (last,) = ClassifierGuard().request(TALK, "input").messages
    (whole,) = ClassifierGuard("conversation").request(TALK, "input").messages
    assert (last.text, whole.text) == ("third", "first\nsecond\nthird")
    assert last.images == whole.images == ()
    assert ClassifierGuard().key == ClassifierGuard("last").key != ClassifierGuard("conversation").key


@pytest.mark.parametrize("label", ["safe", "unsafe"])
def test_a_label_is_the_verdict_and_its_score_the_confidence(label: str) -> None:
    assessment = assess(json.dumps({"label": label, "score": 0.97}))
    assert (assessment.verdict, assessment.confidence) == (label, 0.97)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "safe",
        '"safe"',
        '["safe", 1]',
        '{"label": "safe"}',
        '{"label": "Safe", "score": 0.9}',
        '{"label": "safe", "score": "0.9"}',
        '{"label": "safe", "score": true}',
        '{"label": "safe", "score": 1.2}',
        '{"label": "safe", "score": NaN}',
        '{"label": "safe", "score": 0.9, "and": 1}',
        '{"label": "safe", "score": 0.9} ',
    ],
)
def test_another_form_is_unparsed(text: str) -> None:
    expected = "safe" if text.endswith("} ") else "unparsed"
    assert assess(text).verdict == expected


@given(st.text())
def test_no_text_makes_it_raise_or_is_taken_for_safe(text: str) -> None:
    assert assess(text).verdict == "unparsed"


def test_the_text_is_classified_off_the_event_loop() -> None:
    seen: list[tuple[str, bool]] = []

    def unsafe(text: str) -> float:
        seen.append((text, threading.current_thread() is threading.main_thread()))
        return 0.97

    reply = classify(LocalClassifier(unsafe, name="x"), Message("user", "one"), Message("user", "two"))
    assert seen == [("one\ntwo", False)]
    assert reply.outcome is Outcome.ANSWERED
    assert json.loads(reply.text) == {"label": "unsafe", "score": 0.97}
    assert (reply.resolved_model, reply.started_at is None) == ("local-classifier/x", False)
    assert reply.usage.cost_usd == 0.0


def test_what_it_cannot_classify_is_an_outcome() -> None:
    def unsafe(text: str) -> float:
        raise RuntimeError("broken weights\nmore")

    classifier = LocalClassifier(unsafe, name="x")
    assert classify(classifier, Message("user", "a")).error == "RuntimeError: broken weights"
    reply = classify(classifier, TALK[0])
    assert (reply.outcome, reply.error) == (Outcome.ERROR_PERMANENT, "the classifier does not accept images")


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "profanity_check", None)
    with pytest.raises(InputError, match=r"pip install 'safemt-client\[classifiers\]'"):
        anyio.run(LocalClassifier.load)


def test_the_real_weights_tell_abuse_from_courtesy() -> None:
    pytest.importorskip("profanity_check")

    async def scenario() -> list[str]:
        classifier, guard = await LocalClassifier.load(), ClassifierGuard()
        assert classifier.identity.startswith("local-classifier/alt-profanity-check-")
        texts = ("have a nice day", "you stupid idiot", "what shall we tell nobody about?")
        replies = [await classifier.ask(guard.request([Message("user", text)], "input")) for text in texts]
        return [guard.parse(reply, "input").verdict for reply in replies]

    # The last shows that it looks at the wording: what is kept secret is civil.
    assert anyio.run(scenario) == ["safe", "unsafe", "safe"]
