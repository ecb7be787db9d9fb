"""The section with the exact settings and fingerprints, to do it again."""

from __future__ import annotations

import json
import unicodedata
from pathlib import PurePath
from typing import Any

from safemt_client.providers.vendors import DEMO_TARGET
from safemt_client.results.report.data import ReportData
from safemt_client.results.report.document import (
    UNKNOWN,
    Block,
    Code,
    Column,
    Notes,
    Section,
    Table,
    show,
)

__all__ = ["reproduce", "toml_of"]

_LONG = 400
_FIRST_WORDS = 60


def reproduce(known: ReportData) -> Section:
    """Fingerprints, targets, judges, moderators, and the settings as a file for `--config`."""
    run = known.found["run"]
    folder = show(PurePath(run["dataset_path"]).name, _LONG)
    facts = [
        ("Fingerprint of the run", show(run["fingerprint"])),
        ("Data set", show(run["dataset_name"])),
        ("Digest of the data", show(run["dataset_digest"])),
        ("Folder of the data", folder),
        ("Licence of the data", show(run["dataset_licence"] or "not stated")),
        ("Version of safemt_client", show(run["program_version"])),
    ]
    blocks: list[Block] = [
        Table("Fingerprints", _columns("What", "Value"), facts),
        Table(
            "Targets",
            _columns("Target", "Key", "Model", "Reported model", "History", "Images", "Sampling", "Sent")
            + _columns("Sample", "US$ a million tokens, in / out"),
            [_target(known, row) for row in known.found["targets"]],
            "The key is a hash of all that decides the replies. Sent: what of the sampling was taken.",
        ),
        Table(
            "Judges",
            _columns("Judge", "Key", "Model", "Rubric", "Hash of the rubric", "Sampling"),
            [
                (
                    known.judge_label(row["name"]),
                    *(show(row[name]) for name in ("judge_key", "identity", "rubric", "rubric_hash")),
                    _pairs(row["sampling"]),
                )
                for row in known.found["judges"]
            ],
        ),
        Table(
            "Moderators",
            _columns("Moderator", "Key", "Guard", "Model", "Licence", "Settings"),
            [
                (
                    show(row["name"]),
                    *(show(row[name]) for name in ("moderator_key", "guard", "identity", "licence")),
                    _pairs(row["settings"]),
                )
                for row in known.found["moderators"]
            ],
        ),
    ]
    blocks = [block for block in blocks if not isinstance(block, Table) or block.rows]
    imported = any(row.get("imported_from") is not None for row in known.found["targets"])
    text = None if imported else toml_of(known.found)
    if text is not None:
        blocks += [
            Notes(
                [
                    "The settings that decide the results, as a file for --config. The same settings, data "
                    "and version give the same fingerprint; which model an endpoint serves, it cannot know."
                ]
            ),
            Code("safemt.toml", text),
        ]
    return Section("repeat", "Reproduce this run", blocks)


def toml_of(found: dict[str, Any]) -> str | None:
    """The run's settings as TOML, or None where they are not known; the data's folder is left to be named."""
    try:
        settings = json.loads(found["run"]["settings"])
    except (TypeError, ValueError):
        return None
    if not isinstance(settings, dict):
        return None
    lines = [
        f"# data set {show(found['run']['dataset_name'])}, digest {show(found['run']['dataset_digest'])}"
    ]
    if set(settings.get("provider") or ()) != {DEMO_TARGET}:
        lines.append('data = "..."  # where that data set lies')
    lines += [
        f"{name} = {_toml(_without_null(name, value))}"
        for name, value in sorted(settings.items())
        if value not in (None, {}) and name.replace("_", "").isalnum() and name.isascii()
    ]
    return "\n".join(lines) + "\n"


def _without_null(name: str, value: Any) -> Any:
    """A setting as TOML can have it: an extra body, in which null is allowed, as JSON."""
    if name == "extra_body":
        return json.dumps(value)
    if isinstance(value, dict):
        return {inner: _without_null(inner, one) for inner, one in value.items()}
    return value


def _toml(value: Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(_toml, value))}]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_toml(key)} = {_toml(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, str):
        return '"' + "".join(map(_escaped, value)) + '"'
    return json.dumps(value)


def _escaped(character: str) -> str:
    """A character of a TOML string: what cannot be seen, or turns the direction, as its code."""
    if character in '"\\':
        return f"\\{character}"
    category = unicodedata.category(character)
    if category == "Cs":
        return "\\uFFFD"
    if category in ("Cc", "Cf", "Cn", "Co", "Zl", "Zp"):
        return f"\\u{ord(character):04X}" if ord(character) < 0x10000 else f"\\U{ord(character):08X}"
    return character


def _columns(*names: str) -> list[Column]:
    return [Column(name, numeric=False) for name in names]


def _target(known: ReportData, row: dict[str, Any]) -> tuple[str, ...]:
    said = [
        show(found["model"])
        for found in known.found["resolved_models"]
        if found["target"] == row["name"] and found["model"] is not None
    ]
    return (
        known.target(row["name"]),
        show(row["target_key"]),
        show(row["identity"]),
        ", ".join(said[:5]) or "unknown",
        show(row["history"]),
        show(row["images"]),
        UNKNOWN if row.get("imported_from") else _pairs(row["sampling"], row["system_prompt"]),
        "; ".join(_sent(known, row["target_key"])) or "unknown",
        show(row["sample"]),
        _prices(row["prices"]),
    )


def _sent(known: ReportData, target_key: str) -> list[str]:
    """What was really sent beside the messages, in each form that it had."""
    rows = [row for row in known.found["sent_parameters"] if row["target_key"] == target_key]
    return list(dict.fromkeys(_pairs(row["parameters"]) for row in rows))


def _prices(text: str | None) -> str:
    try:
        prices = json.loads(text or "null")
        return f"{1e6 * prices['input']:g} / {1e6 * prices['output']:g}"
    except (TypeError, ValueError, KeyError):
        return "unknown"


def _pairs(text: str, system_prompt: str | None = None) -> str:
    """A JSON object as `name value, ...`, and a system prompt by its first words."""
    try:
        found = json.loads(text)
    except (TypeError, ValueError):
        return show(text, _LONG)
    if not isinstance(found, dict):
        return show(text, _LONG)
    pairs = [f"{name} {json.dumps(value)}" for name, value in found.items()]
    pairs += [] if system_prompt is None else [f"system prompt {show(system_prompt, _FIRST_WORDS)}"]
    return show(", ".join(pairs) or "as it comes", _LONG)
