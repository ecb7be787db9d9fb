"""Whatever the parsers are given: a value or one clear line, soon. `--hypothesis-profile fuzz` goes on for long."""

import contextlib
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.drawn import moving, noise, red_for_green, saved

from safemt_client.datasets.images import ImageError, Preparation, prepare
from safemt_client.datasets.model import Dialogue, Oddity
from safemt_client.datasets.records import read_record
from safemt_client.judges import rubric
from safemt_client.judges.parse import looks_like_refusal, parse
from safemt_client.loading import load_settings
from safemt_client.moderator import policies
from safemt_client.moderator.guards import template
from safemt_client.providers.batch import anthropic as anthropic_batches
from safemt_client.providers.batch import openai as openai_batches
from safemt_client.providers.batch.base import moment, read_lines
from safemt_client.providers.errors import InputError
from safemt_client.providers.keys import Redactor
from safemt_client.providers.limits.rates import rate_limits
from safemt_client.providers.responses.outcomes import classify_response, error_reply
from safemt_client.providers.types import Outcome, Reply
from safemt_client.proxy.chat import Conversation, read_conversation
from safemt_client.proxy.held import hold
from safemt_client.proxy.shown import InvalidChatError
from safemt_client.results.scores.human import read_csv
from safemt_client.results.sql.statements import Splitter
from safemt_client.settings import RunSettings

# The number of examples is the profile's: 100, or those of `fuzz` in tests/conftest.py.
fuzz = settings(
    deadline=2000, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
TEXT = st.text(st.characters(exclude_categories=()), max_size=40)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=12,
)


def shaped(*names: str, leaf: st.SearchStrategy[Any] = JSON) -> st.SearchStrategy[Any]:
    """Objects that have names which a parser looks for, with anything as their values."""
    keys = st.sampled_from(names) | TEXT
    return st.recursive(
        leaf,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=6),
        max_leaves=20,
    )


COMPLETION = shaped(
    *(
        "choices",
        "message",
        "content",
        "finish_reason",
        "error",
        "code",
        "type",
        "usage",
        "logprobs",
        "refusal",
    ),
    *(
        "text",
        "delta",
        "model",
        "id",
        "prompt_tokens",
        "cost",
        "promptFeedback",
        "metadata",
        "tool_calls",
        "index",
    ),
)
HEADERS = st.dictionaries(
    st.sampled_from(
        ["retry-after", "retry-after-ms", "date", "x-ratelimit-limit-requests", "x-ratelimit-reset-tokens"]
    )
    | st.sampled_from(
        ["anthropic-ratelimit-requests-reset", "x-ratelimit-remaining-tokens", "ratelimit-reset"]
    ),
    st.text(st.characters(max_codepoint=255), max_size=30)
    | st.sampled_from(
        ["1e400", "nan", "-1", "6m0s", "Wed, 21 Oct 99999 07:28:00 GMT", "2026-01-01T00:00:00Z", "inf"]
    ),
)


def one_line(error: Exception) -> None:
    assert str(error)
    assert len(str(error).splitlines()) == 1


@fuzz
@given(st.integers(100, 599), HEADERS, st.binary() | COMPLETION.map(lambda value: json.dumps(value).encode()))
def test_responses(status: int, headers: dict[str, str], body: bytes) -> None:
    for classify in (classify_response, error_reply):
        reply = classify(status, headers, Redactor("sk-planted-1").body(body))
        assert isinstance(reply, Reply)
        assert len((reply.error or "").splitlines()) <= 1
        assert not reply.usage.cost_usd or 0 <= reply.usage.cost_usd < float("inf")
    rate_limits(headers)


LINE = shaped(
    *(
        "custom_id",
        "response",
        "status_code",
        "body",
        "error",
        "code",
        "message",
        "result",
        "type",
        "choices",
    ),
    *("content", "data"),
)


@fuzz
@given(st.lists(LINE, max_size=3), st.binary(max_size=60), JSON)
def test_lines_of_batches(lines: list[Any], more: bytes, value: Any) -> None:
    body = b"\n".join(json.dumps(line).encode() for line in lines) + b"\n" + more
    for line in read_lines([body]):
        assert openai_batches._reply(line, classify_response).outcome in Outcome
        if line.get("type") != "succeeded":
            assert anthropic_batches._reply(line, None, "m").outcome in Outcome
    moment(value)


RECORD = shaped(
    *(
        "id",
        "dialogue",
        "messages",
        "role",
        "content",
        "images",
        "image_path",
        "benign",
        "scenario",
        "source",
    ),
)
DIALOGUE = st.lists(
    st.fixed_dictionaries({"role": st.sampled_from(["user", "assistant"]) | JSON, "content": TEXT | JSON}),
    max_size=3,
)


@fuzz
@given(RECORD | st.fixed_dictionaries({"id": TEXT | JSON, "dialogue": DIALOGUE | DIALOGUE.map(repr) | TEXT}))
def test_records(record: Any) -> None:
    oddities: list[Oddity] = []
    try:
        assert isinstance(read_record(record, "a: line 1", oddities), Dialogue)
    except InputError as error:
        one_line(error)


@fuzz
@given(
    TEXT | shaped("label", "refusal", "explanation", "category", "severity", "specificity").map(json.dumps)
)
def test_a_judges_answers(text: str) -> None:
    parse(text)
    looks_like_refusal(text)


TOML = st.text(max_size=60) | st.builds(
    lambda pairs: "\n".join(f"{name} = {value}" for name, value in pairs),
    st.lists(
        st.tuples(
            st.sampled_from(
                [
                    "criteria",
                    "criteria.general",
                    "scenarios",
                    "scenarios.a",
                    "sees",
                    "grades",
                    "categories",
                    "name",
                    "policies.general",
                    "version",
                    "prompt",
                    "answer.form",
                    "answer.labels.safe",
                    "max_tokens",
                    "asked",
                    "provider",
                    "judge",
                    "turns",
                    "limit",
                    "rpm",
                    "accounts",
                    "accounts.a.rpm",
                    "db",
                    "price",
                    "data",
                ]
            ),
            st.sampled_from(
                [
                    '"a"',
                    "1",
                    "-1",
                    "nan",
                    "inf",
                    "[]",
                    "[1]",
                    '["a", 1]',
                    "{}",
                    "{a = 1}",
                    "true",
                    "1979-05-27",
                    '"{conversation}"',
                    '"word"',
                    "[[[]]]",
                    '"\\u0000"',
                    "9" * 5000,
                    "[" * 3000,
                ]
            ),
        ),
        max_size=6,
    ),
)


@fuzz
@given(TOML)
def test_toml_files(tmp_path: Path, text: str) -> None:
    file = tmp_path / "a.toml"
    file.write_text(text, encoding="utf-8", errors="replace")
    for load in (rubric.load_rubric, policies.load_policies, template.load_template):
        try:
            load(str(file))
        except InputError as error:
            one_line(error)
    try:
        assert isinstance(load_settings({}, file), RunSettings)
    except InputError as error:
        one_line(error)


@fuzz
@given(
    st.binary(max_size=200)
    | st.lists(st.lists(TEXT, max_size=5), max_size=4).map(
        lambda rows: (
            b"request_hash,dialogue_key,stratum,label\n"
            + "\n".join(",".join(row) for row in rows).encode("utf-8", "replace")
        )
    )
)
def test_tables_of_labels(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "a.csv"
    file.write_bytes(content)
    try:
        for row in read_csv(file):
            assert all(isinstance(value, str) for value in row[:5])
    except InputError as error:
        one_line(error)


@fuzz
@given(
    st.lists(
        st.sampled_from(["'", '"', ";", "--", "\n", "/*", "*/", "$$", "$a$", "e'", "\\", "a", " "]),
        max_size=40,
    )
)
def test_statements(pieces: list[str]) -> None:
    together, apart = Splitter(), Splitter()
    whole = together.feed("".join(pieces))
    found = [statement for piece in pieces for statement in apart.feed(piece)]
    assert isinstance(whole, list)
    assert isinstance(found, list)
    together.rest()
    assert together.empty


@fuzz
@given(
    JSON
    | st.lists(
        st.fixed_dictionaries(
            {"role": st.sampled_from(["user", "assistant", "system", "tool"]) | TEXT},
            optional={
                "content": JSON
                | st.lists(shaped("type", "text", "image_url", "url", "input_text"), max_size=3),
                "tool_calls": JSON,
                "audio": JSON,
                "function_call": JSON,
            },
        ),
        max_size=4,
    )
)
def test_chat_requests(messages: Any) -> None:
    try:
        assert isinstance(read_conversation(messages), Conversation)
    except InvalidChatError as error:
        one_line(error)


MARK = "odd one"
MARKED = shaped(
    *("choices", "message", "delta", "text", "content", "type", "image_url", "url", "tool_calls", "function"),
    *("name", "arguments", "index", "error", "logprobs", "token", "reasoning_details", "audio", "data", MARK),
    leaf=JSON | st.just(MARK),
)
ANSWER = st.fixed_dictionaries(
    {
        "choices": st.lists(
            st.dictionaries(st.sampled_from(["message", "delta", "text", "x"]), MARKED), max_size=3
        )
    }
) | st.dictionaries(st.sampled_from(["choices", "output", "error", "id", MARK]), MARKED, max_size=4)


@fuzz
@given(st.lists(ANSWER, min_size=1, max_size=3))
def test_no_text_of_an_answer_passes_unseen(chunks: list[Any]) -> None:
    whole = json.dumps(chunks[0]).encode()
    stream = "".join(f"data: {json.dumps(one)}\n\n" for one in chunks).encode()
    for raw, is_stream in ((whole, False), (stream, True)):
        try:
            held = hold(raw, stream=is_stream)
        except ValueError:
            continue
        seen = {index for index, shown in held.said.items() if MARK in shown.text or shown.hidden}
        if MARK.encode() in held.whole:
            assert seen
        assert MARK.encode() not in held.with_refusals("no", held.said)
        if seen:
            assert MARK.encode() not in held.with_refusals("no", seen)


@fuzz
@given(
    COMPLETION.map(lambda value: json.dumps(value).encode()) | st.binary(),
    st.lists(COMPLETION, max_size=3).map(
        lambda found: "".join(f"data: {json.dumps(one)}\n\n" for one in found).encode()
    ),
)
def test_answers_that_are_held_back(body: bytes, stream: bytes) -> None:
    for raw, is_stream in ((body, False), (stream, True), (body, True)):
        with contextlib.suppress(ValueError):
            hold(raw, stream=is_stream)


_SEVERAL = ("GIF", "PNG", "WEBP", "MPO", "TIFF")


@pytest.fixture(scope="module")
def pictures() -> list[bytes]:
    kinds = ("PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF", "AVIF", "JPEG2000")
    told = {kind: {"icc_profile": red_for_green()} for kind in ("PNG", "JPEG", "WEBP", "TIFF", "AVIF")}
    found = [saved(noise((20, 20)), kind, **told.get(kind, {})) for kind in kinds]
    return [*found, *(moving(kind, (20, 20)) for kind in _SEVERAL)]


@fuzz
@given(
    st.integers(0, 7 + len(_SEVERAL)),
    st.lists(st.tuples(st.integers(0, 500), st.integers(0, 255)), max_size=8),
    st.integers(1, 2000),
    st.sampled_from([16, 64]),
    st.booleans(),
)
def test_pictures(
    pictures: list[bytes],
    tmp_path: Path,
    which: int,
    changes: list[tuple[int, int]],
    cut: int,
    edge: int,
    truncated: bool,
) -> None:
    content = bytearray(pictures[which][:cut])
    for at, value in changes:
        content[at % len(content)] = value
    (tmp_path / "a").write_bytes(content)
    try:
        image = prepare(tmp_path / "a", item="a", how=Preparation(max_edge=edge, truncated=truncated))
        assert max(image.width, image.height) <= edge
    except ImageError as error:
        one_line(error)
