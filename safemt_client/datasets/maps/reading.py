"""A data set read by a map: its files, their rows, and what no variant takes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from safemt_client.datasets import files
from safemt_client.datasets.files import shown
from safemt_client.datasets.gathering import Fetch, Gathered
from safemt_client.datasets.inside import matching, roots
from safemt_client.datasets.maps.apply import records_of, shapes_of
from safemt_client.datasets.maps.language import Format, Join, Map, Source
from safemt_client.datasets.maps.values import as_text, fill, listed, look_up
from safemt_client.datasets.model import Dataset, Oddity
from safemt_client.datasets.rows import rows
from safemt_client.datasets.tabular import csv_rows, parquet_rows
from safemt_client.providers.errors import InputError

__all__ = ["read_mapped", "values_of"]

_NOT_TAKEN = "row not taken"


def values_of(mapped: Map, given: Sequence[str]) -> dict[str, str]:
    """The map's values as rows have them, with those that the user gives as NAME=TEXT.

    Raises:
        InputError: one is missing, is not asked for, or has another form.
    """
    known = {**mapped.ask, **mapped.values}
    values = dict(mapped.values)
    for text in given:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise InputError(f"--data-value {shown(text)}: write NAME=TEXT")
        if name not in known:
            has = f"it has {', '.join(known)}" if known else "it has none"
            raise InputError(f"--data-value {shown(name)}: the map has no such value: {has}")
        values[name] = value
    if missing := [name for name in mapped.ask if name not in values]:
        raise InputError(
            f"--data-value is missing: the map {mapped.name} needs {missing[0]}=TEXT: "
            f"{mapped.ask[missing[0]]}"
        )
    return {f"${name}": value for name, value in values.items()}


def read_mapped(
    mapped: Map,
    path: Path,
    given: Sequence[str],
    lists: Sequence[Path] | None = None,
    fetch: Fetch | None = None,
) -> Dataset:
    """The data set of a folder, or of one file, as the map says. Pictures' paths are relative to the folder.

    `lists` are the files to read instead of those that the map names.

    Raises:
        InputError: a file is missing, or none of its rows makes a dialogue.
    """
    if not path.exists():
        raise InputError(f"{path}: no such file or folder: name the data that the map {mapped.name} is for")
    values = values_of(mapped, given)
    path = path if path.is_file() else _root(mapped, path)
    root = path if path.is_dir() else path.parent
    found = Gathered(root, fetch=fetch)
    notes = found.oddities
    partners = None if mapped.source.join is None else _partners(mapped.source.join, root)
    if lists is None:
        lists = [path] if path.is_file() else _files(mapped.source.files, root, "source.files")
    for file in lists:
        found.take(_records(mapped, file, values, partners, notes))
    skipped = sum(note.kind == _NOT_TAKEN for note in notes)
    if skipped and not found.dialogues:
        raise InputError(f"{path}: no variant of the map {mapped.name} takes any of its {skipped} rows")
    return found.dataset(mapped.name, path, mapped.licence)


def _root(mapped: Map, folder: Path) -> Path:
    """The folder itself, or in an archive the first of those around all of it that has the map's files."""
    first = mapped.source.files[:1]
    return next((place for place in roots(folder) if first and matching(place, first[0])), folder)


def _files(patterns: list[str], root: Path, key: str) -> list[Path]:
    """The files of the patterns, each of which must have some."""
    found: dict[Path, None] = {}
    for pattern in patterns:
        here = matching(root, pattern)
        if not here:
            raise InputError(f"{root}: has no {pattern} (key {key} of the map): name the folder that has it")
        found |= dict.fromkeys(here)
    return list(found)


def _records(
    mapped: Map,
    file: Path,
    values: Mapping[str, str],
    partners: Mapping[str, Any] | None,
    notes: list[Oddity],
) -> Iterator[tuple[str, Any]]:
    source, join = mapped.source, mapped.source.join
    shapes = shapes_of(mapped, file)
    for number, (where, row) in enumerate(_rows(file, source.format, source.records)):
        try:
            whole = {**_row(row, where), "_row": number, "_file": file.name.split(".")[0], **values}
            if join is not None and partners is not None:
                whole[join.into] = partners.get(fill(join.on, whole) or "")
            entries = list(_exploded(source, whole, where))
        except InputError as error:
            yield where, error
            continue
        for place, one in entries:
            try:
                made = records_of(mapped, shapes, one, place)
            except InputError as error:
                yield place, error
                continue
            yield from ((place, record) for record in made)
            if not made:
                notes.append(Oddity(_NOT_TAKEN, place, "no variant of the map takes it"))


def _row(row: Any, where: str) -> Mapping[str, Any]:
    if isinstance(row, InputError):
        raise row
    if isinstance(row, list):
        return {"_list": row}
    if not isinstance(row, dict):
        raise InputError(f"{where}: is not a JSON object")
    return row


def _exploded(source: Source, row: Mapping[str, Any], where: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    if source.explode is None:
        yield where, row
        return
    entries = listed(look_up(row, source.explode))
    if not isinstance(entries, list) or not entries:
        raise InputError(f"{where}: key source.explode: the row has no list in {shown(source.explode)}")
    for number, entry in enumerate(entries):
        yield f"{where}: {source.explode}[{number}]", {**row, "_item": entry, "_n": number}


def _rows(path: Path, form: Format | None, records: str | None) -> Iterator[tuple[str, Any]]:
    """The rows of a file; those of an object by its keys have these as `_key`."""
    if form is None and records is None:
        return rows(path)
    if form == "jsonl":
        files.check_size(path, files.MAX_FILE)
        return files.json_lines(path)
    if form == "csv":
        files.check_size(path)
        return csv_rows(path)
    if form == "parquet":
        return parquet_rows(path)
    files.check_size(path)
    return _of_document(path, records)


def _of_document(path: Path, records: str | None) -> Iterator[tuple[str, Any]]:
    document = files.json_document(path)
    if records is not None:
        document = look_up(document, records)
    if isinstance(document, dict) and document:
        for key, value in document.items():
            row = {**value, "_key": key} if isinstance(value, dict) else value
            yield f"{path}: record {shown(key)}", row
    elif isinstance(document, list):
        for number, value in enumerate(document):
            yield f"{path}: record {number}", value
    else:
        place = f" in {shown(records)} (key source.records of the map)" if records else ""
        raise InputError(f"{path}: has no list of records{place}")


def _partners(join: Join, root: Path) -> dict[str, Any]:
    """The rows of the other file by their key.

    Raises:
        InputError: a row has no key, or two have the same.
    """
    found: dict[str, Any] = {}
    others = _files(join.files, root, "source.join.files")
    for where, row in chain.from_iterable(_rows(file, join.format, join.records) for file in others):
        key = as_text(look_up(_row(row, where), join.key))
        if key is None:
            raise InputError(f"{where}: key source.join.key: the row has nothing in {shown(join.key)}")
        if key in found:
            raise InputError(f"{where}: key source.join.key: {shown(key)} occurs twice")
        found[key] = row
    return found
