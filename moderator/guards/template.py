"""Templates: how a chat model is asked to moderate, and how its answer is read, as a TOML file."""

from __future__ import annotations

import hashlib
import json
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from importlib import resources

from safemt_client.moderator.guards.common import read_text
from safemt_client.moderator.types import GuardVerdict
from safemt_client.providers.errors import InputError

__all__ = ["Template", "load_template"]

_FIELDS = ("verdict", "intent", "scenarios", "policy", "confidence")
_TEXTS = ("name", "version", "system", "prompt")
_VERDICTS: tuple[GuardVerdict, ...] = ("safe", "controversial", "unsafe")


@dataclass(frozen=True)
class Template:
    """What is asked and how the answer is read; see `template.toml` for the meaning of the entries.

    `fields` maps a field of an assessment to its name in the answer, `labels` each label to its verdict.
    """

    name: str
    version: str
    system: str
    prompt: str
    asked: Mapping[str, str]
    max_tokens: int
    form: str
    fields: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, GuardVerdict] = field(default_factory=dict)

    @property
    def hash(self) -> str:
        """SHA-256 over the whole content."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()


def load_template(path: str | None = None) -> Template:
    """The built-in template, or a user's own TOML file.

    Raises:
        InputError: the file cannot be read, or its shape is wrong.
    """
    if path is not None:
        return _parse(path, read_text(path))
    file = resources.files("safemt_client.moderator.guards").joinpath("template.toml")
    return _parse("template.toml", file.read_text(encoding="utf-8"))


def _parse(where: str, text: str) -> Template:
    try:
        data = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where}: not TOML: {error}") from None
    _only(where, data, {*_TEXTS, "max_tokens", "asked", "answer"})
    texts = {"name": where, "version": "1", "system": "", "prompt": ""} | {
        name: data[name] for name in _TEXTS if name in data
    }
    asked, answer, tokens = data.get("asked", {}), data.get("answer"), data.get("max_tokens", 700)
    if not all(isinstance(value, str) for value in texts.values()):
        raise InputError(f"{where}: {', '.join(_TEXTS)} must be strings")
    if "{conversation}" not in texts["prompt"]:
        raise InputError(f"{where}: prompt must contain {{conversation}}")
    if not isinstance(tokens, int) or isinstance(tokens, bool) or tokens < 1:
        raise InputError(f"{where}: max_tokens = {tokens!r}: write a whole number of at least 1")
    if not isinstance(asked, dict) or not all(isinstance(value, str) for value in asked.values()):
        raise InputError(f"{where}: every entry of [asked] must be a string")
    _only(where, asked, {"input", "output"})
    if not isinstance(answer, dict) or answer.get("form") not in ("json", "lines", "word"):
        raise InputError(f"{where}: [answer] needs form = json, lines or word")
    _only(where, answer, {*_FIELDS, "form", "labels"})
    fields = {name: answer[name] for name in _FIELDS if name in answer}
    if not all(isinstance(value, str) and value for value in fields.values()):
        raise InputError(f"{where}: the names of the fields in [answer] must be strings")
    if answer["form"] != "word" and "verdict" not in fields:
        raise InputError(f"{where}: [answer] must name the field with the verdict")
    labels = _labels(where, answer.get("labels"))
    return Template(
        **texts, asked=asked, max_tokens=tokens, form=answer["form"], fields=fields, labels=labels
    )


def _labels(where: str, data: object) -> dict[str, GuardVerdict]:
    written = data if isinstance(data, dict) else {}
    _only(where, written, set(_VERDICTS))
    labels: dict[str, GuardVerdict] = {}
    for verdict in _VERDICTS:
        values = written.get(verdict, [])
        if not isinstance(values, list) or not all(
            isinstance(value, str) and value.strip() for value in values
        ):
            raise InputError(f"{where}: [answer.labels] {verdict} must be a list of strings")
        for value in values:
            if value.strip().lower() in labels:
                raise InputError(f"{where}: [answer.labels] {value!r} stands for two verdicts")
            labels[value.strip().lower()] = verdict
    if not {"safe", "unsafe"} <= set(labels.values()):
        raise InputError(f"{where}: [answer.labels] needs the labels for safe and for unsafe")
    return labels


def _only(where: str, data: Mapping[str, object], known: set[str]) -> None:
    for name in data:
        if name not in known:
            raise InputError(f"{where}: {name}: unknown entry")
