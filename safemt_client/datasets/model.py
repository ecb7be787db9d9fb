"""The data model that every reader fills: items at one length, with their scripts and images."""

from __future__ import annotations

import hashlib
import json
import os
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from json.encoder import encode_basestring_ascii as _text
from pathlib import Path
from typing import Any, Literal

from safemt_client.datasets import embedded
from safemt_client.datasets.inside import beside, within
from safemt_client.datasets.pictures_in import is_url
from safemt_client.providers.errors import InputError

__all__ = ["Dataset", "Dialogue", "Oddity", "ScriptedMessage", "spelled"]

_LONGEST_NAME = 200


@dataclass(frozen=True, slots=True)
class ScriptedMessage:
    """A message as the data set gives it.

    `images` are the paths given there; a picture that the data file itself contains has the name of its hash
    (`datasets.embedded`). Only the first message can be the system's.
    """

    role: Literal["system", "user", "assistant"]
    text: str
    images: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Dialogue:
    """An item at one length: the last message is a user's.

    Where a user turn follows another without a reply between them, the dialogue needs live history.
    """

    item_id: str
    messages: tuple[ScriptedMessage, ...]
    scenario: str | None = None
    source: str | None = None
    method: str | None = None
    question: str | None = None
    benign: bool | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)
    length: int = field(init=False, repr=False, compare=False)
    """Number of user turns."""

    def __post_init__(self) -> None:
        # Counted once: a plan asks each dialogue for it a dozen times.
        turns = [message.role for message in self.messages].count("user")
        object.__setattr__(self, "length", turns)

    @property
    def scripted(self) -> bool:
        """Whether every user turn but the first follows a reply of the assistant."""
        return 2 * self.length - 1 == len(self.messages) - (self.system is not None)

    @property
    def system(self) -> str | None:
        """The text of the system message, if there is one."""
        first = self.messages[0]
        return first.text if first.role == "system" else None

    @property
    def pair(self) -> str | None:
        """What safe and unsafe twins have in common, of the record's field `pair`."""
        found = self.extra.get("pair")
        return None if found in (None, "") else str(found)

    @property
    def control(self) -> Mapping[str, Any] | None:
        """How a control was made of another dialogue, of the record's field `control`; None of others."""
        found = self.extra.get("control")
        if found is None:
            return None
        named = isinstance(found, Mapping) and "condition" in found and "recipe" in found
        return found if named else None

    @property
    def condition(self) -> str | None:
        """What kind of control it is; None of an original."""
        return None if self.control is None else str(self.control["condition"])

    @property
    def paired_length(self) -> int:
        """The number of user turns of the original that it is compared with; its own of an original."""
        found = None if self.control is None else self.control.get("paired_turns")
        return found if isinstance(found, int) else self.length


def _place(d: Dialogue, condition: Sequence[Any]) -> str:
    """The beginning of a dialogue's line, by which the lines are sorted."""
    more = f", {json.dumps(condition)[1:-1]}" if condition else ""
    return f"[{_text(d.item_id)}, {d.length}{more}"


def _content(d: Dialogue) -> str:
    """All of a dialogue that decides results, as a line of JSON: put together here, since texts are long."""
    messages = ", ".join(
        f'["{m.role}", {_text(m.text)}, [{", ".join(map(_text, m.images))}]]' for m in d.messages
    )
    about = json.dumps([[d.scenario, d.source, d.method, d.question, d.benign], *_condition(d)])[1:-1]
    return f"[{_text(d.item_id)}, {d.length}, [{messages}], {about}]"


def _condition(d: Dialogue) -> list[Any]:
    """What tells a control from the original and from other controls of it; nothing of an original."""
    return [] if d.control is None else [d.condition, d.paired_length]


def spelled(path: str) -> list[str]:
    """A path as it is, and with accents as file systems write them."""
    return list(dict.fromkeys((path, *(unicodedata.normalize(form, path) for form in ("NFC", "NFD")))))


def _spellings(folder: Path, path: str) -> Iterator[Path]:
    """The files that a path may mean, also in full."""
    yield from (folder / form for form in spelled(path))
    if (whole := Path("/", path)).is_relative_to(folder.resolve()):
        yield folder / whole.relative_to(folder.resolve())


@dataclass(frozen=True, slots=True)
class Oddity:
    """Something unusual that was read unchanged: its kind, where it is, and a description."""

    kind: str
    where: str
    text: str


@dataclass(frozen=True)
class Dataset:
    """Dialogues that were read from one place.

    Image paths are relative to the folder `path`, else to one of `also`; a picture may be in an archive there
    (`datasets.inside`). `refused` has a line for each record that cannot be used, up to a number;
    `refused_count` counts all of them. `fetch` brings pictures of these folders and paths that are not there.
    """

    name: str
    path: Path
    dialogues: tuple[Dialogue, ...]
    warnings: tuple[Oddity, ...] = ()
    licence: str | None = None
    live_only: bool = False
    links_to: tuple[Path, ...] = ()
    also: tuple[Path, ...] = ()
    refused: tuple[str, ...] = ()
    refused_count: int = 0
    fetch: Callable[[Sequence[Path], Sequence[str]], None] | None = field(
        default=None, repr=False, compare=False
    )

    @cached_property
    def digest(self) -> str:
        """SHA-256 over the content of all dialogues, independent of their order and location."""
        # Each line begins with its place, which decides the order: the lines themselves are never all held.
        found = hashlib.sha256()
        places = {id(d): f"{_place(d, _condition(d))}," for d in self.dialogues}
        twice = len(set(places.values())) < len(self.dialogues)
        for number, dialogue in enumerate(
            sorted(self.dialogues, key=_content if twice else lambda one: places[id(one)])
        ):
            found.update((("\n" if number else "") + _content(dialogue)).encode())
        return found.hexdigest()

    def dialogue_key(self, dialogue: Dialogue) -> str:
        """The key of a dialogue in the store: data set digest, number of user turns, item id.

        Of a control it has the number of the original's user turns, and the condition behind it.
        """
        condition = "" if dialogue.control is None else f"/{dialogue.condition}"
        return f"{self.digest[:12]}:{dialogue.paired_length}{condition}:{dialogue.item_id}"

    def image_path(self, relative: str) -> Path:
        """The file of an image path.

        Raises:
            InputError: it does not exist, or is outside `path` and `links_to`, the folders
                that links in the data set may lead to.
        """
        named = repr(relative) if len(relative) <= _LONGEST_NAME else repr(relative[:_LONGEST_NAME]) + "..."
        if relative.startswith(embedded.PREFIX):
            file = embedded.file_of(relative)
            if not file.is_file():
                raise InputError(f"image missing: {named[1:-1]}: the data file that contains it was not read")
            return file
        if is_url(relative):
            raise InputError(
                f"image {named}: an address on the net, which is never fetched: download it and name the file"
            )
        path = relative.replace("\\", "/").lstrip("/")
        try:
            return self._find(path, named)
        except FileNotFoundError:
            plain = relative.isprintable() and relative == relative.strip()
            name = named[1:-1] if plain else named
            raise InputError(f"image missing: {name}") from None
        except (OSError, ValueError, RuntimeError):
            # Too long, contains a NUL or an unpaired surrogate, or a loop of links.
            raise InputError(f"image {named}: is not a valid file name") from None

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

    def bring(self, paths: Iterable[str]) -> None:
        """Have the pictures of these paths there, if they are still elsewhere: side by side.

        Raises:
            InputError: one cannot be had.
        """
        if self.fetch is not None:
            wanted = [p for p in paths if not p.startswith(embedded.PREFIX) and not is_url(p)]
            self.fetch((self.path, *self.also), wanted)

    def _find(self, path: str, named: str) -> Path:
        self.bring([path])
        for folder, file in self._places(path):
            if not Path(os.path.normpath(file)).is_relative_to(os.path.normpath(folder)):
                raise InputError(f"image {named}: points outside {folder}: copy the image there")
            if (found := within(file)).is_file():
                return self._allowed(found, folder, named)
        for folder, file in self._places(path):
            name = file.relative_to(folder).as_posix()
            if (packed := beside(folder, name)) is not None:
                return self._allowed(packed, folder, named)
        raise FileNotFoundError(path)

    def _places(self, path: str) -> Iterator[tuple[Path, Path]]:
        return ((folder, file) for folder in (self.path, *self.also) for file in _spellings(folder, path))

    def _allowed(self, file: Path, folder: Path, named: str) -> Path:
        root, real = folder.resolve(), file.resolve()
        if not any(real.is_relative_to(inside) for inside in (root, *self.links_to)):
            raise InputError(f"image {named}: a link out of the folder: add --follow-links if you trust it")
        return file
