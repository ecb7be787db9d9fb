"""Whether the data of a run have changed since, pictures included, and what then tells two runs apart."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import astuple, dataclass
from typing import TYPE_CHECKING, Any

from safemt_client.datasets.model import Dataset
from safemt_client.planning.pictures import Pictures
from safemt_client.planning.resolved import Resolved
from safemt_client.planning.target import digest_of
from safemt_client.providers.errors import InputError
from safemt_client.settings import RunSettings

if TYPE_CHECKING:
    from safemt_client.results.store.store import Store

__all__ = ["Earlier", "check_pictures", "check_texts", "content_digest", "earlier_run", "told_apart"]


@dataclass(frozen=True, slots=True)
class Earlier:
    """The latest run of the same settings on the same data, by their place; `content` None is not known."""

    run_id: str
    digest: str
    content: str | None


def content_digest(dataset: Dataset, pictures: Pictures) -> str | None:
    """SHA-256 over the texts of a data set and the files of these pictures; None where none were looked at.

    A picture that cannot be sent enters as missing, whatever the reason is.
    """
    if not pictures.now:
        return None
    files = {
        path: None if isinstance(image, str) else pictures.files.get(path) or dataset.picture_digest(path)
        for path, image in pictures.now.items()
    }
    return digest_of([dataset.digest, sorted(files.items())])


def earlier_run(store: Store, dataset: Dataset, settings: RunSettings) -> Earlier | None:
    """The run that the same command has made, None if there is none."""
    runs = store.query(
        "SELECT run_id, dataset_digest, content_digest, settings FROM runs WHERE dataset_path = ? "
        "AND run_id NOT IN (SELECT run_id FROM run_targets WHERE imported_from IS NOT NULL) "
        "ORDER BY created_at DESC",
        [str(dataset.path)],
    ).rows
    return next(
        (
            Earlier(run_id, digest, content)
            for run_id, digest, content, kept in runs
            if settings.decide_as(json.loads(kept))
        ),
        None,
    )


def check_texts(before: Earlier, dataset: Dataset) -> None:
    """Refuse to continue a run whose texts have changed since.

    Raises:
        InputError: they have.
    """
    if before.digest != dataset.digest:
        raise InputError(
            f"{dataset.path}: the data has changed since run {before.run_id} (digest {before.digest[:12]}, "
            f"now {dataset.digest[:12]}): restore it, or pass --new-run to start another run"
        )


def check_pictures(
    before: Earlier, dataset: Dataset, content: str | None, pictures: Pictures, store: Store
) -> None:
    """Refuse to continue a run whose pictures have changed since; `content` is their digest now.

    Those of a run of an earlier version are not known.

    Raises:
        InputError: they have.
    """
    if before.content is None or content is None or before.content == content:
        return
    changed = _first_changed(pictures, store)
    raise InputError(
        f"{dataset.path}: the data has changed since run {before.run_id}: "
        f"{f'the picture {changed} is another one' if changed else 'its pictures are not the same'}: "
        "restore it, or pass --new-run to start another run"
    )


def _first_changed(pictures: Pictures, store: Store) -> str | None:
    """The path of a picture that was sent otherwise, if the store knows one."""
    sent: dict[str, set[str]] = {}
    for path, sha in store.query("SELECT path, sha256 FROM images").rows:
        sent.setdefault(path, set()).add(sha)
    return next(
        (
            repr(path)
            for path, image in sorted(pictures.now.items())
            if path in sent
            and path not in pictures.before
            and (isinstance(image, str) or image.sha256 not in sent[path])
        ),
        None,
    )


def told_apart(wanted: Resolved, store: Store | None, *, of_stored: bool = False) -> str | None:
    """What tells a run from another one in the store that plans the same texts; None if there is none.

    Those differ in the files of their pictures, or in how these are sent. A run of an earlier version, whose
    pictures are not known, is continued whatever they are, unless a stored run is judged (`of_stored`).
    """
    rows = (
        []
        if store is None
        else store.query("SELECT content_digest, settings FROM runs WHERE run_id = ?", [wanted.run_id]).rows
    )
    if not rows:
        return None
    content, kept = rows[0][0], json.loads(rows[0][1])
    same_files = content == wanted.data.content or (content is None and not of_stored)
    if same_files and _sent_as(kept) == _sent_as(wanted.settings):
        return None
    return digest_of([wanted.data.content, _sent_as(wanted.settings)])


def _sent_as(settings: Mapping[str, Any]) -> list[Any]:
    from safemt_client.datasets.images import Preparation

    return list(astuple(Preparation.of(settings)))
