"""A chat request on its way: assessed, acted upon, handed on, and its answer assessed."""

from __future__ import annotations

import sys
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import anyio
import anyio.to_thread
import httpx
from aiohttp import web
from anyio.abc import TaskGroup

from safemt_client.moderator.moderator import Moderator, Step, user_turns
from safemt_client.moderator.types import Assessment, Stage
from safemt_client.providers.error_codes import ErrorCode, in_short
from safemt_client.providers.errors import SafemtError, TargetStoppedError
from safemt_client.providers.json_codec import dumps, loads
from safemt_client.providers.pauses import stopwatch
from safemt_client.providers.types import Message
from safemt_client.proxy.chat import Conversation, place_policy, read_request
from safemt_client.proxy.decisions import DecisionLog, decisive
from safemt_client.proxy.held import hold
from safemt_client.proxy.shown import InvalidChatError, Shown
from safemt_client.proxy.upstream import Upstream, passed_back, passed_back_with, pipe, read_whole
from safemt_client.proxy.wire import ApiError, refusal, refusal_stream, wants_stream

__all__ = ["Proxy"]

T = TypeVar("T")

# What a guard reads of a reply that is only a picture: some read nothing but the reply's text.
_PICTURE = "[a picture]"
_ACTION, _VERDICT = "x-safemt-moderation", "x-safemt-verdict"
# Larger bodies are read and written in a thread, so that they do not delay other requests.
_SMALL = 256 * 1024
_MOST_WATCHED = 256


@dataclass
class _Exchange:
    """One request: its body, what the guard is shown of it, and the decisions so far."""

    request: web.Request
    size: int
    body: dict[str, Any]
    conversation: Conversation
    id: str = field(default_factory=lambda: uuid.uuid4().hex[:12])
    steps: list[Step] = field(default_factory=list)

    @property
    def turn(self) -> int:
        """The number of the user's last message."""
        return len(user_turns(self.conversation.messages))

    @property
    def headers(self) -> dict[str, str]:
        """The response headers that tell the client the decision."""
        if not self.steps:
            return {_ACTION: "none"}
        step = decisive(self.steps)
        return {_ACTION: step.action, _VERDICT: step.assessment.verdict}


class Proxy:
    """What is served: chat completions and the models. Shared between requests; keeps no conversation."""

    def __init__(self, moderator: Moderator, upstream: Upstream, log: DecisionLog, group: TaskGroup) -> None:
        """`group` runs the assessments that a request does not wait for."""
        self._moderator = moderator
        self._upstream = upstream
        self._log = log
        self._group = group
        self._watched = anyio.Semaphore(_MOST_WATCHED)
        self._told: set[str] = set()

    async def models(self, request: web.Request) -> web.StreamResponse:
        """The list of the upstream's models, or one of them."""
        address = self._upstream.addresses.models(request)
        async with self._upstream.open("GET", address, request.headers.items(), None) as response:
            return await pipe(request, response, {})

    async def chat(self, request: web.Request) -> web.StreamResponse:
        """A chat completion."""
        address = self._upstream.addresses.chat(request)
        exchange = await _read(request)
        wanted = self._moderator.moderation.interventions
        sent = exchange.body
        if wanted & {"policy", "block"}:
            step = await self._assess(exchange, exchange.conversation, "input")
            if step.action in ("blocked", "refused", "unassessed"):
                return self._instead(exchange)
            if step.policy is not None:
                place = self._moderator.moderation.place
                sent = sent | {"messages": place_policy(sent["messages"], step.policy, place)}
        elif "observe" in wanted:
            # Bounded, so that assessments do not pile up where the guard is slower than the model.
            await self._watched.acquire()
            self._group.start_soon(self._watch, exchange)
        # What was read is sent, not the client's bytes, which another parser might read differently.
        content = await _in_thread_if(exchange.size > _SMALL, lambda: dumps(sent))
        async with self._upstream.open("POST", address, request.headers.items(), content) as response:
            if "output" in wanted:
                return await self._hold(exchange, response)
            return await pipe(request, response, exchange.headers)

    async def _watch(self, exchange: _Exchange) -> None:
        """Assess without consequence; the request does not wait, so its headers do not carry the verdict."""
        try:
            _, found = await self._moderator.assessor.assess(exchange.conversation.messages, "input")
        except SafemtError as error:
            found = self._failed(error)
        except Exception as error:  # noqa: BLE001 - one conversation must not end the server
            said = f"the guard failed: {type(error).__name__}"
            self._tell_once(said)
            found = Assessment("error", error=said, error_code=ErrorCode.GUARD_FAILED)
        finally:
            self._watched.release()
        self._write(exchange, Step(exchange.turn, "input", "", found, "none"), exchange.conversation)

    async def _hold(self, exchange: _Exchange, response: httpx.Response) -> web.Response:
        """The upstream's answer once it is assessed: as it was, or with refusals in it.

        An error may repeat what the model said, so it is assessed too: as it was, or without its words.
        """
        raw = await read_whole(response)
        # By the body: some endpoints state another type than they send.
        stream = not raw.lstrip().startswith((b"{", b"["))
        try:
            held = await _in_thread_if(len(raw) > _SMALL, lambda: hold(raw, stream=stream))
        except ValueError:
            if not response.is_success:
                return _wordless(exchange, response)
            said = "the upstream's answer is not a chat completion"
            found = Assessment("error", error=said, error_code=ErrorCode.BAD_RESPONSE)
            action = self._moderator.action_for(found, "replaced")
            self._note(exchange, Step(exchange.turn, "output", "", found, action), exchange.conversation)
            if action != "passed":
                return self._instead(exchange)
            headers = passed_back(response)
            headers.update(exchange.headers)
            return web.Response(status=response.status_code, body=raw, headers=headers)
        steps = await self._assess_choices(exchange, held.said)
        away = [index for index, step in steps.items() if step.action not in ("none", "passed")]
        if away and not response.is_success:
            return _wordless(exchange, response)
        if any(step.action == "unassessed" for step in steps.values()):
            return self._instead(exchange)
        text = self._moderator.moderation.refusal
        body = await _in_thread_if(
            len(raw) > _SMALL, lambda: held.with_refusals(text, away) if away else held.whole
        )
        headers = passed_back_with(response, held.media_type, changed=bool(away))
        headers.update(exchange.headers)
        return web.Response(status=response.status_code, body=body, headers=headers)

    async def _assess_choices(self, exchange: _Exchange, said: dict[int, Shown]) -> dict[int, Step]:
        steps: dict[int, Step] = {}

        async def one(choice: int, shown: Shown) -> None:
            asked = exchange.conversation
            reply = Message("assistant", shown.text or _PICTURE, tuple(shown.images))
            conversation = Conversation((*asked.messages, reply), asked.hidden + shown.hidden)
            steps[choice] = await self._assess(exchange, conversation, "output", choice)

        async with anyio.create_task_group() as group:
            for choice, shown in said.items():
                if shown.text.strip() or shown.images:
                    group.start_soon(one, choice, shown)
        return steps

    async def _assess(
        self, exchange: _Exchange, conversation: Conversation, stage: Stage, choice: int | None = None
    ) -> Step:
        moderator = self._moderator
        ask = moderator.on_input if stage == "input" else moderator.on_output
        taken_s = stopwatch()
        try:
            step = await ask(conversation.messages, exchange.turn)
        except SafemtError as error:
            found = self._failed(error)
            step = Step(exchange.turn, stage, "", found, moderator.action_for(found, "blocked"))
        step = replace(step, waited_s=taken_s())
        self._note(exchange, step, conversation, choice)
        return step

    def _note(
        self, exchange: _Exchange, step: Step, conversation: Conversation, choice: int | None = None
    ) -> None:
        exchange.steps.append(step)
        self._write(exchange, step, conversation, choice)

    def _write(
        self, exchange: _Exchange, step: Step, conversation: Conversation, choice: int | None = None
    ) -> None:
        if not self._moderator.assessor.guard.card.sees_images:
            pictures = sum(len(message.images) for message in conversation.messages)
            conversation = replace(conversation, hidden=conversation.hidden + pictures)
        self._log.decided(
            exchange.id,
            exchange.body.get("model"),
            step,
            conversation,
            headers=exchange.request.headers,
            choice=choice,
        )

    def _failed(self, error: SafemtError) -> Assessment:
        """The assessment of a guard that can no longer be asked; reported once on stderr."""
        code = None
        if isinstance(error, TargetStoppedError):
            code = error.code
            why = f"the guard {self._moderator.name} stopped: {in_short(code, error.status)}"
            self._tell_once(f"{why}: it will not be asked again until this server is restarted")
        return Assessment("error", error=str(error), error_code=code)

    def _tell_once(self, said: str) -> None:
        if said not in self._told:
            self._told.add(said)
            print(f"safemt: {said}", file=sys.stderr)

    def _instead(self, exchange: _Exchange) -> web.Response:
        """The answer in place of the model's: a refusal, or an error that nothing could be assessed.

        Raises:
            ApiError: it could not be assessed, and the moderator is not set to refuse in that case.
        """
        step = decisive(exchange.steps)
        headers = exchange.headers
        if step.action == "unassessed":
            if step.assessment.verdict == "unparsed":
                # Asking again would give the same unreadable answer: OpenAI's clients respect this header.
                headers |= {"x-should-retry": "false"}
            why = (
                f"the guard {self._moderator.name} could not assess the conversation, "
                "so nothing was let through"
            )
            raise ApiError(503, "moderation_unavailable", why, headers)
        text = self._moderator.moderation.refusal
        if wants_stream(exchange.body):
            body, kind = refusal_stream(exchange.body, text), "text/event-stream"
        else:
            body, kind = refusal(exchange.body, text), "application/json"
        return web.Response(body=body, headers=headers | {"content-type": kind})


async def _read(request: web.Request) -> _Exchange:
    """The request and its conversation.

    Raises:
        ApiError: it is not a chat request.
    """
    if request.content_type != "application/json":
        # A page of another site cannot send this type unasked.
        raise ApiError(415, "invalid_request_error", "send the body as application/json")
    raw = await request.read()

    def read() -> tuple[dict[str, Any], Conversation]:
        body = loads(raw)
        if not isinstance(body, dict):
            raise InvalidChatError("the body must be a JSON object")
        if (deployment := request.match_info.get("deployment")) is not None:
            body["model"] = deployment
        return body, read_request(body)

    try:
        body, conversation = await _in_thread_if(len(raw) > _SMALL, read)
    except InvalidChatError as error:
        raise ApiError(400, "invalid_request_error", str(error)) from None
    except (ValueError, RecursionError):
        raise ApiError(
            400, "invalid_request_error", "the body is not JSON, or is nested too deeply"
        ) from None
    return _Exchange(request, len(raw), body, conversation)


async def _in_thread_if(large: bool, work: Callable[[], T]) -> T:
    return await anyio.to_thread.run_sync(work) if large else work()


def _wordless(exchange: _Exchange, response: httpx.Response) -> web.Response:
    """The upstream's error with its status and its headers, but without its words."""
    why = f"the upstream answered HTTP {response.status_code}; its words are not passed on unassessed"
    error = ApiError(response.status_code, "upstream_error", why)
    headers = passed_back_with(response, "application/json", changed=True)
    headers.update(exchange.headers)
    return web.Response(status=error.status, body=error.body, headers=headers)
