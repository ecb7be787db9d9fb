"""What an export keeps of settings and of models' words where texts are left out."""

from __future__ import annotations

import json
import re
from collections.abc import Collection
from functools import cache
from pathlib import PurePosixPath
from typing import Any

from safemt_client.judges.rubric import PRESETS, load_rubric
from safemt_client.results.store.queries import Queryable

__all__ = ["Redaction", "labels_of"]

_FINISH = {
    *("stop", "length", "content_filter", "tool_calls", "function_call", "eos", "end_turn", "max_tokens"),
    *("stop_sequence", "refusal", "safety", "recitation", "blocklist", "prohibited_content", "spii", "other"),
}
_MODEL = re.compile(r"[\w.:/@+-]{1,120}", re.ASCII)
# Labels of guards: S1, O3, violence, self-harm/intent.
_CODE = re.compile(r"[A-Z]{1,3}\d{1,3}|[a-z_-]{1,30}(/[a-z_-]{1,30})?")
_LONGEST_SETTING = 120
_TEXTS_OF_SETTINGS = {"refusal", "system", "system_prompt", "prompt", "stop", "prefix", "suffix"}


def labels_of(reader: Queryable, run_id: str) -> set[str]:
    """The scenarios of a run's data: guards answer in their words."""
    rows = reader.query(
        "SELECT DISTINCT scenario FROM dialogues SEMI JOIN "
        "(SELECT dialogue_key FROM run_dialogues WHERE run_id = ?) USING (dialogue_key) "
        "WHERE scenario IS NOT NULL",
        [run_id],
    ).rows
    return {row[0] for row in rows}


class Redaction:
    """Keeps of a model's words only what is a known label.

    `labels` are those of the data; the categories of the rubrics that come with the program are known too.
    """

    def __init__(self, labels: Collection[str]) -> None:
        self._labels = frozenset(labels)
        self._annotators: dict[str, str] = {}

    def label(self, value: str | None) -> str | None:
        """A category or scenario, if it is a label that is known or looks like a guard's code."""
        if value is None:
            return None
        known = value in self._labels or value in _rubric_categories() or _CODE.fullmatch(value)
        return value if known else None

    def finish(self, value: str | None) -> str | None:
        """Why a model stopped, in the words that vendors use."""
        return value if value is not None and value.lower() in _FINISH else None

    def model(self, value: str | None) -> str | None:
        """The name of a model, if it has the form of one."""
        return value if value is not None and _MODEL.fullmatch(value) else None

    def annotator(self, value: str) -> str:
        """A number for a person."""
        return self._annotators.setdefault(value, f"annotator {len(self._annotators) + 1}")

    def settings(self, value: str | None) -> str | None:
        """Settings without texts for a model, and with the names of files alone."""
        return None if value is None else json.dumps(_setting(json.loads(value)), ensure_ascii=False)

    def messages(self, value: str | None) -> list[dict[str, Any]] | None:
        """Who spoke, and which images were shown, by hash."""
        if value is None:
            return None
        return [
            {"role": said.get("role"), "content": None, "images": said.get("images", [])}
            for said in json.loads(value)
        ]


def _setting(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: None if name in _TEXTS_OF_SETTINGS else _setting(v) for name, v in value.items()}
    if isinstance(value, list):
        return [_setting(inner) for inner in value]
    if not isinstance(value, str):
        return value
    if len(value) > _LONGEST_SETTING or "\n" in value:
        return None
    local = value.startswith(("/", "~", "./", "../")) or value.endswith((".toml", ".json", ".txt", ".jsonl"))
    return PurePosixPath(value).name if local else value


@cache
def _rubric_categories() -> frozenset[str]:
    return frozenset(name for preset in PRESETS for name in load_rubric(preset).categories)
