"""The log of decisions, a line of JSON for each assessment, and a bounded cache of assessments."""

from __future__ import annotations

import json
import os
import re
import sys
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from safemt_client.moderator.moderator import Action, Step
from safemt_client.moderator.types import Assessment, Stage
from safemt_client.providers.errors import InputError
from safemt_client.providers.keys import Redactor
from safemt_client.providers.own_files import open_own
from safemt_client.providers.types import Message
from safemt_client.proxy.chat import Conversation

__all__ = ["DecisionLog", "Recent", "decisive", "open_log"]

# From weakest to strongest: a reply is reported by the strongest action taken on it.
_RANK: Sequence[Action] = ("none", "passed", "policy", "replaced", "blocked", "refused", "unassessed")
_CREDENTIALS = re.compile(r"key|token|auth|secret|credential|cookie|password|signature", re.IGNORECASE)
"""Names of headers that may carry a key."""


def decisive(steps: Sequence[Step]) -> Step:
    """The step that decided the fate of a request; the last of several equal ones."""
    return max(enumerate(steps), key=lambda one: (_RANK.index(one[1].action), one[0]))[1]


class Recent:
    """An `AssessmentCache` in memory: recent assessments, so that a repeated request costs nothing."""

    def __init__(self, most: int = 4096) -> None:
        self._most = most
        self._kept: OrderedDict[str, Assessment] = OrderedDict()

    def find(self, key: str) -> Assessment | None:
        """The assessment of this hash, None if there is none or it was dropped."""
        if (found := self._kept.get(key)) is not None:
            self._kept.move_to_end(key)
        return found

    async def keep(self, key: str, stage: Stage, assessment: Assessment) -> None:
        """Keep an assessment, unless the guard failed: it may succeed next time."""
        if assessment.verdict in ("error", "unparsed"):
            return
        self._kept[key] = assessment
        while len(self._kept) > self._most:
            self._kept.popitem(last=False)


class DecisionLog:
    """Writes decisions as lines of JSON: without texts unless `texts`, and never a header of a request."""

    def __init__(self, write: Callable[[str], object], *, texts: bool = False) -> None:
        self._write = write
        self._texts = texts
        self._failed = False

    def decided(
        self,
        request_id: str,
        model: object,
        step: Step,
        conversation: Conversation,
        *,
        headers: Mapping[str, str],
        choice: int | None = None,
    ) -> None:
        """Log one assessment and the action taken; keys in the request's `headers` are kept out of it."""
        found = step.assessment
        line: dict[str, Any] = {
            "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "request": request_id,
            "model": str(model)[:200],
            "turn": step.turn,
            "stage": step.stage,
            "verdict": found.verdict,
            # Some guards write free text here.
            "categories": [name[:100] for name in found.categories[:50]],
            "action": step.action,
            "latency_ms": round(found.latency_s * 1000, 1),
            "waited_ms": round(step.waited_s * 1000, 1),
            "parts_not_shown": conversation.hidden,
        }
        if choice is not None:
            line["choice"] = choice
        if found.error is not None:
            # Its text may repeat what was sent to the endpoint.
            line["error_code"] = found.error_code
        if self._texts:
            line["messages"] = [_text(message) for message in conversation.messages]
            line |= {"policy": step.policy, "intent": found.intent, "guard_said": found.raw}
            line |= {} if found.error is None else {"error": found.error}
            # An endpoint may echo what it was sent.
            stated = [value for name, value in headers.items() if _CREDENTIALS.search(name)]
            given = [word for value in stated for word in (value, *re.split(r"[\s;,=]+", value))]
            self._line(Redactor(*given).text(json.dumps(line)))
            return
        self._line(json.dumps(line))

    def _line(self, text: str) -> None:
        try:
            self._write(text + "\n")
        except OSError as error:
            if not self._failed:
                print(f"safemt: cannot write the log: {error.strerror}", file=sys.stderr)
            self._failed = True


def _text(message: Message) -> dict[str, Any]:
    return {"role": message.role, "text": message.text, "pictures": [i.sha256 for i in message.images]}


@asynccontextmanager
async def open_log(path: Path | None, *, texts: bool) -> AsyncIterator[DecisionLog]:
    """A log to the end of a file that only its owner can read, or to stderr.

    A new file in which nothing stands by the time that anything fails is removed again.

    Raises:
        InputError: the file cannot be opened.
    """
    if path is None:

        def write(line: str) -> None:
            sys.stderr.write(line)
            sys.stderr.flush()

        yield DecisionLog(write, texts=texts)
        return
    is_new = not os.access(path, os.F_OK)
    try:
        descriptor = open_own(path)
    except OSError as error:
        raise InputError(f"--log {path}: {error.strerror}: choose a file that can be written") from None
    with os.fdopen(descriptor, "w", buffering=1, encoding="utf-8") as file:
        try:
            yield DecisionLog(file.write, texts=texts)
        except BaseException:
            if is_new and not os.fstat(descriptor).st_size:
                os.unlink(path)
            raise
