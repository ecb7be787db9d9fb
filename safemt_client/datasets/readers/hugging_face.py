"""SafeMT from the Hugging Face hub; needs the `hf` extra."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from safemt_client.datasets.files import table_rows
from safemt_client.datasets.model import Dataset
from safemt_client.datasets.reader import Reader
from safemt_client.datasets.readers import safemt
from safemt_client.providers.errors import InputError

__all__ = ["READER", "read"]


def read(name: str) -> Dataset:
    """The data set of a hub repository, downloaded once into the hub's own cache.

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
    links = (folder.resolve().parents[1],)
    if safemt.find(folder):
        return replace(safemt.read(folder), links_to=links)
    rows = [
        (f"{path.name}: row {number}", row)
        for path in sorted(folder.rglob("*.parquet"))
        for number, row in table_rows(path)
    ]
    if not rows:
        raise InputError(f"--data hf:{name}: no *_turn.json and no .parquet in it")
    return replace(safemt.read_rows(name, folder, rows), links_to=links)


READER = Reader("hf", "OWNER/NAME on the Hugging Face hub", read)
