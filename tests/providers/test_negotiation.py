"""What is sent after an endpoint has refused a parameter, and what is kept of it."""

import json
from collections.abc import Callable, Mapping
from typing import Any

import anyio
import pytest

from safemt_client.providers.error_codes import ErrorCode
from safemt_client.providers.negotiation import (
    OWN_REASONING,
    Learnt,
    Negotiation,
    Negotiations,
    Remedy,
    as_sent,
)
from safemt_client.providers.responses.oddities import LONE_TAG
from safemt_client.providers.responses.thinking import AUTO, Reading
from safemt_client.providers.types import Outcome, Reply

WANTED = {"temperature": 0.0, "max_tokens": 9, "stream": False}
SCHEMA = {"type": "json_schema", "json_schema": {"name": "answer"}}
GOOD = Reply(Outcome.ANSWERED, text="yes", status_code=200)


def refusal(message: str, status: int = 400, **fields: Any) -> Reply:
    body = {"error": {"message": message, **fields}}
    code = ErrorCode.SERVER_ERROR if status >= 500 else ErrorCode.BAD_REQUEST
    outcome = Outcome.ERROR_TRANSIENT if status >= 500 else Outcome.ERROR_PERMANENT
    return Reply(outcome, error=message, error_code=code, status_code=status, raw=json.dumps(body))


class Server:
    """Refuses names; `takes` may look at the whole of what is sent."""

    def __init__(
        self, *refused: str, takes: Callable[[Mapping[str, Any]], Reply | None] | None = None
    ) -> None:
        self.refused = refused
        self.takes = takes
        self.asked: list[dict[str, Any]] = []

    async def __call__(self, sent: dict[str, Any]) -> Reply:
        self.asked.append(sent)
        await anyio.sleep(0)
        if self.takes is not None and (reply := self.takes(sent)) is not None:
            return reply
        for name in self.refused:
            if name in sent:
                return refusal(f"Unsupported parameter: '{name}'", param=name)
        return GOOD


def asked(
    server: Server,
    wanted: Mapping[str, Any] = WANTED,
    given: tuple[str, ...] = (),
    about: Negotiation | None = None,
) -> Reply:
    return anyio.run((about or Negotiation()).ask, wanted, given, server)


def test_several_are_left_out_or_renamed_one_after_the_other() -> None:
    told: list[Learnt] = []
    server, about = Server("temperature", "max_tokens"), Negotiation("local/m", "host:1", told.append)
    reply = asked(server, about=about)
    assert reply.outcome is Outcome.ANSWERED
    assert server.asked == [
        {"temperature": 0.0, "max_tokens": 9, "stream": False},
        {"max_tokens": 9, "stream": False},
        {"max_completion_tokens": 9, "stream": False},
    ]
    assert reply.parameters == {"max_completion_tokens": 9}
    assert {one.host for one in told} == {"host:1"}
    assert [str(one) for one in told] == [
        "local/m: temperature 0 is left out: the endpoint's default applies "
        "(Unsupported parameter: 'temperature')",
        "local/m: max_tokens is sent as max_completion_tokens (Unsupported parameter: 'max_tokens')",
    ]
    # From now on at once.
    asked(server, about=about)
    assert len(server.asked) == 4
    assert len(told) == 2


def test_another_value_is_tried_afresh() -> None:
    def only_the_default(sent: Mapping[str, Any]) -> Reply | None:
        bad = sent.get("temperature", 1) != 1
        return refusal("Only the default (1) is supported: 'temperature'") if bad else None

    server, about = Server(takes=only_the_default), Negotiation()
    asked(server, about=about)
    reply = asked(server, {"temperature": 1.0}, about=about)
    assert server.asked[-1] == {"temperature": 1.0}
    assert reply.parameters == {"temperature": 1.0}


def test_what_the_user_put_into_the_body_is_never_touched() -> None:
    server = Server("temperature")
    reply = asked(server, given=("temperature",))
    assert reply.outcome is Outcome.ERROR_PERMANENT
    assert reply.error == "Unsupported parameter: 'temperature'"
    assert len(server.asked) == 1
    # Nor is it overwritten by another name.
    server = Server("max_tokens")
    wanted = {"max_tokens": 9, "max_completion_tokens": 5}
    assert asked(server, wanted, ("max_completion_tokens",)).outcome is Outcome.ERROR_PERMANENT


def test_what_does_not_help_is_not_kept() -> None:
    told: list[Learnt] = []
    about = Negotiation("m", None, told.append)
    broken = Server(takes=lambda sent: refusal("'temperature' is not supported", param="temperature"))
    reply = asked(broken, about=about)
    assert reply.outcome is Outcome.ERROR_PERMANENT
    assert len(broken.asked) == 2
    assert (about.learnt, told) == ((), [])
    # Two names that are both refused: the same body is not sent twice.
    both = Server("max_tokens", "max_completion_tokens")
    assert asked(both, {"max_tokens": 9}, about=about).outcome is Outcome.ERROR_PERMANENT
    assert [list(sent) for sent in both.asked] == [["max_tokens"], ["max_completion_tokens"]]
    assert about.learnt == ()


@pytest.mark.parametrize(
    ("reply", "tries"),
    [
        (refusal("max_tokens is too large: 9", param="max_tokens", code="invalid_value"), 1),
        (refusal("maximum context length is 100 tokens"), 1),
        (refusal("the upstream failed: 'temperature' is not supported", 500), 1),
        (refusal("upstream", 500, metadata={"raw": '{"error": {"param": "temperature"}}'}), 2),
        (refusal("'temperature' is not supported", 401), 1),
        (Reply(Outcome.REFUSED_BY_PROVIDER, error="'temperature' is not supported", status_code=400), 1),
        (Reply(Outcome.ERROR_PERMANENT, raw="<p>'temperature' is not supported</p>", status_code=400), 1),
    ],
)
def test_errors_about_something_else_are_not_negotiated(reply: Reply, tries: int) -> None:
    server = Server(takes=lambda _: reply)
    assert asked(server).error == reply.error
    assert len(server.asked) == tries


def test_what_the_request_says_is_no_complaint() -> None:
    server = Server(takes=lambda _: refusal("cannot answer: 'temperature' is not supported here"))
    anyio.run(
        lambda: Negotiation().ask(
            WANTED, (), server, lambda text: text.replace("'temperature' is not supported", "")
        )
    )
    assert len(server.asked) == 1


def test_a_form_of_the_answer_becomes_plainer_step_by_step() -> None:
    wanted = {"response_format": SCHEMA, "logprobs": True}
    server = Server("response_format")
    assert asked(server, wanted).parameters == {"logprobs": True}
    assert [sent.get("response_format") for sent in server.asked] == [SCHEMA, {"type": "json_object"}, None]
    schemas = Server(
        takes=lambda sent: (
            refusal("json_schema: response_format is unavailable")
            if sent.get("response_format") == SCHEMA
            else None
        )
    )
    assert asked(schemas, wanted).parameters == {"logprobs": True, "response_format": "json_object"}


def test_wishes_are_dropped_where_a_refusal_names_nothing() -> None:
    def plain_only(sent: Mapping[str, Any]) -> Reply | None:
        return refusal("bad request") if len(sent) > 1 else None

    server, about = Server(takes=plain_only), Negotiation()
    wanted = {"temperature": 0.0, "response_format": SCHEMA, "logprobs": True}
    assert asked(server, wanted, about=about).parameters == {"temperature": 0.0}
    assert [list(sent) for sent in server.asked] == [
        ["temperature", "response_format", "logprobs"],
        ["temperature", "response_format"],
        ["temperature"],
    ]
    # Where there is no wish, it is the request itself.
    server = Server(takes=lambda _: refusal("bad request"))
    assert asked(server).outcome is Outcome.ERROR_PERMANENT
    assert len(server.asked) == 1


def test_an_endpoint_that_only_streams_is_asked_to_stream() -> None:
    def streams(sent: Mapping[str, Any]) -> Reply | None:
        if not sent.get("stream"):
            return refusal("This model only support stream mode, please enable the stream parameter")
        return refusal("Unknown parameter: 'stream_options'") if "stream_options" in sent else None

    wanted = WANTED | {"stream_options": {"include_usage": True}}
    server = Server(takes=streams)
    assert asked(server, wanted).parameters == {"temperature": 0.0, "max_tokens": 9, "stream": True}
    assert [sent.get("stream_options") for sent in server.asked] == [None, {"include_usage": True}, None]


@pytest.mark.parametrize(
    "identity",
    ["openai/o3", "azure/gpt-5-mini", "local/o4-mini", "openrouter/openai/gpt-5", "bedrock/openai.gpt-5.1"],
)
def test_models_that_reason_are_asked_alike_on_every_route(identity: str) -> None:
    told: list[Learnt] = []
    server = Server()
    about = Negotiation(identity, None, told.append)
    assert asked(server, about=about).parameters == {"max_completion_tokens": 9}
    asked(server, about=about)
    assert len(server.asked) == 2
    assert [str(one) for one in told] == [
        f"{identity}: temperature is left out: the endpoint's default applies (as reasoning models need it)",
        f"{identity}: max_tokens is sent as max_completion_tokens (as reasoning models need it)",
    ]


@pytest.mark.parametrize(
    "identity", ["openai/gpt-4o", "local/gpt-oss-20b", "openai/gpt-5-chat-latest", "local/solo3"]
)
def test_other_models_get_what_was_asked_for(identity: str) -> None:
    assert asked(Server(), about=Negotiation(identity)).parameters == {"temperature": 0.0, "max_tokens": 9}


def test_twenty_at_once_are_all_answered() -> None:
    told: list[Learnt] = []
    server, about = Server("temperature", "max_tokens"), Negotiation("m", None, told.append)
    replies: list[Reply] = []

    async def one() -> None:
        replies.append(await about.ask(WANTED, (), server))

    async def main() -> None:
        async with anyio.create_task_group() as group:
            for _ in range(20):
                group.start_soon(one)

    anyio.run(main)
    assert [reply.outcome for reply in replies] == [Outcome.ANSWERED] * 20
    assert len(server.asked) <= 60
    assert len(told) == 2


def test_a_batch_that_is_refused_as_a_whole_is_asked_otherwise() -> None:
    told: list[Learnt] = []
    about = Negotiation("m", None, told.append)
    refused = refusal("'temperature' is not supported", param="temperature")
    sent = about.applied(WANTED)
    # One that was answered, or was refused for something else, shows that it is not the parameter.
    for others in ([GOOD], [refusal("bad request")]):
        assert not about.refused_alike([(sent, (), reply) for reply in (refused, *others)])
    assert not about.refused_alike([(sent, ("temperature",), refused)])
    assert (told, about.refused_alike([])) == ([], False)
    assert about.refused_alike([(sent, (), refused)] * 3)
    assert [one.remedy for one in told] == [Remedy("temperature", "omit", 0.0)]
    assert "temperature" not in about.applied(WANTED)


def test_facts_of_the_store_are_known_from_the_start() -> None:
    all_of_them = Negotiations()
    about = all_of_them.of("m", "host")
    for identity, host, *fact in [
        ("m", "host", "temperature", "omit", "0.0"),
        ("m", "host", "max_tokens", "rename", '"max_completion_tokens"'),
        ("m", "other", "stream", "set", "true"),
        ("m", "host", "seed", "something new", None),
    ]:
        all_of_them.know(identity, host, *fact)
    assert about.learnt == (
        Remedy("temperature", "omit", 0.0),
        Remedy("max_tokens", "rename", "max_completion_tokens"),
    )
    assert about.applied(WANTED) == {"max_completion_tokens": 9, "stream": False}
    # An endpoint that has changed its mind is followed, and the latest counts.
    server = Server("max_completion_tokens")
    assert asked(server, about=about).parameters == {"max_tokens": 9}
    asked(server, about=about)
    assert len(server.asked) == 3


def test_own_turns_go_with_their_reasoning_where_it_is_demanded_and_no_longer_where_it_is_refused() -> None:
    told: list[Learnt] = []
    about, wanted = Negotiation("m", None, told.append), {OWN_REASONING: False}
    demanded = refusal("Missing required field: messages[1].reasoning_content")
    thinks = Server(takes=lambda sent: None if sent[OWN_REASONING] else demanded)
    assert asked(thinks, wanted, about=about).parameters == {}
    assert about.applied(wanted) == {OWN_REASONING: True}
    # A request without such turns has nothing to do with it.
    assert about.applied({}) == {}
    unknown = refusal("messages.1.reasoning_content: this field must not be sent")
    other = Server(takes=lambda sent: unknown if sent[OWN_REASONING] else None)
    assert asked(other, wanted, about=about).outcome is Outcome.ANSWERED
    assert about.applied(wanted) == {OWN_REASONING: False}
    asked(thinks, wanted, about=about)
    assert about.applied(wanted) == {OWN_REASONING: True}
    assert [str(one.remedy) for one in told] == [
        "the model's own turns are sent with reasoning_content",
        "the model's own turns are sent without reasoning_content",
    ]


def test_what_is_stored_of_the_parameters() -> None:
    sent = {"temperature": 0.0, "stream": False, "response_format": SCHEMA, "key": "$MY_KEY"}
    sent[OWN_REASONING] = True
    assert as_sent(sent) == {"temperature": 0.0, "response_format": "json_schema", "key": "$MY_KEY"}


LONE = Reply(Outcome.ANSWERED, text="At nine.", oddities=(LONE_TAG,))


def test_three_replies_show_that_a_model_thinks() -> None:
    told: list[Learnt] = []
    negotiation = Negotiation("local/m", "h", told.append)
    for _ in range(3):
        assert not negotiation.reading(AUTO).knows
        negotiation.saw(LONE)
    assert negotiation.reading(AUTO).knows
    assert not negotiation.reading(Reading("off")).knows
    negotiation.saw(LONE)
    [learnt] = told
    # A later session knows it from the start.
    later = Negotiations()
    known = later.of("local/m", "h")
    remedy = learnt.remedy
    later.know("local/m", "h", remedy.parameter, remedy.action, json.dumps(remedy.value))
    assert known.reading(AUTO).knows
    assert known.applied(WANTED) == WANTED


def test_what_the_user_says_of_reasoning_counts() -> None:
    negotiation = Negotiation()
    assert negotiation.reading(Reading("on")).knows
    assert negotiation.reading(Reading("auto", "END")) == Reading("auto", "END")
