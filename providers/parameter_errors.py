"""Which parameter of ours an error complains about.

Servers say it in a field (`param`, pydantic's `loc`) or in words ("Unrecognized request argument supplied:
seed"), and gateways wrap both into texts of their own. A name counts only as a parameter's: in such a field,
in quotes, after a word like "parameter", or as the subject of the sentence; and only beside words of refusal.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from typing import Any, Literal

from safemt_client.providers.json_codec import loads

__all__ = ["Complaint", "complaints", "demands_reasoning", "demands_stream", "points_at"]

Complaint = Literal["unknown", "value"]
"""The parameter is not taken at all, or its value is not."""

_POINTERS = frozenset(
    ("param", "params", "parameter", "parameters", "field", "argument", "property", "loc", "path", "pointer")
)
_REPEATED = frozenset(("input", "inputs", "body", "messages", "prompt", "request", "content"))
"""Fields of an error that repeat the request."""
_MOST_TEXT, _DEEPEST, _AROUND = 100_000, 8, 120

_UNKNOWN = re.compile(
    r"unsupported(?![ _-]?value)|(?:not|n't|no longer)(?: be| currently| yet| a)? ?"
    r"(?:support|permit|allow|accept|enabled|available|recogni|valid (?:field|param|argument|option|prop))|"
    r"unrecogni[sz]ed|unknown|unexpected|extra[ _-]?(?:input|field|forbidden)|extraneous|forbidden|"
    r"unavailable|deprecated|cannot find field|(?:unsupported|unknown|invalid)_parameter|value_error\.extra",
    re.IGNORECASE,
)
_VALUE = re.compile(
    r"unsupported[ _-]?value|invalid|only (?:the )?(?:default|supports?|accepts?|allow|one)|must (?:be|not)|"
    r"should be|cannot|can't|incompatible|not compatible|range|mutually exclusive",
    re.IGNORECASE,
)
_SENTENCE = re.compile(r"[.;!?](?=\s|\Z)|\n")
_BEFORE = re.compile(
    r"(?:[\"'`“«\[(*]|[:=]|\b(?:param(?:eter)?|argument|field|property|key|option|input|name)s?)\s*\Z",
    re.IGNORECASE,
)
_AFTER = re.compile(
    r"\s*(?:[:=]|(?:is|are|was|must|cannot|can't|should|isn't|may not)\b)",
    re.IGNORECASE,
)
_VERB = re.compile(
    r"(?:support|allow|accept|permit|deprecated|unsupported)\w*\s+(?:(?:the|a|custom)\s+)?\Z", re.IGNORECASE
)
_STREAM = re.compile(
    r"only supports? (?:the )?stream|supports? only (?:the )?stream|"
    r"supported only (?:in|with|for|via) (?:the )?stream|"
    r"only (?:be )?(?:available|supported|used|called|works?) (?:in|with|for|via|when) (?:the )?stream|"
    r"must (?:be )?(?:use |enable |set )?(?:the )?stream(?:ed|ing)?\b|"
    r"requires? (?:the )?(?:`?stream|use of stream)|"
    r"stream\W{0,3} (?:parameter )?(?:must|should|has to|needs to) be (?:set to )?(?:true|enabled|on)|"
    r"streaming is (?:required|mandatory|strongly recommended)|"
    r"non[- ]?stream\w* (?:\w+ ){0,2}(?:is |are )?not (?:supported|allowed|available|permitted)|"
    r"(?:not support|n't support|for) non[- ]?stream",
    re.IGNORECASE,
)
_REASONING = re.compile(
    r"reasoning_content.{0,200}(?:missing|required|must(?! not)|passed back)"
    r"|(?:missing|requires?|must(?! not)).{0,100}reasoning_content",
    re.IGNORECASE | re.DOTALL,
)


def complaints(text: str, names: Collection[str], words: str | None = None) -> dict[str, Complaint]:
    """Which of the parameters of these names an error complains about, in the order of `names`.

    `text` is the body of the error, JSON or not; `words` is the same without what it repeats of the request.
    """
    content = _content(text)
    found: dict[str, Complaint] = {}
    for name, fields in _pointed_at(content, names):
        kind = _kind(" ".join(value for value in fields.values() if isinstance(value, str)))
        found.setdefault(name, kind or "value")
    said = list(_texts(content if words is None else _content(words), 0))
    for name in names:
        kinds = (_in_words(one, name) for one in said)
        if name not in found and (kind := next((one for one in kinds if one is not None), None)) is not None:
            found[name] = kind
    return {name: found[name] for name in names if name in found}


def points_at(text: str, names: Collection[str]) -> bool:
    """Whether a field of an error, and not only its words, names one of these parameters."""
    return any(True for _ in _pointed_at(_content(text), names))


def demands_stream(text: str) -> bool:
    """Whether an error says that the model only streams."""
    return _STREAM.search(text[:_MOST_TEXT]) is not None


def demands_reasoning(text: str) -> bool | None:
    """Whether an error asks for `reasoning_content` in the model's own turns; None if it is not about that.

    DeepSeek, Moonshot and gateways before them demand it of models that think; others do not know the field.
    """
    said = text[:_MOST_TEXT]
    return _REASONING.search(said) is not None if "reasoning_content" in said.lower() else None


def _content(text: str) -> Any:
    plain = text[:_MOST_TEXT].replace("\N{RIGHT SINGLE QUOTATION MARK}", "'")
    try:
        return loads(plain.encode("utf-8", "replace"))
    except (ValueError, RecursionError):
        return plain


def _pointed_at(content: Any, names: Collection[str]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The parameters that fields of an error name, each with the object around the field."""
    wanted = {_bare(name): name for name in names}
    for fields in _objects(content, 0):
        for key, value in fields.items():
            for part in _parts(value) if key.lower() in _POINTERS else ():
                if (name := wanted.get(_bare(part))) is not None:
                    yield name, fields


def _objects(content: Any, depth: int) -> Iterator[Mapping[str, Any]]:
    """All objects within the body, those inside texts too, as gateways put the error of their upstream."""
    if isinstance(content, dict):
        yield content
    for inner in _inside(content, depth):
        yield from _objects(inner, depth + 1)


def _texts(content: Any, depth: int) -> Iterator[str]:
    if isinstance(content, str):
        yield content
    else:
        for inner in _inside(content, depth):
            yield from _texts(inner, depth + 1)


def _inside(content: Any, depth: int) -> Iterator[Any]:
    if depth > _DEEPEST:
        return
    if isinstance(content, dict):
        yield from (value for key, value in content.items() if key not in _REPEATED)
    elif isinstance(content, list):
        yield from content
    elif isinstance(content, str) and (begin := content.find("{")) >= 0:
        with suppress(ValueError, RecursionError):
            yield json.JSONDecoder().raw_decode(content, begin)[0]


def _parts(value: Any) -> Iterator[str]:
    """The names in a pointer: `body.temperature`, `/temperature`, `["body", "temperature"]`."""
    for one in value if isinstance(value, list) else [value]:
        if isinstance(one, str) and len(one) <= 100:
            yield from re.split(r"[^A-Za-z0-9_]+", one)


def _kind(text: str) -> Complaint | None:
    if _UNKNOWN.search(text):
        return "unknown"
    return "value" if _VALUE.search(text) else None


def _in_words(text: str, name: str) -> Complaint | None:
    """How a text complains about a parameter, None if it does not."""
    pattern = re.compile(rf"(?<![\w.-]){name.replace('_', '_?')}(?![\w-])", re.IGNORECASE)
    for found in pattern.finditer(text):
        before, after = text[: found.start()][-_AROUND:], text[found.end() :][:_AROUND]
        if not ("_" in name or _BEFORE.search(before) or _AFTER.match(after) or _VERB.search(before)):
            continue
        sentence = _SENTENCE.split(before)[-1] + found[0] + _SENTENCE.split(after)[0]
        if (kind := _kind(sentence)) is not None:
            return kind
    return None


def _bare(name: str) -> str:
    return name.replace("_", "").lower()
