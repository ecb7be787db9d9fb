"""What inspect_ai gets as an evaluation would: samples with a picture, with a tool, and one that is blocked."""

import json
import os
import sys

from inspect_ai import Task, eval
from inspect_ai.dataset import Sample
from inspect_ai.model import (
    ChatMessageAssistant,
    ChatMessageUser,
    ContentImage,
    ContentText,
    GenerateConfig,
    get_model,
)
from inspect_ai.solver import generate, use_tools
from inspect_ai.tool import tool

PICTURE, QUESTION, TOOL_QUESTION = (os.environ[name] for name in ("PICTURE", "QUESTION", "TOOL_QUESTION"))
KINDS = {"user": ChatMessageUser, "assistant": ChatMessageAssistant}


@tool
def opening_hours():
    async def execute(day: str) -> str:
        """The hours of a day.

        Args:
            day: the day
        """
        return "nine to five"

    return execute


def run(*inputs, solver, model="openai/demo", **config):
    asked = get_model(model, config=GenerateConfig(max_retries=0, **config), responses_api=False)
    samples = [Sample(input=one) for one in inputs]
    (log,) = eval(
        Task(samples, solver=solver), model=asked, display="none", log_dir="logs", fail_on_error=False
    )
    return log


blocked = [KINDS[one["role"]](content=one["content"]) for one in json.loads(os.environ["BLOCKED"])]
seen = ChatMessageUser(content=[ContentText(text=QUESTION), ContentImage(image=PICTURE)])
log = run(QUESTION, [seen], blocked, solver=generate())
got = dict(zip(("plain", "picture", "blocked"), (one.output.completion for one in log.samples), strict=True))
got["finish"] = log.samples[2].output.stop_reason
used = run(TOOL_QUESTION, solver=[use_tools(opening_hours()), generate()]).samples[0]
(call,) = next(one for one in used.messages if one.role == "assistant").tool_calls
got["tool"], got["final"] = [call.function, call.arguments], used.output.completion
failed = run(QUESTION, solver=generate(), model="openai/nobody").samples[0]
got["unknown"] = [404, failed.error.message]
json.dump(got, sys.stdout)
