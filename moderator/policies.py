"""Policies: what a model is told when a conversation is found to hide harm of some kind, as data."""

from __future__ import annotations

import hashlib
import json
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from safemt_client.providers.errors import InputError

__all__ = ["Policies", "load_policies"]


@dataclass(frozen=True)
class Policies:
    """Named texts by scenario. `general` is for scenarios without their own text."""

    name: str
    version: str
    texts: Mapping[str, str]

    @property
    def hash(self) -> str:
        """SHA-256 over the whole content."""
        content = [self.name, self.version, dict(self.texts)]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    def text_for(self, scenarios: Sequence[str]) -> str:
        """The policies of these scenarios, each once and in this order; the general one if none is known."""
        known = [name for name in dict.fromkeys(scenarios) if name in self.texts] or ["general"]
        return "\n\n".join(self.texts[name].strip() for name in known)


def load_policies(path: str | None = None) -> Policies:
    """The built-in policies, or a user's own TOML file.

    Raises:
        InputError: the file cannot be read, or its shape is wrong.
    """
    if path is None:
        file = resources.files("safemt_client.moderator").joinpath("policies.toml")
        return _parse("policies.toml", file.read_text(encoding="utf-8"))
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read: {error}") from None
    return _parse(path, text)


def _parse(where: str, text: str) -> Policies:
    try:
        data = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where}: not TOML: {error}") from None
    unknown = sorted(data.keys() - {"name", "version", "policies"})
    if unknown:
        raise InputError(f"{where}: {unknown[0]}: unknown entry; policies belong under [policies]")
    texts, name, version = data.get("policies"), data.get("name", where), data.get("version", "1")
    if not isinstance(name, str) or not isinstance(version, str):
        raise InputError(f"{where}: name and version must be strings")
    if not isinstance(texts, dict) or "general" not in texts:
        raise InputError(f"{where}: [policies] needs a string named general")
    for scenario, policy in texts.items():
        if not isinstance(policy, str) or not policy.strip():
            raise InputError(f"{where}: [policies] {scenario!r} must be a string that is not blank")
    return Policies(name, version, texts)
