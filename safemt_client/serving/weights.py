"""The weights of a model: what they are called, how large they are, and the hash of their content."""

from __future__ import annotations

import hashlib
import json
import os
import re
import struct
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from safemt_client.providers.errors import InputError

__all__ = ["Weights", "gguf_weights", "hash_of", "hub_weights", "model_weights"]

_PIECES = re.compile(r"(.+)-\d{5}-of-(\d{5})\.gguf")
_HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+(@[\w./-]+)?")
_PARTS = {".json", ".jinja", ".model", ".safetensors", ".bin", ".txt", ".tiktoken"}
"""Endings of the files of a model's folder that decide what it answers."""
_HEAVY = {".safetensors", ".bin"}
_NUMBERS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
"""The types of a GGUF file's values that are one number, as `struct` calls them."""
_TEXT, _ARRAY = 8, 9
_LONGEST = 2**20


@dataclass(frozen=True)
class Weights:
    """What is known of a model before it is served.

    Attributes:
        name: what the model is called, without its folder.
        revision: the hash of its content, or the revision of the hub; empty if neither is known.
        size: bytes of its weights; None if they are not on this machine yet.
        precision: its quantisation or number format as its files say; empty if they do not.
        cache: bytes that one token of a conversation takes up while it is being answered; 0 if not known.
    """

    name: str
    revision: str
    size: int | None
    precision: str = ""
    cache: int = 0


def gguf_weights(path: Path) -> Weights:
    """The weights in a GGUF file, together with the other pieces of one that was divided.

    Raises:
        InputError: there is no such file, or it is no GGUF file.
    """
    files = _pieces(path)
    try:
        with path.open("rb") as file:
            facts = _facts(file)
    except OSError as error:
        raise InputError(f"llama.cpp:{path}: {error.strerror}: name a GGUF file") from None
    except (struct.error, ValueError, UnicodeDecodeError):
        raise InputError(f"llama.cpp:{path}: is not a GGUF file: name one that ends in .gguf") from None
    size = sum(file.stat().st_size for file in files)
    found = re.search(r"(?i)[.-]((?:I?Q\d\w*|B?F16|F32|MXFP4\w*))\Z", path.stem)
    return Weights(path.stem, hash_of(files), size, found[1] if found else "", _cache(facts))


def model_weights(source: str, engine: str) -> Weights:
    """The weights of a folder as the hub has them, or of a name on the hub.

    Raises:
        InputError: it is neither, or the folder lacks its configuration or its weights.
    """
    folder = Path(source).expanduser()
    if not folder.exists():
        if not _HUB_NAME.fullmatch(source) or source.startswith((".", "/")):
            raise InputError(f"{engine}:{source}: no such folder: name one, or a model of the hub, ORG/NAME")
        return hub_weights(source)
    if not folder.is_dir():
        raise InputError(
            f"{engine}:{source}: is a file: name the folder of the model, or use llama.cpp:FILE.gguf"
        )
    files = sorted(file for file in folder.iterdir() if file.suffix in _PARTS and file.is_file())
    heavy = [file for file in files if file.suffix in _HEAVY]
    configuration = folder / "config.json"
    if not configuration.exists():
        raise InputError(f"{engine}:{source}: has no config.json: name the folder of a model")
    if not heavy:
        raise InputError(f"{engine}:{source}: has no weights (*.safetensors): download them into it")
    try:
        content: Any = json.loads(configuration.read_text(encoding="utf-8"))
        stated = content.get("dtype") or content.get("torch_dtype") or ""
    except (OSError, ValueError, AttributeError):
        raise InputError(f"{engine}:{source}: config.json cannot be read: download it again") from None
    size = sum(file.stat().st_size for file in heavy)
    return Weights(folder.resolve().name, hash_of(files), size, str(stated))


def hub_weights(source: str) -> Weights:
    """A model of the hub, with its revision if one is given (`ORG/NAME@REVISION`) or was downloaded."""
    name, _, revision = source.partition("@")
    cache = os.environ.get("HF_HUB_CACHE") or Path(
        os.environ.get("HF_HOME") or Path.home() / ".cache" / "huggingface", "hub"
    )
    folder = Path(cache) / f"models--{name.replace('/', '--')}"
    if not revision:
        with suppress(OSError):
            revision = (folder / "refs" / "main").read_text(encoding="utf-8").strip()
    heavy = [file for file in folder.glob(f"snapshots/{revision or '-'}/*") if file.suffix in _HEAVY]
    size = sum(file.stat().st_size for file in heavy if file.exists())
    return Weights(name, revision, size or None)


def hash_of(files: Sequence[Path]) -> str:
    """The SHA-256 over the content of these files, in this order; remembered until one of them changes."""
    return hashlib.sha256("\n".join(_hash(file) for file in files).encode()).hexdigest()


def _hash(path: Path) -> str:
    state = path.stat()
    mark = f"{path.resolve()}:{state.st_ino}:{state.st_size}:{state.st_mtime_ns}"
    known = _remembered()
    if mark not in known:
        with path.open("rb") as file:
            known[mark] = hashlib.file_digest(file, "sha256").hexdigest()
        if state.st_size > _LONGEST:
            _remember(known)
    return known[mark]


def _memory() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "safemt" / "weights.json"


def _remembered() -> dict[str, str]:
    try:
        known: Any = json.loads(_memory().read_text(encoding="utf-8"))
    except (OSError, ValueError, RuntimeError):  # the last where there is no home
        return {}
    return known if isinstance(known, dict) else {}


def _remember(known: dict[str, str]) -> None:
    # Without a place to keep it the content is read again each time.
    with suppress(OSError, RuntimeError):
        _memory().parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=_memory().parent, delete=False, encoding="utf-8") as file:
            json.dump(known, file)
        os.replace(file.name, _memory())


def _pieces(path: Path) -> list[Path]:
    """All files of one that was divided, in order; otherwise the file itself."""
    if (found := _PIECES.fullmatch(path.name)) is None:
        return [path]
    files = sorted(path.parent.glob(f"{found[1]}-*-of-{found[2]}.gguf"))
    if len(files) != int(found[2]):
        raise InputError(
            f"llama.cpp:{path}: {len(files)} of its {int(found[2])} pieces are there: get the others"
        )
    return files


def _facts(file: BinaryIO) -> dict[str, Any]:
    """What a GGUF file says of its model, up to its vocabulary.

    Raises:
        ValueError, struct.error: it is no such file.
    """
    if file.read(4) != b"GGUF":
        raise ValueError("another kind of file")
    version, _, count = _read(file, "IQQ")
    if version not in (2, 3):
        raise ValueError("another version")
    facts: dict[str, Any] = {}
    for _ in range(count):
        name = _text(file)
        (kind,) = _read(file, "I")
        if kind == _ARRAY and name.startswith("tokenizer."):
            break
        if kind == _ARRAY:
            kind, length = _read(file, "IQ")
            for _ in range(min(length, _LONGEST)):
                _value(file, kind)
        else:
            facts[name] = _value(file, kind)
    return facts


def _value(file: BinaryIO, kind: int) -> Any:
    if kind == _TEXT:
        return _text(file)
    if kind not in _NUMBERS:
        raise ValueError("a type of value that is not known")
    return _read(file, _NUMBERS[kind])[0]


def _read(file: BinaryIO, form: str) -> tuple[Any, ...]:
    form = f"<{form}"
    return struct.unpack(form, file.read(struct.calcsize(form)))


def _text(file: BinaryIO) -> str:
    (length,) = _read(file, "Q")
    if length > _LONGEST:
        raise ValueError("a text without end")
    return file.read(length).decode("utf-8")


def _cache(facts: dict[str, Any]) -> int:
    """Bytes of keys and values of one token, at two bytes a number."""
    of = str(facts.get("general.architecture"))
    heads = facts.get(f"{of}.attention.head_count") or 0
    width = facts.get(f"{of}.attention.key_length") or (
        (facts.get(f"{of}.embedding_length") or 0) // heads if heads else 0
    )
    return (
        4
        * (facts.get(f"{of}.block_count") or 0)
        * (facts.get(f"{of}.attention.head_count_kv") or heads)
        * width
    )
