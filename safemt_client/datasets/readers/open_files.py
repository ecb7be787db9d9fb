"""The open form for your own dialogues, and forms like it: a file, or a folder of them. See docs/data.md."""

from __future__ import annotations

from pathlib import Path

from safemt_client.datasets.about import about
from safemt_client.datasets.gathering import Gathered
from safemt_client.datasets.hub_layout import ABOUT
from safemt_client.datasets.inside import within
from safemt_client.datasets.model import Dataset
from safemt_client.datasets.reader import LAST, Reader
from safemt_client.datasets.rows import FORMS, is_data, rows

__all__ = ["READER", "data_files", "read"]


def data_files(folder: Path) -> list[Path]:
    """The files of records in a folder, or else in its folder `data`."""
    for place in (folder, folder / "data", folder / "Data"):
        found = sorted(
            path
            for path in place.glob("*")
            if is_data(path) and path.stem.lower() not in ABOUT and path.is_file()
        )
        if found:
            return found
    return []


def read(path: Path) -> Dataset:
    """The data set of a file or of a folder's files; image paths are relative to its folder."""
    files = data_files(path) if path.is_dir() else [path]
    folders = dict.fromkeys((files[0].parent, *((path,) if path.is_dir() else ())))
    found = Gathered(*folders)
    for file in files:
        found.take(rows(file))
    written = about(path) if path.is_dir() else None
    name, licence = written or (path.name.split(".")[0] or path.resolve().name, None)
    return found.dataset(name, path, licence)


READER = Reader(
    "jsonl",
    f"a file ({', '.join(FORMS)}, also .gz) or a folder of such files",
    lambda source: read(within(Path(source))),
    lambda path: bool(data_files(path)) if path.is_dir() else is_data(path),
    rank=LAST,
)
