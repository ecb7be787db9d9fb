"""Messages in channels, as gpt-oss writes them, where a server hands them on as they are.

Either with their marks, or without them: `analysisThe user asks ...assistantfinalThe library opens ...`.
"""

from __future__ import annotations

import re

from safemt_client.providers.responses.quoting import is_shown

__all__ = ["channels"]

_BEGIN = re.compile(r"\s*(?:<\|start\|>\s*assistant[^<]*)?<\|channel\|>")
_MESSAGE = re.compile(
    r"(?:<\|start\|>\s*assistant(?P<to>[^<]*))?<\|channel\|>\s*(?P<channel>analysis|commentary|final)"
    r"(?P<head>(?:\s+(?:to=[^\s<]+|json|code))*\s*(?:<\|constrain\|>\s*\w*\s*)?)"
    r"<\|message\|>(?P<text>.*?)(?:<\|(?:end|return|call)\|>|(?=<\|(?:start|channel)\|>)|\Z)",
    re.DOTALL,
)
_FLAT = re.compile(r"\s*analysis(?=\S)")
_FINAL = re.compile(r"assistantfinal")


def channels(text: str) -> tuple[str, str] | None:
    """The reasoning and the answer of a text in channels, None if it is none.

    What was not said to a tool and is not in the channel of the reasoning is the answer. A channel of another
    name, or with other words in its head, is no channel: its text stays.
    """
    if _BEGIN.match(text):
        return _marked(text)
    if opening := _FLAT.match(text):
        final = _FINAL.search(text, opening.end())
        if final is not None and not is_shown(text, *final.span()):
            return text[opening.end() : final.start()].strip(), text[final.end() :].lstrip()
    return None


def _marked(text: str) -> tuple[str, str] | None:
    thoughts: list[str] = []
    said: list[str] = []
    at = 0
    for message in _MESSAGE.finditer(text):
        said.append(text[at : message.start()].strip())
        to_a_tool = "to=" in (message["to"] or "") + message["head"]
        hidden = message["channel"] == "analysis" or to_a_tool
        (thoughts if hidden else said).append(message["text"].strip())
        at = message.end()
    if at == 0:
        return None
    said.append(text[at:].strip())
    return "\n".join(filter(None, thoughts)), "\n".join(filter(None, said))
