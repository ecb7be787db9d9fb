"""What the official client for Python gets; printed as JSON, as by the other clients here."""

import json
import os
import sys

import openai

PICTURE, QUESTION, TOOL_QUESTION = (os.environ[name] for name in ("PICTURE", "QUESTION", "TOOL_QUESTION"))
BLOCKED = json.loads(os.environ["BLOCKED"])
TOOL = json.loads(os.environ["TOOL"])

client = openai.OpenAI(max_retries=0)
create = client.chat.completions.create


def said(messages, **more):
    return create(model="demo", messages=messages, **more).choices[0].message.content


def user(content):
    return [{"role": "user", "content": content}]


def failed(ask):
    try:
        ask()
    except openai.APIStatusError as error:
        return [error.status_code, error.message]
    return None


got = {"models": [one.id for one in client.models.list()], "model": client.models.retrieve("demo").id}
got["plain"] = said(user(QUESTION))
chunks = list(
    create(model="demo", messages=user(QUESTION), stream=True, stream_options={"include_usage": True})
)
got["streamed"] = "".join(one.choices[0].delta.content or "" for one in chunks if one.choices)
got["usage"] = chunks[-1].usage.total_tokens
picture = {"type": "image_url", "image_url": {"url": PICTURE}}
got["picture"] = said(user([{"type": "text", "text": QUESTION}, picture]))

asked = create(model="demo", messages=user(TOOL_QUESTION), tools=[TOOL]).choices[0].message
(call,) = asked.tool_calls
got["tool"] = [call.function.name, json.loads(call.function.arguments)]
told = {"role": "tool", "tool_call_id": call.id, "content": "nine to five"}
got["final"] = said([*user(TOOL_QUESTION), asked, told], tools=[TOOL])

got["blocked"] = said(BLOCKED)
got["blocked, streamed"] = "".join(
    one.choices[0].delta.content or "" for one in create(model="demo", messages=BLOCKED, stream=True)
)
got["unknown"] = failed(lambda: create(model="nobody", messages=user(QUESTION)))
got["responses"] = failed(lambda: client.responses.create(model="demo", input=QUESTION))

azure = openai.AzureOpenAI(
    azure_endpoint=os.environ["OPENAI_BASE_URL"].removesuffix("/v1"), api_key="none", api_version="2024-10-21"
)
got["azure"] = azure.chat.completions.create(model="demo", messages=user(QUESTION)).choices[0].message.content
json.dump(got, sys.stdout)
