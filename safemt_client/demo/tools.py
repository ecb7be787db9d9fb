"""Tool calls of the demo model: it calls the tool that the last user message names."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

__all__ = ["call_for"]

_VALUES: Mapping[object, object] = {"integer": 1, "number": 1.0, "boolean": True, "array": [], "object": {}}


def call_for(body: Mapping[str, Any], text: str, number: int) -> dict[str, Any] | None:
    """The call of a tool that a user's text asks for, None if it asks for none.

    A tool is asked for by its name, in which underscores may be blanks, or by `tool_choice`. Each of its
    parameters that is a string gets the text.

    Raises:
        KeyError, TypeError: the tools are not in OpenAI's form.
    """
    functions = [tool["function"] for tool in body.get("tools") or ()]
    choice = body.get("tool_choice", "auto")
    named = choice["function"]["name"] if isinstance(choice, dict) else None
    if choice == "none":
        return None
    for function in functions:
        asked = _words(function["name"]) in _words(text)
        if choice == "required" or function["name"] == named or (named is None and asked):
            arguments = _arguments(function.get("parameters") or {}, text)
            called = {"name": function["name"], "arguments": json.dumps(arguments)}
            return {"id": f"call_demo_{number}", "type": "function", "function": called}
    return None


def _words(text: str) -> str:
    return re.sub(r"[\s_-]+", " ", text).lower()


def _arguments(schema: Mapping[str, Any], text: str) -> dict[str, Any]:
    properties = schema.get("properties") or {}
    wanted = schema.get("required") or list(properties)
    return {name: _value(properties.get(name) or {}, text) for name in wanted}


def _value(schema: Mapping[str, Any], text: str) -> Any:
    if schema.get("enum"):
        return schema["enum"][0]
    return _VALUES.get(schema.get("type"), text)
