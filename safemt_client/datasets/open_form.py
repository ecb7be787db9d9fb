"""Write dialogues in the open form (docs/data.md): JSON lines with the pictures beside them, nothing lost."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path, PurePosixPath
from typing import Any

from safemt_client.datasets import embedded
from safemt_client.datasets.about import write_about
from safemt_client.datasets.files import MAX_FILE, shown
from safemt_client.datasets.model import Dataset, Dialogue, ScriptedMessage
from safemt_client.datasets.pictures_in import is_url
from safemt_client.datasets.records import SOURCES, read_record
from safemt_client.datasets.rows import FORMS
from safemt_client.providers.errors import InputError
from safemt_client.results.files import whole_file

__all__ = ["Written", "convert", "write"]

_NAMED = ("scenario", "source", "method", "question", "benign")
_ENDINGS = (
    *((b"\xff\xd8\xff", "jpg"), (b"\x89PNG", "png"), (b"GIF8", "gif"), (b"RIFF", "webp"), (b"BM", "bmp")),
    *((b"II*\0", "tif"), (b"MM\0*", "tif")),
)
_FIX = "choose another --out"

Made = Mapping[str, Callable[[], bytes]]
"""Pictures that no file has, by the names that dialogues give them."""


@dataclass(frozen=True, slots=True)
class Written:
    """What was written: how many dialogues into each file, how many pictures, and those that are missing.

    `source_again` dialogues have no source, but an id of which the reader takes one.
    """

    files: Mapping[Path, int]
    pictures: int
    missing: tuple[str, ...]
    source_again: int = 0


def convert(dataset: Dataset, out: Path) -> Written:
    """Write a data set to a folder that is not there yet, or to a file that ends with `.jsonl`.

    Reading it gives the same dialogues, with the same bytes in their pictures. In a folder, name and licence
    of the data set stand beside them.

    Raises:
        InputError: it exists, cannot be written, or a dialogue has something that the form cannot hold.
    """
    if dataset.refused:
        raise InputError(dataset.refused[0])
    if out.suffix.lower() == ".jsonl":
        if out.exists():
            raise InputError(f"{out}: exists: {_FIX}, or remove it")
        return _Writer(dataset, out.parent).write({out.name: dataset.dialogues})
    return write(dataset, {"dialogues.jsonl": dataset.dialogues}, out)


def write(
    dataset: Dataset, files: Mapping[str, Iterable[Dialogue]], folder: Path, made: Made | None = None
) -> Written:
    """Write dialogues with the pictures of a data set, or `made`, to files of a folder that is not there yet.

    Raises:
        InputError: as for `convert`.
    """
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise InputError(f"{folder}: exists: {_FIX}, or remove it")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{folder}: {error.strerror or error}: {_FIX}") from None
    written = _Writer(dataset, folder, made or {}).write(files)
    write_about(folder, dataset.name, dataset.licence)
    return written


class _Writer:
    def __init__(self, dataset: Dataset, folder: Path, made: Made | None = None) -> None:
        self._dataset = dataset
        self._folder = folder
        self._made = made or {}
        self._names: dict[str, str] = {}
        self._copied: dict[str, str] = {}
        self._missing: list[str] = []
        self._source_again = 0

    def write(self, files: Mapping[str, Iterable[Dialogue]]) -> Written:
        counts: dict[Path, int] = {}
        for name, dialogues in files.items():
            path = self._folder / name
            with whole_file(path, _FIX) as part, part.open("wb") as file:
                counts[path] = 0
                for dialogue in dialogues:
                    file.write(self._line(dialogue))
                    counts[path] += 1
                if file.tell() > MAX_FILE:
                    raise InputError(
                        f"{path}: larger than the {MAX_FILE} bytes that are read: split the data"
                    )
        return Written(counts, len(self._copied), tuple(sorted(self._missing)), self._source_again)

    def _line(self, dialogue: Dialogue) -> bytes:
        named = tuple(
            ScriptedMessage(m.role, m.text, tuple(map(self._picture, m.images))) for m in dialogue.messages
        )
        record = _record(replace(dialogue, messages=named))
        self._check(record, replace(dialogue, messages=named, extra=_as_json(dialogue.extra)))
        try:
            return (json.dumps(record, ensure_ascii=False) + "\n").encode()
        except UnicodeEncodeError:
            # A text with an unpaired surrogate can only be written as an escape.
            return (json.dumps(record) + "\n").encode()

    def _check(self, record: dict[str, Any], meant: Dialogue) -> None:
        """Refuse what would be read back otherwise."""
        where = f"{self._dataset.name}: {shown(meant.item_id)}"
        try:
            read = read_record(record, where, [])
        except InputError as error:
            raise InputError(f"{error}: the open form cannot hold it") from None
        if read == meant:
            return
        other = [f.name for f in fields(Dialogue) if getattr(read, f.name) != getattr(meant, f.name)]
        if other == ["source"] and meant.source is None and meant.item_id.split("_", 1)[0] in SOURCES:
            self._source_again += 1
            return
        if other == ["extra"]:
            lost = [name for name in meant.extra if read.extra.get(name) != meant.extra[name]]
            other = [f"field {shown(lost[0])}" if lost else "a field"]
        raise InputError(
            f"{where}: the open form cannot hold its {other[0]}: rename it in the data, or by a map"
        )

    def _picture(self, name: str) -> str:
        """What a picture is called in what is written; its file is copied once."""
        if name not in self._names:
            self._names[name] = self._copy(name)
        return self._names[name]

    def _copy(self, name: str) -> str:
        try:
            if name in self._made:
                return self._put(name, self._made[name], None)
            file = self._dataset.image_path(name)
        except InputError:
            self._missing.append(name)
            return name
        wanted = name.replace("\\", "/").lstrip("/")
        if _is_plain(name):
            try:
                return self._put(wanted, None, file)
            except (FileExistsError, NotADirectoryError, IsADirectoryError):
                pass
        digest = self._dataset.picture_digest(name)
        with file.open("rb") as opened:
            head = opened.read(8)
        ending = next((ending for magic, ending in _ENDINGS if head.startswith(magic)), "picture")
        return self._put(f"pictures/{digest}.{ending}", None, file)

    def _put(self, name: str, data: Callable[[], bytes] | None, file: Path | None) -> str:
        path = self._folder / name
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if data is not None:
                path.write_bytes(data())
            elif file is not None and not self._is_there(path, file):
                # It may be in an archive.
                with file.open("rb") as picture, path.open("wb") as copy:
                    shutil.copyfileobj(picture, copy)
        except (FileExistsError, NotADirectoryError, IsADirectoryError):
            raise
        except OSError as error:
            raise InputError(f"{path}: {error.strerror or error}: {_FIX}") from None
        self._copied[name] = name
        return name

    def _is_there(self, path: Path, file: Path) -> bool:
        """Whether the file is there already.

        Raises:
            FileExistsError: another one is.
        """
        if not path.exists():
            return False
        if path.is_file() and path.read_bytes() == file.read_bytes():
            return True
        raise FileExistsError(path)


def _is_plain(name: str) -> bool:
    """Whether a picture can be called the same in the folder that is written."""
    path = PurePosixPath(name)
    return not (
        name.startswith(("/", ".", embedded.PREFIX))
        or is_url(name)
        or "\\" in name
        or ".." in path.parts
        or str(path) != name
        or path.suffix.lower() in (*FORMS, ".gz")
    )


def _record(dialogue: Dialogue) -> dict[str, Any]:
    record: dict[str, Any] = {"id": dialogue.item_id}
    record |= {name: value for name in _NAMED if (value := getattr(dialogue, name)) is not None}
    record["dialogue"] = [
        {"role": m.role, "content": m.text} | ({"images": list(m.images)} if m.images else {})
        for m in dialogue.messages
    ]
    return record | {name: value for name, value in _as_json(dialogue.extra).items() if name not in record}


def _as_json(extra: Mapping[str, Any]) -> dict[str, Any]:
    """Other fields as JSON keeps them, and as the store has them."""
    if not extra:
        return {}
    text = json.dumps(dict(extra), default=str)
    found: dict[str, Any] = json.loads(text, parse_constant=lambda _: None)
    return found
