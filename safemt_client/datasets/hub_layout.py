"""A data set as the Hugging Face hub has it: a card (README.md), and files by configurations and splits."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from safemt_client.datasets.archives import is_archive
from safemt_client.datasets.files import shown
from safemt_client.datasets.inside import fits
from safemt_client.datasets.rows import is_data
from safemt_client.providers.errors import InputError

__all__ = ["ABOUT", "Card", "Config", "Repository", "card_of", "chosen", "has_configs", "licence_of", "local"]

ABOUT = ("dataset_info", "dataset_infos", "dataset_dict", "state", "config", "metadata", "package")
"""Files of JSON beside the data that are about them."""
_LARGEST = 4 * 2**20
_FRONT = re.compile(r"\ufeff?---[ \t]*\r?\n(.*?\n)---[ \t]*(\r?\n|\Z)", re.DOTALL)
_SHARD = re.compile(r"(.+?)[-_.]\d{3,}-of-\d{3,}")
_ASKED = ("license", "license_name", "configs")
_SPLITS = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev"),
    "test": ("test", "testing", "eval", "evaluation"),
}
"""The splits that names of files and folders stand for, as in the library `datasets`."""


@dataclass(frozen=True)
class Config:
    """A configuration: the patterns of the files of each split; None: they are told by their names."""

    name: str
    default: bool = False
    folder: str = ""
    files: Mapping[str, Sequence[str]] | None = None


@dataclass(frozen=True)
class Card:
    """What the head of a README.md says of a data set."""

    licence: str | None = None
    configs: tuple[Config, ...] = ()


@dataclass(frozen=True)
class Repository:
    """The files of a data set by their names from `folder` on. `label` is what a message calls it.

    `only` is the one file that the user named.
    """

    label: str
    name: str
    folder: Path
    names: frozenset[str]
    card: Card = field(default=Card())
    only: str | None = None

    def bring(self, names: Sequence[str]) -> None:
        """Have these files in the folder."""

    def matching(self, patterns: Sequence[str]) -> None:
        """Have the files of a map's patterns there."""

    def pictures(self, folders: Sequence[Path], paths: Sequence[str]) -> None:
        """Have the pictures of these paths there, which are relative to one of the folders."""

    @property
    def links(self) -> tuple[Path, ...]:
        """Where links in the folder may lead."""
        return ()


def local(path: Path) -> Repository:
    """A folder that is a copy of a hub repository."""
    files = (file for file in path.rglob("*") if file.is_file())
    names = (file.relative_to(path).as_posix() for file in files)
    readme = path / "README.md"
    card = card_of(_start(readme)) if readme.is_file() else Card()
    return Repository(str(path), path.name, path, frozenset(names), card)


def licence_of(folder: Path) -> str | None:
    """The licence that the card of a folder states, if there is one that can be read."""
    try:
        readme = folder / "README.md"
        return card_of(_start(readme)).licence if readme.is_file() else None
    except (InputError, OSError):
        return None


def has_configs(folder: Path) -> bool:
    """Whether the card of a folder names configurations: they say which files are its data."""
    try:
        found = _FRONT.match(_start(folder / "README.md"))
    except OSError:
        return False
    return found is not None and re.search(r"^configs:", found[1], re.MULTILINE) is not None


def _start(path: Path) -> str:
    with path.open("rb") as file:
        return file.read(_LARGEST).decode("utf-8", "replace")


def card_of(text: str) -> Card:
    """The licence and the configurations of a card.

    Raises:
        InputError: what reads it is not installed, or its configurations have another form.
    """
    found = _FRONT.match(text)
    if found is None:
        return Card()
    try:
        import yaml
    except ImportError:
        raise InputError(
            "README.md: to read its head needs an extra: pip install 'safemt-client[hf]'"
        ) from None
    try:
        head = yaml.safe_load("".join(_asked(found[1])))
    except (yaml.YAMLError, ValueError, RecursionError):
        raise InputError("README.md: its head is not YAML: correct it, or name a file of the data") from None
    if not isinstance(head, dict):
        return Card()
    configs = head.get("configs")
    entries = configs if isinstance(configs, list) else []
    return Card(_licence(head), tuple(map(_config, entries)))


def _asked(head: str) -> Iterator[str]:
    """The lines of what is asked of a head. Others may be very long, such as lists of all features."""
    wanted = False
    for line in head.splitlines(keepends=True):
        if line[:1] not in ("", " ", "-", "#", "\n", "\r"):
            wanted = line.split(":")[0] in _ASKED
        if wanted:
            yield line


def _licence(head: Mapping[str, Any]) -> str | None:
    given = head.get("license")
    names = [str(one) for one in (given if isinstance(given, list) else [given]) if one]
    if names == ["other"] and head.get("license_name"):
        names = [str(head["license_name"])]
    text = ", ".join(name for name in names if name != "unknown")
    return text[:200] if text.isprintable() and text else None


def _config(entry: Any) -> Config:
    name = entry.get("config_name") if isinstance(entry, dict) else None
    if not isinstance(name, str) or not name:
        raise InputError("README.md: configs: an entry has no config_name: name a file of the data")
    given = entry.get("data_files")
    files: dict[str, list[str]] | None = None
    if given is not None:
        files = {}
        for split, patterns in _by_split(given):
            files.setdefault(split, []).extend(patterns)
    folder = str(entry.get("data_dir") or "").strip("/")
    return Config(name, entry.get("default") is True, folder, files)


def _by_split(given: Any) -> Iterator[tuple[str, list[str]]]:
    """`data_files` in each of its forms: patterns, a table of them by splits, or a list of either."""
    for one in given if isinstance(given, list) else [given]:
        if isinstance(one, str):
            yield "train", [one]
        elif isinstance(one, dict) and "path" in one:
            paths = one["path"] if isinstance(one["path"], list) else [one["path"]]
            yield str(one.get("split") or "train"), [str(path) for path in paths]
        elif isinstance(one, dict):
            for split, paths in one.items():
                yield str(split), [str(path) for path in (paths if isinstance(paths, list) else [paths])]


def chosen(repository: Repository, config: str | None, split: str | None) -> list[str]:
    """The names of the files of a configuration and a split, of all splits if that is None or "all".

    Raises:
        InputError: there is no such configuration or split, or there are several configurations.
    """
    if repository.only is not None:
        return [repository.only]
    by_split = _splits(repository, _one_config(repository, config))
    if split in (None, "all"):
        return [name for files in by_split.values() for name in files]
    if split not in by_split:
        has = f"it has {', '.join(by_split)}" if by_split else "it has no files of data"
        raise InputError(f"--data-split {shown(split)}: {repository.label} has no such split: {has}")
    return by_split[split]


def _one_config(repository: Repository, wanted: str | None) -> Config:
    configs = {one.name: one for one in repository.card.configs}
    if wanted is not None:
        if wanted in configs:
            return configs[wanted]
        if not configs and wanted == "default":
            return Config("default")
        has = f"it has {', '.join(configs)}" if configs else "its card names none: leave it out"
        raise InputError(
            f"--data-config {shown(wanted)}: {repository.label} has no such configuration: {has}"
        )
    if len(configs) < 2:
        return next(iter(configs.values()), Config("default"))
    first = [one for one in configs.values() if one.default] or [
        c for c in configs.values() if c.name == "default"
    ]
    if not first:
        raise InputError(
            f"{repository.label}: has several configurations: name one: --data-config {' or '.join(configs)}"
        )
    return first[0]


def _splits(repository: Repository, config: Config) -> dict[str, list[str]]:
    before = f"{config.folder}/" if config.folder else ""
    names = sorted(name for name in repository.names if name.startswith(before))
    if config.files is not None:
        found = {
            split: [name for name in names if any(_matches(name, before + one) for one in patterns)]
            for split, patterns in config.files.items()
        }
        if not any(found.values()):
            raise InputError(f"{repository.label}: has none of the files that its card names")
        return found
    by_name: dict[str, list[str]] = {}
    for name in _data(names, before):
        by_name.setdefault(_split_of(name[len(before) :]), []).append(name)
    return by_name


def _matches(name: str, pattern: str) -> bool:
    pattern = pattern.removeprefix("./").rstrip("/")
    return fits(name.split("/"), pattern.split("/")) or name.startswith(f"{pattern}/")


def _data(names: Sequence[str], before: str) -> list[str]:
    """All Parquet files; else the files of records, or an archive, in the folder or its folder `data`."""
    if tables := [name for name in names if name.lower().endswith(".parquet")]:
        return tables
    for fitting in (_is_list, is_archive):
        for place in ("", "data/", "Data/"):
            here = [name for name in names if name.rpartition("/")[0] == (before + place).rstrip("/")]
            if found := [name for name in here if fitting(name)]:
                return found
    return []


def _is_list(name: str) -> bool:
    path = Path(name)
    return is_data(path) and path.stem.lower() not in ABOUT


def _split_of(name: str) -> str:
    """The split that a file is of, by its name or else by its folders'."""
    path = PurePosixPath(name)
    if shard := _SHARD.match(path.name):
        name = shard[1]
        return next((split for split, words in _SPLITS.items() if name.lower() in words), name)
    for part in (path.name, *reversed(path.parts[:-1])):
        words = re.split(r"[^a-z0-9]+", part.lower())
        for split, known in _SPLITS.items():
            if any(word in known for word in words):
                return split
    return "train"
