"""Data sets from the Hugging Face hub, of which no more is downloaded than is read; needs the `hf` extra."""

from __future__ import annotations

import itertools
import os
import posixpath
import re
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from safemt_client.datasets.archives import is_archive
from safemt_client.datasets.hub_layout import Card, Repository, card_of, chosen
from safemt_client.datasets.inside import beside, candidates, fits, roots, within
from safemt_client.datasets.model import Dataset, spelled
from safemt_client.datasets.reader import Reader
from safemt_client.datasets.readers import open_files, safemt
from safemt_client.datasets.rows import rows
from safemt_client.providers.errors import InputError
from safemt_client.providers.keys import Redactor, find_key

if TYPE_CHECKING:
    from safemt_client.datasets.maps.language import Map

__all__ = ["READER", "Hub", "connected", "read", "read_by_map", "read_layout"]

_NAME = re.compile(r"([^/@]+/[^/@]+)(?:@(refs/(?:convert|pr)/[^/]+|[^/]+))?(?:/(.*))?")
_README = "README.md"
_AT_ONCE = 8


@dataclass(frozen=True)
class Hub(Repository):
    """A data set on the hub, at one commit: files are downloaded once, into the hub's own cache.

    `base` is the folder in the repository that `folder` is.
    """

    commit: str | None = None
    base: str = ""
    api: Any = field(default=None, repr=False, compare=False)

    def bring(self, names: Sequence[str]) -> None:
        """Download those of these files that are not there yet.

        Raises:
            InputError: one cannot be had.
        """
        wanted = [
            name for name in dict.fromkeys(names) if name in self.names and not (self.folder / name).exists()
        ]
        if not wanted or self.commit is None:
            return
        try:
            with _explained(self.label), ThreadPoolExecutor(min(_AT_ONCE, len(wanted))) as pool:
                for _ in pool.map(self._download, wanted):
                    pass
        except _OutOfReachError as error:
            raise InputError(f"--data {self.label}: the hub cannot be reached: {error}") from None

    def _download(self, name: str) -> None:
        self.api.hf_hub_download(self.name, self.base + name, repo_type="dataset", revision=self.commit)

    def matching(self, patterns: Sequence[str]) -> None:
        """Download the files of a map's patterns, or else the archives that may have them."""
        self.folder.mkdir(parents=True, exist_ok=True)
        for pattern in patterns:
            steps = pattern.split("/")
            into = next((n for n, step in enumerate(steps, start=1) if is_archive(step)), len(steps))
            found = [name for name in self.names if fits(name.split("/"), steps[:into])]
            self.bring(
                found or [archive.as_posix() for archive, _ in candidates(Path(), steps, self._archives)]
            )

    def pictures(self, folders: Sequence[Path], paths: Sequence[str]) -> None:
        """Download the pictures of these paths, or else the archives that may have them."""
        tops = [folder.relative_to(self.folder).as_posix() for folder in folders]
        for_archives, direct = [], []
        for path in paths:
            forms = [form for top in tops for form in self._forms(top, path)]
            found = [inner for form in forms if (inner := self._direct(form)) is not None]
            direct += found
            for_archives += [] if found else forms
        self.bring(direct)
        for name in for_archives:
            self._bring_archive(name)

    def _forms(self, top: str, path: str) -> list[str]:
        clean = path.replace("\\", "/").lstrip("/")
        return [posixpath.normpath(posixpath.join(top, form)) for form in spelled(clean)]

    def _direct(self, name: str) -> str | None:
        """The file of this name, or the archive that the name leads into."""
        if name in self.names:
            return name
        steps = name.split("/")
        outer = ("/".join(steps[:n]) for n, step in enumerate(steps, start=1) if is_archive(step))
        return next((archive for archive in outer if archive in self.names), None)

    def _bring_archive(self, name: str) -> None:
        found = list(candidates(Path(), name.split("/"), self._archives))
        called_so = [archive.as_posix() for archive, names in found if len(names) > 1]
        self.bring(called_so)
        if not called_so or beside(self.folder, name) is None:
            self.bring([archive.as_posix() for archive, _ in found])

    def _archives(self, folder: Path) -> tuple[Path, ...]:
        return tuple(
            path for name in sorted(self.names) if (path := Path(name)).parent == folder and is_archive(name)
        )

    @property
    def links(self) -> tuple[Path, ...]:
        """The hub's cache keeps the files elsewhere in the repository's folder, and links to them."""
        base = Path(self.base)
        return (self.folder.resolve().parents[len(base.parts) + 1],)


def connected(text: str) -> Hub:
    """The repository of `OWNER/NAME[@REVISION][/FOLDER]`, at the commit that the revision is now.

    Where the hub cannot be reached it is what was downloaded before.

    Raises:
        InputError: the extra is missing, or the repository is not available.
    """
    label = f"hf:{text}"
    parts = _NAME.fullmatch(text)
    if parts is None:
        raise InputError(
            f"--data {label}: write hf:OWNER/NAME, hf:OWNER/NAME@REVISION or hf:OWNER/NAME/FOLDER"
        )
    name, revision, base = parts[1], unquote(parts[2] or "main"), (parts[3] or "").strip("/")
    try:
        import huggingface_hub
        from huggingface_hub import constants
    except ImportError:
        raise InputError("--data hf:...: needs an extra: pip install 'safemt-client[hf]'") from None
    api = huggingface_hub.HfApi(
        endpoint=os.environ.get("HF_ENDPOINT") or None, token=find_key("HF_TOKEN", os.environ)
    )
    try:
        with _explained(label):
            commit = api.dataset_info(name, revision=revision).sha
            names = frozenset(api.list_repo_files(name, repo_type="dataset", revision=commit))
            card = Card()
            if _README in names:
                # By the revision's name, so that the cache knows it when the hub is out of reach.
                file = api.hf_hub_download(name, _README, repo_type="dataset", revision=revision)
                card = card_of(Path(file).read_text("utf-8", "replace"))
        cache = Path(constants.HF_HUB_CACHE)
        folder = cache / f"datasets--{name.replace('/', '--')}" / "snapshots" / str(commit)
    except _OutOfReachError as error:
        folder = _downloaded_before(huggingface_hub, name, revision, label, str(error))
        commit = None
        names = frozenset(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())
        card = card_of((folder / _README).read_text("utf-8", "replace")) if _README in names else Card()
    hub = Hub(label, name, folder, names, card, commit=commit, api=api)
    return _below(hub, base) if base else hub


def _below(hub: Hub, base: str) -> Hub:
    """The part of a repository below a folder, or around a file; the card's configurations do not fit it."""
    only = None
    if base in hub.names:
        base, _, only = base.rpartition("/")
    before = f"{base}/" if base else ""
    inner = frozenset(name[len(before) :] for name in hub.names if name.startswith(before))
    if not inner:
        raise InputError(f"--data {hub.label}: {hub.name} has no file or folder {base}")
    card = Card(hub.card.licence)
    return replace(hub, folder=hub.folder / base, names=inner, base=before, card=card, only=only)


class _OutOfReachError(Exception):
    """The hub cannot be reached."""


@contextmanager
def _explained(label: str) -> Iterator[None]:
    """What the hub's library raises, as a line that says what to do.

    Raises:
        InputError: the hub refused something.
        _OutOfReachError: it did not answer.
    """
    import httpx
    from huggingface_hub import errors

    parts = _NAME.fullmatch(label.removeprefix("hf:"))
    name, revision = (parts[1], parts[2]) if parts else (label, None)
    fix = "check the name, or set HF_TOKEN if it is not public"
    try:
        yield
    except errors.GatedRepoError:
        raise InputError(
            f"--data {label}: its conditions have to be accepted: "
            f"open https://huggingface.co/datasets/{name} in a browser, accept them there, "
            "and set HF_TOKEN to a token of that account"
        ) from None
    except errors.RevisionNotFoundError:
        raise InputError(
            f"--data {label}: has no revision {revision}: write a branch, tag or commit"
        ) from None
    except errors.RepositoryNotFoundError:
        raise InputError(f"--data {label}: the hub has no such data set: {fix}") from None
    except errors.HFValidationError as error:
        raise InputError(f"--data {label}: {_line(error)}") from None
    except errors.HfHubHTTPError as error:
        if error.response is not None and error.response.status_code in (401, 403):
            raise InputError(f"--data {label}: the hub refuses the token or its rights: {fix}") from None
        if error.response is not None and error.response.status_code < 500:
            raise InputError(f"--data {label}: {_line(error)}") from None
        raise _OutOfReachError(_line(error)) from None
    except (httpx.TransportError, ConnectionError, errors.LocalEntryNotFoundError) as error:
        raise _OutOfReachError(_line(error)) from None
    except OSError as error:
        raise InputError(f"--data {label}: {error.strerror or _line(error)}") from None


def _line(error: Exception) -> str:
    """The first line of a message, without the token."""
    token = find_key("HF_TOKEN", os.environ)
    return Redactor(token).text((str(error).strip().splitlines() or [type(error).__name__])[0])[:300]


def _downloaded_before(library: Any, name: str, revision: str, label: str, reason: str) -> Path:
    try:
        return Path(
            library.snapshot_download(name, repo_type="dataset", revision=revision, local_files_only=True)
        )
    except OSError as error:
        if (there := getattr(error, "snapshot_path", None)) is not None:
            return Path(there)
        raise InputError(
            f"--data {label}: the hub cannot be reached, and nothing of it was downloaded before: {reason}"
        ) from None


def read(text: str, config: str | None = None, split: str | None = None) -> Dataset:
    """The data set of a hub repository, or of a folder or file in it.

    Raises:
        InputError: the extra is missing, the repository is not available, or its format is not known.
    """
    hub = connected(text)
    return read_layout(hub, config, split)


def read_layout(repository: Repository, config: str | None, split: str | None) -> Dataset:
    """The data set of a repository: SafeMT's files, or those of a configuration and split.

    Raises:
        InputError: there are none, or their format is not known.
    """
    folder, names = repository.folder, repository.names
    plain = config is None and split is None and repository.only is None
    if plain and (turns := [name for name in names if safemt.is_turn_file(name)]):
        pictures = (name for name in sorted(names) if posixpath.basename(posixpath.dirname(name)) == "images")
        # The first one shows where the folder of the pictures is.
        repository.bring([*turns, *itertools.islice(pictures, 1)])
        found = safemt.read(folder, repository.pictures)
    else:
        files = chosen(repository, config, split)
        if not files:
            raise InputError(f"--data {repository.label}: no *_turn.json and no .parquet in it")
        repository.bring(files)
        lists = [file for name in files for file in _lists(folder / name)]
        records = itertools.chain.from_iterable(map(rows, lists))
        found = safemt.read_rows(repository.name, folder, records, repository.pictures)
    return replace(found, links_to=repository.links, licence=found.licence or repository.card.licence)


def read_by_map(
    mapped: Map, repository: Repository, given: Sequence[str], config: str | None, split: str | None
) -> Dataset:
    """The data set of a repository as a map says; a configuration or split stands in for the map's files.

    Raises:
        InputError: they are not there, or the map does not fit them.
    """
    from safemt_client.datasets.maps.reading import read_mapped

    source, lists = mapped.source, None
    if config or split or repository.only or not source.files:
        lists = chosen(repository, config or source.config, split or source.split)
        repository.bring(lists)
    else:
        repository.matching(source.files)
    if source.join is not None:
        repository.matching(source.join.files)
    files = None if lists is None else [file for name in lists for file in _lists(repository.folder / name)]
    found = read_mapped(mapped, repository.folder, given, files, repository.pictures)
    return replace(found, links_to=repository.links, licence=repository.card.licence or found.licence)


def _lists(path: Path) -> list[Path]:
    """The file itself, or the files of records in an archive."""
    if not is_archive(path.name):
        return [path]
    return next((files for top in roots(within(path)) if (files := open_files.data_files(top))), [])


READER = Reader("hf", "OWNER/NAME on the Hugging Face hub", read)
