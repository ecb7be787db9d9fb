"""Read files and write what they say into a store."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pyarrow

from safemt_client.datasets import open_dataset
from safemt_client.datasets.model import Dataset
from safemt_client.importing.formats import inspect, reference, tables
from safemt_client.importing.found import Asked, Found
from safemt_client.importing.joining import joined
from safemt_client.importing.placing import placed
from safemt_client.importing.spool import Spool
from safemt_client.importing.writing import Imported, save
from safemt_client.providers.errors import InputError
from safemt_client.results.store.batches import ROW_GROUP
from safemt_client.results.store.place import check_place
from safemt_client.results.store.store import Store

__all__ = ["FORMATS", "Data", "import_files"]

FORMATS = ("reference", "inspect", "csv", "jsonl")
_ENDINGS = {
    ".eval": "inspect",
    ".csv": "csv",
    ".tsv": "csv",
    ".parquet": "csv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
}


@dataclass(frozen=True)
class Data:
    """The data set that the replies are about, as `--data` and its flags name it.

    With `only_matching` records that are not in it are left out, else they are refused.
    """

    spec: str
    follow_links: bool = False
    data_map: str | None = None
    values: Sequence[str] = ()
    only_matching: bool = False
    config: str | None = None
    split: str | None = None

    def opened(self) -> Dataset:
        """The data set."""
        return open_dataset(
            self.spec,
            follow_links=self.follow_links,
            data_map=self.data_map,
            values=self.values,
            config=self.config,
            split=self.split,
        )


def import_files(
    paths: Sequence[Path],
    asked: Asked,
    db: Path,
    *,
    form: str | None = None,
    data: Data | None = None,
    new_run: bool = False,
) -> Imported:
    """Import replies and labels of one target. `form` is one of `FORMATS`, by default what the names say.

    Everything is read and checked before a store is opened or made.

    Raises:
        InputError: a file or a setting is wrong, or the store has another version of the replies.
        StoreError: the store cannot be written.
    """
    check_place(db)
    if not asked.target.strip():
        raise InputError("--target: name the model that has answered")
    for path in paths:
        if not path.exists():
            raise InputError(f"{path}: no such file or folder: name what is to be imported")
    with _frugal(), Spool() as spool:
        found = _read(form or _form_of(paths), paths, asked, spool)
        replies = joined(spool, found.model)
        dataset = None if data is None else data.opened()
        places = placed(found, replies, dataset, only_matching=data is not None and data.only_matching)
        with Store.open(db, command="import", group_bytes=spool.most_bytes(ROW_GROUP)) as store:
            return save(store, found, places, asked, new_run=new_run)


@contextmanager
def _frugal() -> Iterator[None]:
    """Have Arrow give back at once what it no longer needs: its usual pool keeps some of it."""
    usual = pyarrow.default_memory_pool()
    pyarrow.set_memory_pool(pyarrow.system_memory_pool())
    try:
        yield
    finally:
        pyarrow.set_memory_pool(usual)


def _form_of(paths: Sequence[Path]) -> str:
    forms = {_form(path) for path in paths}
    if len(forms) > 1:
        raise InputError(f"{paths[0]}: the files are of several formats: import each by itself")
    return forms.pop()


def _form(path: Path) -> str:
    if path.is_dir():
        return "inspect" if next(path.glob("*.eval"), None) is not None else "reference"
    name = path.with_suffix("") if path.suffix.lower() == ".gz" else path
    return _ENDINGS.get(name.suffix.lower(), "reference")


def _read(form: str, paths: Sequence[Path], asked: Asked, spool: Spool) -> Found:
    if form == "reference":
        return reference.read(paths, asked, spool)
    if form == "inspect":
        return inspect.read(paths, asked, spool)
    if form in FORMATS:
        return tables.read(paths, asked, form, spool)
    raise InputError(f"--format {form}: no such format; choose one of {', '.join(FORMATS)}")
