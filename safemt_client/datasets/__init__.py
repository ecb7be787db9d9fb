"""Data sets: `open_dataset` finds the reader for the value of `--data`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from safemt_client.datasets.decoding import foreign
from safemt_client.datasets.files import shown
from safemt_client.datasets.hub_layout import Repository, has_configs, licence_of, local
from safemt_client.datasets.inside import archives_in, roots, within
from safemt_client.datasets.model import Dataset
from safemt_client.datasets.reader import LAST, Reader
from safemt_client.datasets.readers import READERS, hugging_face
from safemt_client.providers.errors import InputError
from safemt_client.providers.plugins import Plugin, find, plugins, say_hidden

__all__ = ["open_dataset"]


def open_dataset(
    spec: str,
    *,
    follow_links: bool = False,
    lenient: bool = False,
    data_map: str | None = None,
    values: Sequence[str] = (),
    config: str | None = None,
    split: str | None = None,
) -> Dataset:
    """The data set that `--data` names.

    `sample` is the bundled benign one; `NAME:...` selects the reader of this name, such as `hf:OWNER/NAME`
    for the Hugging Face hub; a file or folder is read by the first reader that recognises its format. With
    `follow_links` links in it may lead anywhere; otherwise images behind links that leave it are not sent.
    If `lenient`, records that cannot be used are described in `Dataset.refused`, and the others are kept.
    With `data_map`, the name or file of a map, the data are read as it says, with `values` of NAME=TEXT.
    `config` and `split` choose among the files of a data set on the hub, or of a folder of the same layout.

    Raises:
        InputError: it does not exist, or its format or the map is wrong.
    """
    if data_map is None and values:
        raise InputError("--data-value: is for a map: add --data-map")
    try:
        found = (
            _open(spec, config, split) if data_map is None else _mapped(data_map, spec, values, config, split)
        )
    except OSError as error:
        raise InputError(f"--data {shown(spec)}: {error.strerror}") from None
    if found.refused and not (lenient and (found.dialogues or found.refused_count > 1)):
        more = found.refused_count - 1
        raise InputError(found.refused[0] + (f" ({more:,} more: data check lists them)" if more else ""))
    found = replace(found, licence=found.licence or licence_of(within(Path(spec))))
    return replace(found, links_to=(Path("/"),)) if follow_links else found


def _mapped(name: str, spec: str, values: Sequence[str], config: str | None, split: str | None) -> Dataset:
    # Few runs need the language of maps, and none of the others waits for it.
    from safemt_client.datasets.maps.language import open_map
    from safemt_client.datasets.maps.reading import read_mapped

    mapped = open_map(name)
    if spec.startswith("hf:"):
        hub = hugging_face.connected(spec.removeprefix("hf:"))
        return hugging_face.read_by_map(mapped, hub, values, config, split)
    if config or split or not mapped.source.files:
        return hugging_face.read_by_map(mapped, _local(spec), values, config, split)
    return read_mapped(mapped, within(Path(spec)), values)


def _local(spec: str) -> Repository:
    folder = within(Path(spec))
    if not folder.is_dir():
        raise InputError(f"{spec}: no folder: a config and a split are of a folder in the hub's layout")
    return local(folder)


def _open(spec: str, config: str | None = None, split: str | None = None) -> Dataset:
    name, colon, rest = spec.partition(":")
    if name == "hf" and colon:
        say_hidden("datasets", name)
        return hugging_face.read(rest, config, split)
    if config or split:
        return hugging_face.read_layout(_local(spec), config, split)
    if colon and (named := next((reader for reader in READERS if reader.name == name), None)) is not None:
        say_hidden("datasets", name)
        return named.read(rest)
    if colon and (plugin := find("datasets", name)) is not None:
        return _read(plugin, _reader(plugin), rest)
    path = within(Path(__file__).resolve().parent / "sample" if spec == "sample" else Path(spec))
    if not path.is_dir() and not path.is_file():
        raise InputError(f"{path}: no such file or folder: name a file of dialogues, a folder, or 'sample'")
    path = next((place for place in roots(path) if _own(place) is not None), path)
    own = _own(path)
    if own is not None and (own.rank < LAST or path.suffix == ".jsonl"):
        return own.read(str(path))
    if path.is_dir() and has_configs(path):
        return hugging_face.read_layout(local(path), None, None)
    by_plugin, broken = _by_plugin(path)
    if by_plugin is not None:
        return by_plugin
    if own is not None:
        return own.read(str(path))
    if path.is_dir() and len(archives := archives_in(path)) == 1:
        return _open(str(archives[0]))
    if path.is_file() and (other := foreign(_head(path))) is not None:
        raise InputError(f"{path}: {other}")
    known = _forms(READERS)
    raise InputError(
        f"{path}: no reader recognises this format: name {known}" + "".join(f"; {one}" for one in broken)
    )


def _own(path: Path) -> Reader | None:
    return next((reader for reader in READERS if reader.detect is not None and reader.detect(path)), None)


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(64)


def _by_plugin(path: Path) -> tuple[Dataset | None, list[str]]:
    """The data set, read by the first plug-in that recognises its format; and what is wrong with others."""
    broken = []
    for plugin in plugins("datasets"):
        try:
            reader = _reader(plugin)
            with plugin.blamed():
                fits = reader.detect is not None and reader.detect(path)
        except InputError as error:
            broken.append(str(error))
            continue
        if fits:
            return _read(plugin, reader, str(path)), broken
    return None, broken


def _forms(readers: Iterable[Reader]) -> str:
    return ", or ".join(reader.form for reader in readers if reader.detect is not None)


def _reader(plugin: Plugin) -> Reader:
    reader = plugin.load()
    if not isinstance(reader, Reader):
        raise InputError(f"{plugin}: is not a safemt_client.datasets.reader.Reader")
    return reader


def _read(plugin: Plugin, reader: Reader, source: str) -> Dataset:
    with plugin.blamed():
        dataset = reader.read(source)
    if not isinstance(dataset, Dataset):
        raise InputError(f"{plugin}: returned {type(dataset).__name__} instead of a Dataset")
    return dataset
