"""Import as a call: what the command `import` does, for programs and for the command line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from safemt_client.importing.found import Asked, Labels
from safemt_client.importing.run import Data, import_files
from safemt_client.importing.writing import Imported
from safemt_client.providers.errors import InputError

__all__ = ["import_results"]


def import_results(
    files: str | Path | Sequence[str | Path],
    target: str,
    db: str | Path = "safemt.duckdb",
    *,
    format: str | None = None,
    data: str | Path | None = None,
    data_map: str | None = None,
    data_value: str | Sequence[str] | None = None,
    data_config: str | None = None,
    data_split: str | None = None,
    follow_links: bool = False,
    only_matching: bool = False,
    label_by: str | None = None,
    labels_by_people: str | None = None,
    safe: str | Sequence[str] = (),
    unsafe: str | Sequence[str] = (),
    fields: Mapping[str, str] | None = None,
    new_run: bool = False,
) -> Imported:
    """Import replies and labels that were made elsewhere as runs of a store; nothing is asked.

    `target` is the model that has answered. The keywords are the options of the command `import`
    (docs/importing.md); `fields` maps `id`, `turns`, `reply`, ... to the names in the files. The result has
    the ids of the `runs`, of which the last is that of the judge that decides, and what was read.

    Raises:
        InputError: a file or a setting is wrong, or the store has another version of the replies.
        StoreError: the store cannot be written; nothing of the import is in it.
    """
    labels = Labels(_words("safe", safe), _words("unsafe", unsafe))
    if twice := {word.lower() for word in labels.safe} & {word.lower() for word in labels.unsafe}:
        raise InputError(f"--safe {sorted(twice)[0]}: is also named by --unsafe: leave one out")
    if label_by is not None and labels_by_people is not None:
        raise InputError("--label-by, --labels-by-people: labels are of a judge or of a person: name one")
    about = {
        "data-map": data_map,
        "data-value": data_value,
        "data-config": data_config,
        "data-split": data_split,
        "follow-links": follow_links,
        "only-matching": only_matching,
    }
    if data is None and (given := [name for name, value in about.items() if value]):
        raise InputError(f"--{given[0]}: is about the data: name them with --data")
    asked = Asked(target, labels, dict(fields or {}), label_by, labels_by_people)
    of_data = None
    if data is not None:
        values = _list(data_value or ())
        of_data = Data(
            str(data), bool(follow_links), data_map, values, only_matching, data_config, data_split
        )
    paths = [Path(files)] if isinstance(files, str | Path) else [Path(file) for file in files]
    if not paths:
        raise InputError("files: are none: name what is to be imported")
    return import_files(paths, asked, Path(db), form=format, data=of_data, new_run=new_run)


def _words(name: str, given: str | Sequence[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys((name, *_list(given))))


def _list(given: str | Sequence[str]) -> Sequence[str]:
    return (given,) if isinstance(given, str) else given
