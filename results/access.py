"""A store that is open for reading: SQL, scores and reports as values."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

from safemt_client.results.scores.collect import latest_run
from safemt_client.results.scores.indices import ROUNDS
from safemt_client.results.scores.typed import Scores
from safemt_client.results.store.reader import Reader
from safemt_client.results.table import Table

__all__ = ["OpenStore", "Report", "StoredRun"]


class StoredRun(NamedTuple):
    """A run of a store. `last_event` is `started`, `finished` or `stopped`, `unknown` without one."""

    run: str
    created: datetime
    data: str
    targets: str | None
    judges: str | None
    dialogues: int
    last_event: str


class OpenStore:
    """A store that is open for reading, even during a run. Use as a context manager, or `close` it."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    def __enter__(self) -> OpenStore:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Release the file."""
        self._reader.close()

    def sql(
        self, query: str, parameters: Sequence[Any] | None = None, *, limit: int | None = None
    ) -> Table[tuple[Any, ...]]:
        """The rows of one read-only statement, at most `limit` of them; docs/sql.md has what it may ask.

        Raises:
            InputError: the statement is wrong or would change something.
            StoreHeldError: the run that held the store no longer answers.
        """
        found = self._reader.query(query, parameters, limit)
        return Table(found.columns, found.rows)

    def runs(self) -> Table[StoredRun]:
        """The runs of the store, the oldest first."""
        found = self._reader.query(
            """SELECT r.run_id AS run, r.created_at::TIMESTAMP(0) AS created, r.dataset_name AS data,
                      (SELECT string_agg(name || if(imported_from IS NULL, '', ' (imported)'), ', ')
                       FROM run_targets t
                       WHERE t.run_id = r.run_id) AS targets,
                      (SELECT string_agg(name, ', ') FROM run_judges j
                       WHERE j.run_id = r.run_id) AS judges,
                      (SELECT count(*) FROM run_dialogues d WHERE d.run_id = r.run_id) AS dialogues,
                      coalesce((SELECT arg_max(event, recorded_at) FROM run_events e
                                WHERE e.run_id = r.run_id),
                               'unknown') AS last_event
               FROM runs r ORDER BY r.created_at"""
        )
        return Table(found.columns, [StoredRun(*row) for row in found.rows])

    def scores(self, run: str | None = None, *, si_rounds: str | Sequence[int] = ROUNDS) -> Scores:
        """The scores of a run, by default the latest. The Safety Index is that over `si_rounds`.

        Raises:
            InputError: there is no such run, or `si_rounds` are not rounds of the reference.
        """
        return Scores(self._reader, latest_run(self._reader, run), si_rounds)

    def report(self, run: str | None = None, *, si_rounds: str | Sequence[int] = ROUNDS) -> Report:
        """The report of a run, by default the latest. The Safety Index is that over `si_rounds`.

        Raises:
            InputError: there is no such run, or `si_rounds` are not rounds of the reference.
        """
        return Report(self.scores(run, si_rounds=si_rounds).as_dict())


class Report:
    """The report of a run as it stood when it was asked for."""

    def __init__(self, found: dict[str, Any]) -> None:
        self._found = found

    def as_dict(self) -> dict[str, Any]:
        """All scores as JSON-able data: what `report --json` prints."""
        return self._found

    def html(self, path: str | Path) -> Path:
        """Write one HTML page with all plots in it.

        Raises:
            InputError: the file cannot be written, or the extra `report` is not installed.
        """
        return self._write("html", path)

    def markdown(self, path: str | Path) -> Path:
        """Write the tables and notes as Markdown.

        Raises:
            InputError: the file cannot be written.
        """
        return self._write("markdown", path)

    def latex(self, path: str | Path) -> Path:
        """Write the tables as LaTeX, to be read in by `\\input`.

        Raises:
            InputError: the file cannot be written.
        """
        return self._write("latex", path)

    def _write(self, form: str, path: str | Path) -> Path:
        # The forms are many modules: only where one is written.
        from safemt_client.results.report.write import write_pages

        return write_pages(self._found, {form: Path(path)})[0]
