"""What litellm gets."""

import json
import os
import sys

import litellm

PICTURE, QUESTION, TOOL_QUESTION = (os.environ[name] for name in ("PICTURE", "QUESTION", "TOOL_QUESTION"))
BLOCKED = json.loads(os.environ["BLOCKED"])
TOOL = json.loads(os.environ["TOOL"])
URL = os.environ["OPENAI_BASE_URL"]


def ask(messages, model="openai/demo", **more):
    given = {"api_base": URL, "api_key": "none", "max_retries": 0} | more
    return litellm.completion(model=model, messages=messages, **given)


def said(messages, **more):
    return ask(messages, **more).choices[0].message.content


def streamed(messages):
    chunks = list(ask(messages, stream=True, stream_options={"include_usage": True}))
    usage = [one.usage.total_tokens for one in chunks if getattr(one, "usage", None)]
    return "".join(one.choices[0].delta.content or "" for one in chunks if one.choices), usage[-1]


def user(content):
    return [{"role": "user", "content": content}]


got = {"plain": said(user(QUESTION))}
got["streamed"], got["usage"] = streamed(user(QUESTION))
picture = {"type": "image_url", "image_url": {"url": PICTURE}}
got["picture"] = said(user([{"type": "text", "text": QUESTION}, picture]))

asked = ask(user(TOOL_QUESTION), tools=[TOOL]).choices[0].message
(call,) = asked.tool_calls
got["tool"] = [call.function.name, json.loads(call.function.arguments)]
told = {"role": "tool", "tool_call_id": call.id, "content": "nine to five"}
got["final"] = said([*user(TOOL_QUESTION), asked.model_dump(), told], tools=[TOOL])

got["blocked"] = said(BLOCKED)
got["blocked, streamed"], _ = streamed(BLOCKED)
try:
    said(user(QUESTION), model="openai/nobody")
except litellm.NotFoundError as error:
    got["unknown"] = [error.status_code, error.message]
got["azure"] = said(
    user(QUESTION), model="azure/demo", api_base=URL.removesuffix("/v1"), api_version="2024-10-21"
)
json.dump(got, sys.stdout)
