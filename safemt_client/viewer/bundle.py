"""A run as a folder of pages that need no server: results, lists, conversations and pictures."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb

from safemt_client import __version__
from safemt_client.providers.errors import InputError
from safemt_client.results.exports.redaction import Redaction, labels_of
from safemt_client.results.files import whole_folder
from safemt_client.results.sanitize import without_secrets
from safemt_client.results.scores.collect import latest_run
from safemt_client.results.store.handing import hand_over
from safemt_client.results.store.inbox import Said, waiting
from safemt_client.results.store.rows import HumanLabelRow
from safemt_client.viewer.cleaned import Cleaned
from safemt_client.viewer.conversation import Conversation, Key, load_many
from safemt_client.viewer.conversation_page import shown_of
from safemt_client.viewer.desk import people_of
from safemt_client.viewer.filed import PAGE, Contents, Listed
from safemt_client.viewer.filters import CHANGES, SCENARIO, Filters
from safemt_client.viewer.folder import Folder
from safemt_client.viewer.matrix import ORDERS, matrix_in, of_one_condition
from safemt_client.viewer.pictures import Pictures
from safemt_client.viewer.queries import Listing, Queries, dicts
from safemt_client.viewer.results import RunResults
from safemt_client.viewer.results_page import page_of
from safemt_client.viewer.snapshot import Snapshot
from safemt_client.viewer.wanted import Wanted

__all__ = ["MARK", "export_pages"]

MARK = "safemt-export.json"
"""The file by which a folder is known to be an export, which another one may replace."""
_AT_ONCE = 500
_PREVIEW = 240
Row = dict[str, Any]


def export_pages(db: Path, folder: Path, wanted: Wanted, tell: Callable[[str], None]) -> Row:
    """Write the pages; return what was written: conversations, pictures, pictures_missing, files and bytes.

    `tell` gets how far it is, now and then.

    Raises:
        InputError: the store cannot be read, it has no such run, nothing matches, or the folder is taken.
    """
    fix = "name another folder with --export, or replace an earlier export with --overwrite"
    hand_over(db)
    with whole_folder(folder, fix, MARK if wanted.overwrite else None) as part:
        snapshot = Snapshot(db)
        snapshot.refresh(wait=True)
        queries = Queries(snapshot)
        try:
            with queries.reader() as reader:
                run_id = latest_run(reader, wanted.run or wanted.filters.run or None)
                redaction = Redaction(labels_of(reader, run_id)) if wanted.redact else None
            export = _Export(queries, run_id, part, wanted, Cleaned(redaction), tell)
            return export.write(waiting(db))
        finally:
            queries.close()


class _Export:
    """One export: each page is written as soon as what it shows has been read."""

    # 6 parameters
    def __init__(
        self,
        queries: Queries,
        run_id: str,
        folder: Path,
        wanted: Wanted,
        cleaned: Cleaned,
        tell: Callable[[str], None],
    ) -> None:
        self._queries = queries
        self._wanted = wanted
        self._cleaned = cleaned
        self._tell = tell
        run = queries.run(run_id)
        if run is None:
            raise InputError(f"no run {run_id!r} in this store")
        self._run = cleaned.row(run)
        self._filters = Filters(run=run_id)
        self._contents = Contents()
        self._pictures = Pictures(queries)
        self._comments: dict[tuple[str, str], list[Row]] = defaultdict(list)
        self._keys: list[Key] = []
        self._of_dialogue: dict[tuple[str, int], list[tuple[int, str, str]]] = defaultdict(list)
        self._paired_with: dict[int, list[int]] = defaultdict(list)
        """The conversations that one is compared with on their pages."""
        self._previews: dict[int, str] = {}
        """Of the conversations that a guard has changed: they are in two lists."""
        self._to = Folder(folder, self._contents, redacted=wanted.redact)

    def write(self, said: Sequence[Said]) -> Row:
        """All of it. `said` waits for the store: its comments are among the others."""
        self._find_comments(said)
        with self._queries.narrowed(self._wanted_filters()) as (cursor, where, values, _):
            self._choose(cursor, where, values)
            self._plan(cursor)
            self._to.static()
            self._write_results()
            self._write_items(cursor)
            self._write_conversations(cursor)
            self._write_changed(cursor)
        missing = sum(name is None for name in self._contents.pictures.values())
        found = {
            "run": self._run["run_id"],
            "redacted": self._wanted.redact,
            "conversations": len(self._contents.conversations),
            "pictures": len(self._contents.pictures) - missing,
            "pictures_missing": missing,
            "files": self._to.files + 1,
            "bytes": self._to.bytes,
        }
        made_by = {"made_by": f"safemt view --export, {__version__}"}
        self._to.put(MARK, (json.dumps(made_by | found) + "\n").encode())
        return found

    def _find_comments(self, said: Sequence[Said]) -> None:
        with people_of(self._queries.snapshot, said) as people:
            rows = people.dicts("SELECT * FROM current_comments ORDER BY recorded_at, comment_id")
        for row in rows:
            shown = self._cleaned.row(row) | {"text": self._cleaned.text(row["text"])}
            self._comments[row["target_key"], row["dialogue_key"]].append(shown)
        if labels := sum(isinstance(row, HumanLabelRow) for row in said):
            self._to.about += f"; labels of people that wait for the store are not here: {labels:,}"

    def _wanted_filters(self) -> Filters:
        values = {name: getattr(self._wanted.filters, name) for name in Filters.__dataclass_fields__}
        return Filters(**(values | {"run": self._filters.run}))

    def _choose(self, cursor: duckdb.DuckDBPyConnection, where: str, values: list[Any]) -> None:
        """Number the conversations: those of one list one after another, its scenarios together."""
        some = ""
        if self._wanted.items is not None:
            some = (
                "WHERE item_id IN (SELECT DISTINCT item_id FROM matching ORDER BY item_id LIMIT "
                f"{int(self._wanted.items)})"
            )
        cursor.execute(
            f"""CREATE OR REPLACE TEMP TABLE chosen AS
                WITH matching AS (SELECT * FROM conversation_index WHERE {where})
                SELECT row_number() OVER (
                           ORDER BY target, target_key, length, verdict, in_words,
                                    item_id, dialogue_key, sample
                       ) - 1 AS n, *
                FROM (SELECT *, coalesce(label, 'none') AS verdict, coalesce({SCENARIO}, '') AS in_words
                      FROM matching {some})""",
            values,
        )

    def _plan(self, cursor: duckdb.DuckDBPyConnection) -> None:
        """Find out which pages there will be, so that every page knows where to lead."""
        contents = self._contents
        for target, length, verdict, count, first in cursor.execute(
            "SELECT target_key, length, verdict, count(*), min(n) FROM chosen GROUP BY ALL ORDER BY 5"
        ).fetchall():
            filters = Filters(run=self._filters.run, target=target, length=str(length), verdict=verdict)
            self._add(filters, count, first)
        if not contents.lists:
            raise InputError("--filter: no conversation of this run matches")
        for change, condition in CHANGES.items():
            for target, count in cursor.execute(
                f"SELECT target_key, count(*) FROM chosen WHERE {condition} GROUP BY 1 ORDER BY 1"
            ).fetchall():
                self._add(Filters(run=self._filters.run, target=target, change=change), count, None)
            for (number,) in cursor.execute(f"SELECT n FROM chosen WHERE {condition}").fetchall():
                self._previews[number] = ""
        firsts = {listed.first: listed for listed in contents.lists.values() if listed.first is not None}
        for first, scenario, at in cursor.execute(
            """SELECT min(min(n)) OVER (PARTITION BY target_key, length, verdict), in_words, min(n)
               FROM chosen GROUP BY target_key, length, verdict, in_words"""
        ).fetchall():
            contents.scenarios[firsts[first].number, scenario] = at - first
        for number, target, dialogue, sample, name, label in cursor.execute(
            "SELECT n, target_key, dialogue_key, sample, target, coalesce(label, state) "
            "FROM chosen ORDER BY n"
        ).fetchall():
            key = (target, dialogue, sample)
            self._keys.append(key)
            contents.conversations[key] = number
            self._of_dialogue[dialogue, sample].append((number, without_secrets(name), label))
        self._pair(cursor)

    def _pair(self, cursor: duckdb.DuckDBPyConnection) -> None:
        """Compare a guarded target with the model alone, and the targets of a run that has only two."""
        for number, other in cursor.execute(
            """SELECT a.n, min(b.n) FROM chosen a
               JOIN chosen b ON b.dialogue_key = a.dialogue_key AND b.sample = a.sample
               WHERE EXISTS (FROM baselines x WHERE x.run_id = a.run_id AND x.target_key = a.target_key
                                                AND x.baseline_key = b.target_key)
                  OR ((SELECT count(DISTINCT target_key) FROM chosen) = 2 AND a.n < b.n
                      AND a.target_key NOT IN (SELECT baseline_key FROM baselines x
                                               WHERE x.run_id = a.run_id AND baseline_key IS NOT NULL))
               GROUP BY a.n ORDER BY a.n"""
        ).fetchall():
            self._contents.pairs[number] = other
            self._paired_with[other].append(number)

    def _add(self, filters: Filters, count: int, first: int | None) -> None:
        key = (filters.target, filters.length, filters.verdict, filters.change)
        self._contents.lists[key] = Listed(len(self._contents.lists), filters, count, first)

    def _write_results(self) -> None:
        found = self._cleaned.results(RunResults(self._queries).of(self._filters.run))
        self._contents.results = {key: number for number, (key, _) in enumerate(found.targets)}
        for path, wanted in [
            ("index.html", []),
            *((f"results/{number:03}.html", [key]) for key, number in self._contents.results.items()),
        ]:
            shown = page_of(found, self._filters, wanted, self._to.link(path))
            self._to.page(path, "results.html", run=self._run, filters=self._filters, found=found, **shown)
        names = dict(found.targets) or {key[0]: key[0] for key in self._contents.lists}
        self._to.page(
            "conversations.html",
            "lists.html",
            run=self._run,
            filters=self._filters,
            lists=self._contents.lists.values(),
            names=names,
            changes=[listed for listed in self._contents.lists.values() if listed.first is None],
            narrowed=self._wanted_filters().query(run=None) if self._wanted.filters.narrowed else "",
            items=self._wanted.items,
        )

    def _write_items(self, cursor: duckdb.DuckDBPyConnection) -> None:
        """The items by targets, in each of their orders."""
        choices = self._queries.choices(self._filters.run)
        of_one = of_one_condition(self._wanted_filters(), choices)
        source, values = "chosen WHERE true", []
        if of_one.condition:
            source, values = "chosen WHERE coalesce(condition, 'original') = ?", [of_one.condition]
        here = {target for target, _, _ in self._keys}
        targets = [(key, without_secrets(name)) for key, name in choices.target if key in here]
        for order in ORDERS:
            filters = replace(self._filters, sort="" if order == "item" else order)
            page = pages = 1
            while page <= pages:
                found = matrix_in(cursor, source, values, targets, filters, page)
                rows = [
                    replace(row, **self._cleaned.row({"item_id": row.item_id, "scenario": row.scenario}))
                    for row in found.rows
                ]
                path = self._contents.items(filters.sort, page)
                shown = replace(found, rows=rows)
                self._to.page(path, "matrix.html", run=self._run, filters=filters, matrix=shown)
                page, pages = page + 1, found.pages

    def _write_conversations(self, cursor: duckdb.DuckDBPyConnection) -> None:
        total = len(self._contents.conversations)
        held: list[Row] = []
        lists = iter([one for one in self._contents.lists.values() if one.first is not None])
        listed, page = next(lists), 1
        for start in range(0, total, _AT_ONCE):
            rows = dicts(
                cursor.execute(
                    "SELECT * EXCLUDE (verdict, in_words) FROM chosen WHERE n >= ? AND n < ? ORDER BY n",
                    [start, start + _AT_ONCE],
                )
            )
            keys = [(row["target_key"], row["dialogue_key"], row["sample"]) for row in rows]
            others = [self._keys[other] for row in rows if (other := self._other(row)) is not None]
            found = load_many(self._queries, self._filters.run, list(dict.fromkeys((*keys, *others))))
            self._find_pictures(list(found.values()))
            for row, key in zip(rows, keys, strict=True):
                one = found[key]
                row["preview"] = "" if self._wanted.redact else _beginning(one, row["request_hash"])
                if row["n"] in self._previews:
                    self._previews[row["n"]] = row["preview"]
                row["at"] = row["n"] - (listed.first or 0)
                self._write_conversation(listed, row, one)
                if (other := self._other(row)) is not None:
                    self._write_conversation(listed, row, one, found[self._keys[other]])
                held.append(row)
                ended = row["at"] + 1 == listed.count
                if ended or len(held) == PAGE:
                    self._write_list(listed, page, held)
                    held, page = [], page + 1
                if ended:
                    listed, page = next(lists, listed), 1
            self._tell(f"{rows[-1]['n'] + 1:,} of {total:,} conversations")

    def _write_list(self, listed: Listed, page: int, rows: list[Row]) -> None:
        rows = [self._cleaned.row(row) | {"preview": row["preview"]} for row in rows]
        self._to.page(
            listed.path(page),
            "run.html",
            run=self._run,
            filters=listed.filters,
            listing=Listing(rows, listed.count, page, listed.pages),
        )

    def _write_changed(self, cursor: duckdb.DuckDBPyConnection) -> None:
        for listed in [one for one in self._contents.lists.values() if one.first is None]:
            for page in range(1, listed.pages + 1):
                rows = dicts(
                    cursor.execute(
                        f"SELECT * FROM chosen WHERE target_key = ? AND ({CHANGES[listed.filters.change]}) "
                        "ORDER BY n LIMIT ? OFFSET ?",
                        [listed.filters.target, PAGE, (page - 1) * PAGE],
                    )
                )
                for place, row in enumerate(rows):
                    row |= {"preview": self._previews[row["n"]], "at": (page - 1) * PAGE + place}
                self._write_list(listed, page, rows)

    def _other(self, row: Row) -> int | None:
        """The number of the conversation that this one is compared with."""
        return self._contents.pairs.get(row["n"])

    def _write_conversation(
        self, listed: Listed, row: Row, one: Conversation, other: Conversation | None = None
    ) -> None:
        """The page of a conversation, or that of it beside another one."""
        contents, at = self._contents, row["at"]
        number: int = row["n"]
        path = contents.conversation(number) if other is None else contents.compared(number)
        up = "../" * path.count("/")
        beside = "" if other is None else other.head["target_key"]

        def address(**changes: Any) -> str:
            """Of another conversation, by its keys; beside another one, where that has a page."""
            target = str(changes.get("t", row["target_key"]))
            dialogue = str(changes.get("d", row["dialogue_key"]))
            sample = int(changes.get("sample", row["sample"]) or 1)
            where = contents.conversations.get((target, dialogue, sample), number)
            two = changes.get("beside", beside) and where in contents.pairs
            return up + (contents.compared(where) if two else contents.conversation(where))

        found = self._cleaned.conversation(one)
        self._to.page(
            path,
            "conversation.html",
            **shown_of(
                found,
                None if other is None else self._cleaned.conversation(other),
                full=True,
                q="" if self._wanted.redact else self._wanted.filters.q,
            ),
            kept={},
            filters=listed.filters,
            beside=beside,
            at=at,
            around={
                "before": self._place(number - 1, at - 1) if at else None,
                "after": self._place(number + 1, at + 1) if at + 1 < listed.count else None,
            },
            targets=self._others(row),
            pairs=self._pairs_of(row, up) if other is None else [],
            comments=self._comments.get((row["target_key"], row["dialogue_key"]), []),
            annotator="",
            address=address,
        )

    def _pairs_of(self, row: Row, up: str) -> list[tuple[str, str]]:
        """The pages on which the conversation stands beside another: the other's target, and the address."""
        names = {number: name for number, name, _ in self._of_dialogue[row["dialogue_key"], row["sample"]]}
        pages = [(self._other(row), row["n"]), *((one, one) for one in self._paired_with[row["n"]])]
        return [
            (names[other], up + self._contents.compared(page)) for other, page in pages if other is not None
        ]

    def _place(self, number: int, at: int) -> Row:
        return dict(zip(("target_key", "dialogue_key", "sample"), self._keys[number], strict=True)) | {
            "at": at
        }

    def _others(self, row: Row) -> list[Row]:
        """The conversations of the same dialogue under the other targets."""
        return [
            {"target_key": self._keys[number][0], "target": name, "label": label, "alone": False}
            for number, name, label in self._of_dialogue[row["dialogue_key"], row["sample"]]
            if number != row["n"]
        ]

    def _find_pictures(self, conversations: list[Conversation]) -> None:
        known = self._contents.pictures
        if self._wanted.redact or not self._wanted.images:
            return
        for one in conversations:
            for message in one.messages if one.asked else ():
                for sha in message.images:
                    if sha not in known:
                        known[sha] = self._to.picture(sha, self._pictures.find(self._filters.run, sha))


def _beginning(one: Conversation, request_hash: str | None) -> str:
    replies = [turn.reply for turn in one.turns if turn.reply["request_hash"] == request_hash]
    texts = [str(row["text"] or "") for row in replies if not row["outcome"].startswith("error_")]
    return texts[0][:_PREVIEW] if texts else ""
