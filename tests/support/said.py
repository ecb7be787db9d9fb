"""Where a text can stand in a message, a choice or an answer: here always one with the word `odd`."""

from typing import Any

from .proxied import USAGE

TOKENS = [{"token": token, "logprob": -0.1, "bytes": None, "top_logprobs": []} for token in ("o", "dd")]
REASONED = {"type": "reasoning.text", "text": "odd", "format": "unknown", "index": 0}
CALL = {"id": "t", "type": "function", "function": {"name": "f", "arguments": "{}"}}

# The word where the client finds it, in a message that is fine but for it, or that has nothing else.
SAID: dict[str, dict[str, Any]] = {
    "content": {"content": "odd"},
    "parts": {"content": ["fi", {"type": "text", "text": "odd"}]},
    "beside a text": {"content": [{"type": "text", "text": "fine", "annotations": [{"title": "odd"}]}]},
    "an unknown part": {"content": [{"type": "new", "inner": {"deep": ["odd"]}}]},
    "beside a picture": {"content": [{"type": "image_url", "image_url": {"url": "http://x"}, "text": "odd"}]},
    "thinking parts": {"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "odd"}]}]},
    "refusal": {"content": None, "refusal": "odd"},
    "reasoning": {"content": "fine", "reasoning": "odd"},
    "reasoning_content": {"content": "", "reasoning_content": "odd"},
    "reasoning_details": {"content": None, "reasoning_details": [REASONED]},
    "thinking_blocks": {"content": "", "thinking_blocks": [{"type": "thinking", "thinking": "odd", "signature": "s"}]},
    "annotations": {"content": "fine", "annotations": [{"type": "url_citation", "url_citation": {"title": "odd"}}]},
    "provider_specific_fields": {"content": "fine", "provider_specific_fields": {"citations": [["odd"]]}},
    "documents": {"documents": [{"title": "t", "text": "odd"}]},
    "audio": {"content": None, "audio": {"id": "a", "data": "AAAA", "transcript": "odd"}},
    "beside audio": {"content": None, "audio": {"id": "a", "data": "AAAA", "note": "one odd"}},
    "images": {"content": "fine", "images": [{"type": "image_url", "image_url": {"url": "data:,", "alt": "odd"}}]},
    "arguments": {"content": None, "tool_calls": [CALL | {"function": {"name": "f", "arguments": '{"q": "odd"}'}}]},
    "arguments, parsed": {"content": None, "tool_calls": [CALL | {"function": {"name": "f", "arguments": {"q": "odd"}}}]},
    "a tool's name": {"content": None, "tool_calls": [CALL | {"function": {"name": "odd", "arguments": "{}"}}]},
    "a custom tool": {"tool_calls": [{"id": "t", "type": "custom", "custom": {"name": "f", "input": "odd"}}]},
    "beside a call": {"tool_calls": [CALL | {"extra_content": {"note": "odd"}}]},
    "function_call": {"content": None, "function_call": {"name": "f", "arguments": "odd"}},
    "an unknown string": {"content": "fine", "comment": "odd"},
    "an unknown object": {"content": "fine", "data": {"a": [{"b": "odd"}]}},
    "an unknown list": {"content": "fine", "steps": ["odd"]},
    "a name": {"content": "fine", "data": {"an odd name": 1}},
    "a label that is a text": {"content": "fine", "role": "an odd role"},
    "a label within": {"content": "fine", "data": {"id": "an odd id"}},
}  # fmt: skip

# The same in what surrounds a message: a choice, and the whole answer.
CHOICES: dict[str, dict[str, Any]] = {
    "text": {"text": "odd"},
    "an unknown string": {"comment": "odd"},
    "an unknown object": {"content_filter_results": {"why": "odd"}},
    "a finish reason": {"finish_reason": "an odd reason"},
    "logprobs": {"logprobs": {"content": TOKENS}},
    "logprobs of a refusal": {"logprobs": {"refusal": TOKENS}},
    "logprobs, legacy": {"logprobs": {"tokens": ["o", "dd"], "token_logprobs": [-1, -2]}},
    "logprobs, unknown": {"logprobs": {"content": [{"token": "a", "note": "odd"}]}},
    "token_ids as text": {"token_ids": "odd"},
}
AROUND: dict[str, dict[str, Any]] = {
    "output_text": {"output_text": "odd"},
    "output": {"output": [{"type": "message", "content": [{"type": "output_text", "text": "odd"}]}]},
    "message": {"message": {"role": "assistant", "content": "odd"}},
    "candidates": {"candidates": [{"content": {"parts": [{"text": "odd"}]}}]},
    "response": {"response": "odd"},
    "error": {"error": {"message": "the model said: odd", "type": "server_error"}},
    "error, a string": {"error": "odd"},
    "failed_generation": {"error": {"message": "no", "failed_generation": "odd"}},
    "citations": {"citations": ["odd"]},
    "a model that is a text": {"model": "an odd model"},
    "an id that is a text": {"id": "an odd id"},
    "usage": {"usage": USAGE | {"note": "odd"}},
    "prompt_logprobs": {"prompt_logprobs": [None, {"7": {"logprob": -1, "decoded_token": "odd"}}]},
    "unknown": {"extensions": {"debug": {"raw": "odd"}}},
    "a name that is a text": {"an odd name": None},
}
