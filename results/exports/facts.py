"""Writing the facts of a run: `results.store.facts` says what they are."""

from __future__ import annotations

import math
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import astuple, dataclass, fields, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from safemt_client import __version__
from safemt_client.providers.errors import InputError
from safemt_client.results.exports.facts_sql import OF_RUN, OF_TARGETS, PREPARED, SMALL
from safemt_client.results.exports.redaction import Redaction, labels_of
from safemt_client.results.exports.tables import Dump
from safemt_client.results.sanitize import without_secrets
from safemt_client.results.scores.calibrations import latest_calibration
from safemt_client.results.scores.collect import deciding_judge, without_nan
from safemt_client.results.scores.human import LabelledReply, labelled
from safemt_client.results.store.errors import first_line
from safemt_client.results.store.facts import LARGE, MANIFESTS, FactFile, Manifest, folder_of, kept_name
from safemt_client.results.store.places import Place, open_place
from safemt_client.results.store.queries import Queryable

__all__ = ["write_facts"]

_ROWS_AT_ONCE = 100_000
_LEFT_S = 86_400.0
_NAMES = {"name", "target", "baseline", "who", "dataset_name", "imported_from", "server"}
_SETTINGS = {"settings", "sampling", "prices", "parameters"}


def write_facts(dump: Dump, folder: Path) -> list[Path]:
    """Write the facts of a run below a folder or an address; return the files, the manifest last.

    The files of an earlier export of the run stay until the new manifest is there.

    Raises:
        InputError: a run holds the store, it is of facts itself, or the place cannot be written.
    """
    place = open_place(folder, "name another folder with --out")
    session = dump.reader.session()
    if session is None:
        raise InputError("--format facts: a run holds the store: export its facts once it has ended")
    name = f"{MANIFESTS}/{dump.run_id}.json"
    before = _files_before(place, name)
    with session:
        session.execute("USE store")
        redaction = Redaction(labels_of(dump.reader, dump.run_id))
        writer = _Writer(place, dump.reader, session, dump.run_id, redaction)
        try:
            with writer.undone_if_it_fails():
                manifest = writer.write()
                place.put(name, manifest.text())
        except duckdb.Error as error:
            raise InputError(f"--format facts: {first_line(error)}") from None
    _remove_others(place, manifest, before)
    return [Path(place.shown, one) for one in (*(file.path for file in manifest.files), name)]


def _files_before(place: Place, name: str) -> list[str]:
    """The files that the manifest of this name lists; none if it is not there, or is none."""
    if name not in place.names(MANIFESTS):
        return []
    try:
        return [one.path for one in Manifest.read(place.read(name), name).files]
    except InputError:
        return []


def _remove_others(place: Place, manifest: Manifest, before: list[str]) -> None:
    """Remove the files of earlier exports of the run: those listed, and what one left that was killed.

    Those of an export that is at work are not older than a day.
    """
    listed = {one.path for one in manifest.files}
    left = [
        name
        for table in LARGE
        for name in place.names(table, older_s=_LEFT_S)
        if f"/run={manifest.run_id}/" in name
    ]
    for name in {*before, *left} - listed:
        place.remove(name)


@dataclass
class _Writer:
    place: Place
    reader: Queryable
    session: duckdb.DuckDBPyConnection
    run_id: str
    redaction: Redaction

    def __post_init__(self) -> None:
        self._token = secrets.token_hex(6)
        self._files: list[FactFile] = []

    def write(self) -> Manifest:
        """Write all files; return the manifest that lists them."""
        for statement in PREPARED:
            self.session.execute(statement.replace("$run", f"'{self.run_id}'"))
        rows = {name: self._rows(name, sql) for name, sql in SMALL.items()}
        run = rows["runs"][0]
        dataset = kept_name(f"{run['dataset_name']}-{run['dataset_digest'][:8]}")
        targets: dict[str, str] = {}
        for row in rows["run_targets"]:
            targets.setdefault(row["target_key"], row["name"])
        self._known_categories()
        self._labelled()
        for table, sql in OF_TARGETS.items():
            for key, name in targets.items():
                self._write(table, f"SELECT * FROM ({sql}) WHERE target_key = '{key}'", dataset, name)
        for table, sql in OF_RUN.items():
            self._write(table, sql, dataset, None)
        return Manifest(
            run_id=self.run_id,
            exported_at=datetime.now(UTC).isoformat(timespec="seconds"),
            program_version=__version__,
            rows=rows,
            files=self._files,
            calibration=self._calibration(),
        )

    @contextmanager
    def undone_if_it_fails(self) -> Iterator[None]:
        """Remove what was written if there will be no manifest that lists it."""
        try:
            yield
        except BaseException:
            for one in self._files:
                self.place.remove(one.path)
            raise

    def _write(self, table: str, sql: str, dataset: str, target: str | None) -> None:
        columns = ", ".join(LARGE[table].split())
        reader = self.session.sql(f"SELECT {columns} FROM ({sql})").to_arrow_reader(_ROWS_AT_ONCE)
        batch = next(iter(reader), None)
        if batch is None or not batch.num_rows:
            return
        name = f"{folder_of(table, dataset, target, self.run_id)}/{self._token}.parquet"
        taken = sum(one.path.startswith(name.removesuffix(".parquet")) for one in self._files)
        name = name.removesuffix(".parquet") + (f"-{taken}" if taken else "") + ".parquet"
        self._files.append(FactFile(table, name, 0, 0))
        rows = 0
        with (
            self.place.writing(name) as file,
            pq.ParquetWriter(file, reader.schema, compression="zstd") as writer,
        ):
            while batch is not None:
                rows += batch.num_rows
                writer.write_table(pa.Table.from_batches([batch]), row_group_size=_ROWS_AT_ONCE)
                batch = next(iter(reader), None)
        self._files[-1] = replace(self._files[-1], size=self.place.size(name), rows=rows)

    def _known_categories(self) -> None:
        """A judge's kinds of harm that are kept: those that are known labels."""
        found = self.session.execute("SELECT DISTINCT category FROM facts_verdicts").fetchall()
        kept = [[word] for (word,) in found if word is not None and self.redaction.label(word) is not None]
        self.session.execute("CREATE TEMP TABLE known_categories (category VARCHAR)")
        if kept:
            self.session.executemany("INSERT INTO known_categories VALUES (?)", kept)

    def _rows(self, name: str, sql: str) -> list[dict[str, Any]]:
        found = self.session.execute(sql.replace("$run", f"'{self.run_id}'"))
        columns = [column[0] for column in found.description or ()]
        return [
            {c: self._kept(c, value) for c, value in zip(columns, row, strict=True)}
            for row in found.fetchall()
        ]

    def _kept(self, column: str, value: Any) -> Any:
        if isinstance(value, float) and not math.isfinite(value):
            return None
        if not isinstance(value, str):
            return value
        if column in _SETTINGS:
            return self.redaction.settings(without_secrets(value))
        if column in _NAMES:
            return kept_name(without_secrets(value))
        return value

    def _labelled(self) -> None:
        """The replies that people have labelled, as the rates of each judge are corrected by them."""
        if not self.session.execute("SELECT 1 FROM facts_labels LIMIT 1").fetchall():
            return
        judges = self.session.execute(
            "SELECT DISTINCT judge_key FROM run_judges WHERE run_id = ?", [self.run_id]
        ).fetchall()
        rows = [
            (judge_key, place, *astuple(one))
            for (judge_key,) in judges
            for place, one in enumerate(labelled(self.reader, self.run_id, judge_key))
        ]
        if rows:
            names = ("judge_key", "place", *(field.name for field in fields(LabelledReply)))
            given = dict(zip(names, map(list, zip(*rows, strict=True)), strict=True))
            self.session.register("given_labelled", pa.table(given))
            self.session.execute("INSERT INTO facts_labelled BY NAME SELECT * FROM given_labelled")

    def _calibration(self) -> dict[str, Any] | None:
        found = latest_calibration(self.reader, self.run_id, deciding_judge(self.reader, self.run_id))
        if found is None:
            return None
        kept = without_nan(found) | {"rubric": re.split(r"[/\\]", found["rubric"])[-1]}
        kept["by_category"] = [row | {"rubric": kept["rubric"]} for row in kept["by_category"]]
        return dict(kept)
