"""Data sets from the Hugging Face hub; needs the `hf` extra."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

from safemt_client.datasets.model import Dataset
from safemt_client.datasets.reader import Reader
from safemt_client.datasets.readers import safemt
from safemt_client.datasets.readers.open_files import data_files
from safemt_client.datasets.rows import rows
from safemt_client.providers.errors import InputError

__all__ = ["READER", "downloaded", "read"]


def downloaded(name: str) -> tuple[Path, tuple[Path, ...]]:
    """The folder of a hub repository, downloaded once into the hub's own cache, and where links in it lead.

    Raises:
        InputError: the extra is missing, or the repository is not available.
    """
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HfHubHTTPError
    except ImportError:
        raise InputError("--data hf:...: needs an extra: pip install 'safemt-client[hf]'") from None
    try:
        folder = Path(snapshot_download(name, repo_type="dataset"))
    except (HfHubHTTPError, OSError, ValueError) as error:
        raise InputError(f"--data hf:{name}: {str(error).splitlines()[0]}") from None
    # The hub's cache keeps the files elsewhere in the repository's folder, and links to them.
    return folder, (folder.resolve().parents[1],)


def read(name: str) -> Dataset:
    """The data set of a hub repository.

    Raises:
        InputError: the extra is missing, the repository is not available, or its format is not known.
    """
    folder, links = downloaded(name)
    if safemt.find(folder):
        return replace(safemt.read(folder), links_to=links)
    tables = sorted(folder.rglob("*.parquet")) or data_files(folder)
    if not tables:
        raise InputError(f"--data hf:{name}: no *_turn.json and no .parquet in it")
    records = itertools.chain.from_iterable(map(rows, tables))
    return replace(safemt.read_rows(name, folder, records), links_to=links)


READER = Reader("hf", "OWNER/NAME on the Hugging Face hub", read)
