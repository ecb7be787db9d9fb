"""The data model that every reader fills: items at one length, with their scripts and images."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from safemt_client.providers.errors import InputError

__all__ = ["Dataset", "Dialogue", "Oddity", "ScriptedMessage"]

_LONGEST_NAME = 200


@dataclass(frozen=True, slots=True)
class ScriptedMessage:
    """A message as the data set gives it; `images` are the paths given there."""

    role: Literal["user", "assistant"]
    text: str
    images: tuple[str, ...] = ()


@dataclass(frozen=True)
class Dialogue:
    """An item at one length. `length` is the number of user turns; the last message is a user's."""

    item_id: str
    messages: tuple[ScriptedMessage, ...]
    scenario: str | None = None
    source: str | None = None
    method: str | None = None
    question: str | None = None
    benign: bool | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)

    @cached_property
    def length(self) -> int:
        """Number of user turns."""
        return sum(message.role == "user" for message in self.messages)


@dataclass(frozen=True, slots=True)
class Oddity:
    """Something unusual that was read unchanged: its kind, where it is, and a description."""

    kind: str
    where: str
    text: str


@dataclass(frozen=True)
class Dataset:
    """Dialogues that were read from one place. Image paths are relative to the folder `path`."""

    name: str
    path: Path
    dialogues: tuple[Dialogue, ...]
    warnings: tuple[Oddity, ...] = ()
    licence: str | None = None
    live_only: bool = False
    links_to: tuple[Path, ...] = ()

    @cached_property
    def digest(self) -> str:
        """SHA-256 over the content of all dialogues, independent of their order and location."""
        lines = sorted(
            json.dumps(
                [
                    d.item_id,
                    d.length,
                    [[m.role, m.text, m.images] for m in d.messages],
                    [d.scenario, d.source, d.method, d.question, d.benign],
                ]
            )
            for d in self.dialogues
        )
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()

    def dialogue_key(self, dialogue: Dialogue) -> str:
        """The key of a dialogue in the store: data set digest, number of user turns, item id."""
        return f"{self.digest[:12]}:{dialogue.length}:{dialogue.item_id}"

    def image_path(self, relative: str) -> Path:
        """The file of an image path.

        Raises:
            InputError: it does not exist, or is outside `path` and `links_to`, the folders
                that links in the data set may lead to.
        """
        named = repr(relative) if len(relative) <= _LONGEST_NAME else repr(relative[:_LONGEST_NAME]) + "..."
        file = self.path / relative.replace("\\", "/").lstrip("/")
        try:
            if not Path(os.path.normpath(file)).is_relative_to(os.path.normpath(self.path)):
                raise InputError(f"image {named}: points outside {self.path}: copy the image there")
            if not file.is_file():
                raise InputError(f"image missing: {named[1:-1] if relative.isprintable() else named}")
            root, real = self.path.resolve(), file.resolve()
        except (OSError, ValueError, RuntimeError):
            # Too long, contains a NUL or an unpaired surrogate, or a loop of links.
            raise InputError(f"image {named}: is not a valid file name") from None
        if not any(real.is_relative_to(folder) for folder in (root, *self.links_to)):
            raise InputError(f"image {named}: a link out of the folder: add --follow-links if you trust it")
        return file

    def picture_digest(self, relative: str) -> str:
        """SHA-256 of the file of an image path.

        Raises:
            InputError: it cannot be read.
        """
        file = self.image_path(relative)
        try:
            with file.open("rb") as opened:
                return hashlib.file_digest(opened, "sha256").hexdigest()
        except OSError as error:
            raise InputError(f"image {relative!r}: {error.strerror}") from None
