"""What stands beside dialogues that this program wrote: the name and the licence of the data set."""

from __future__ import annotations

import json
from pathlib import Path

from safemt_client.datasets.files import MAX_FILE
from safemt_client.providers.errors import InputError
from safemt_client.results.files import whole_file

__all__ = ["about", "write_about"]

_FILE = "dataset_info.json"
_BY = "safemt_client"


def write_about(folder: Path, name: str, licence: str | None) -> None:
    """Say of the dialogues in a folder which data set they are of, and under which licence.

    Raises:
        InputError: it cannot be written.
    """
    content = {"dataset_name": name, "license": licence, "written_by": _BY}
    with whole_file(folder / _FILE, "choose another --out") as part:
        part.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def about(folder: Path) -> tuple[str, str | None] | None:
    """Name and licence that `write_about` wrote in this folder; None where it did not.

    Files of this name by other programs describe another form of the data, and are not asked.
    """
    file = folder / _FILE
    try:
        if not file.is_file() or file.stat().st_size > MAX_FILE // 512:
            return None
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    if not isinstance(content, dict) or content.get("written_by") != _BY:
        return None
    name, licence = content.get("dataset_name"), content.get("license")
    if not isinstance(name, str) or not (licence is None or isinstance(licence, str)):
        raise InputError(f"{file}: dataset_name and license must be strings: write the data again")
    return name, licence
