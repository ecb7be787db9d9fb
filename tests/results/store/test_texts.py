"""Several observations of one request: what was said of one text never meets another, in whatever way one looks."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb
import pytest

from safemt_client.judges.types import JudgeInput
from safemt_client.planning.judgings import unjudged
from safemt_client.planning.resolved import StoredReply
from safemt_client.providers.types import Outcome, reply_hash
from safemt_client.results.exports.tables import HUMAN_LABELS, TURNS, VERDICTS, Dump
from safemt_client.results.scores.human import draw, labelled
from safemt_client.results.store.reader import open_reader
from safemt_client.results.store.rows import (
    AssessmentRow,
    DialogueRow,
    EventRow,
    HumanLabelRow,
    JudgeRow,
    ModerationRow,
    ModeratorRow,
    Row,
    RunDialogueRow,
    RunRow,
    StepRow,
    TargetRow,
    TurnRow,
    VerdictRow,
)
from safemt_client.results.store.store import Store
from safemt_client.viewer.conversation import load
from safemt_client.viewer.filters import Filters
from safemt_client.viewer.queries import Queries
from safemt_client.viewer.snapshot import Snapshot

NOW = datetime(2026, 1, 1, tzinfo=UTC)
TABLES = ("turns", "verdicts", "human_labels")
MESSAGES = json.dumps([{"role": "user", "content": "how does a kettle work?"}])


@pytest.fixture(autouse=True)
def _anew() -> None:
    """What a store holds is tested here, not how it is made: it may begin as a copy of an empty one."""


class OneJudge:
    """Names verdicts as the judge of these stores does."""

    key = "j"

    def verdict_hash(self, subject: JudgeInput, outcome: Outcome, reply_hash: str) -> str:
        return f"j {subject.question} {reply_hash}"

    def earlier_hash(self, request_hash: str, dialogue_key: str) -> str:
        return f"j {request_hash} {dialogue_key}"


def turn(text: str, after_s: int, **changes: object) -> TurnRow:
    row = TurnRow(
        *("q", 1, "r", "s", "t", "answered", text, None, "stop", None, 200, None, None, 1, 1, None, None),
        *(0.0, NOW + timedelta(seconds=after_s), 1.0, MESSAGES, None, None, "answer"),
        reply_hash=reply_hash(text),
    )
    return replace(row, **changes)  # type: ignore[arg-type]


def verdict(text: str, label: str, judge: str = "j", request: str = "q") -> VerdictRow:
    reason = "judge_error" if label == "unscored" else None
    return VerdictRow(
        *(
            f"{judge} {request} d",
            judge,
            request,
            "d",
            "r",
            "s",
            label,
            reason,
            None,
            f"of {text}",
            None,
            1,
            1,
        ),
        *(0.0, NOW, 1.0, None, "paper 1", None, None, None, None, None, None),
        reply_hash=reply_hash(text),
    )


def person(text: str, label: str) -> HumanLabelRow:
    return HumanLabelRow("q", "d", "", "ada", label, NOW, reply_hash(text))


def plan(moderator: str | None = None) -> list[Row]:
    return [
        RunRow("r", "r", NOW, "0", "data", "d", "/nowhere", None, "{}"),
        TargetRow("r", "t", "model", "p/m", "scripted", "on", "{}", moderator, 0, None),
        JudgeRow("r", "j", "judge", "p/j", "paper", "h", "{}", None),
        EventRow("r", "s", NOW, "started", "{}"),
        DialogueRow("d", "d", "item", 1, "Fraud", None, None, None, "how?", MESSAGES, "{}"),
        RunDialogueRow("r", "d", None),
        StepRow("r", "t", "d", 1, "q"),
    ]


def make(path: Path, *rows: Row) -> Path:
    with Store.open(path) as store:
        store.save_now(*plan(), *rows)
    return path


def shown(path: Path) -> tuple[str | None, str | None]:
    """The text and label of the one conversation, which all ways of looking at it agree on."""
    found: set[tuple[str | None, str | None]] = set()
    with open_reader(path) as reader:
        [(text, said)] = reader.query("SELECT text, reply_hash FROM replies").rows
        [(other, label)] = reader.query("SELECT text, label FROM conversations").rows
        labels = reader.query("SELECT text, label FROM labels").rows
        [(turn_label,)] = reader.query("SELECT label FROM turn_labels").rows
        dump = Dump(reader, "r", None)
        exported = [row for part in dump.records(TURNS) for row in part]
        judged = [row for part in dump.records(VERDICTS) for row in part]
        assert said == reply_hash(text)
        assert labels == ([] if label is None else [(text, label)])
        assert [row["label"] for row in judged] == ([] if label is None else [label])
        found |= {(text, label), (other, turn_label), (exported[0]["reply"], label)}
    with Store.open(path) as store:
        found.add((store.texts(["q"])["q"], label))
        found.add((store.replies(["q"])["q"][1], label))
        assert store.reply_hashes(["q"]) == {"q": reply_hash(text)}
        stored = StoredReply("t", "d", "q", "q", Outcome.ANSWERED, (), "how?", None)
        missing, _ = unjudged([stored], OneJudge(), store)  # type: ignore[arg-type]
        assert [task.subject.reply for task in missing] == ([text] if label is None else [])
    snapshot = Snapshot(path)
    try:
        snapshot.refresh(wait=True)
        queries = Queries(snapshot)
        [row] = queries.page(Filters(run="r"), 1, 10).rows
        conversation = load(queries, "r", "t", "d")
        _, everything = queries.everything(Filters(run="r"), 10)
    finally:
        snapshot.close()
    assert conversation is not None
    assert conversation.last is not None
    assert [v["label"] for v in conversation.last.verdicts] == ([] if label is None else [label])
    assert (f"of {text}" in everything[0]) == (label is not None)
    found |= {(row["preview"], row["label"]), (conversation.last.reply["text"], label)}
    assert len(found) == 1
    return found.pop()


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([turn("one", 0), turn("two", 1), verdict("two", "unsafe")], ("two", "unsafe")),
        ([turn("one", 0), turn("two", 1)], ("one", None)),
        ([turn("one", 0), turn("two", 1), verdict("one", "safe"), verdict("two", "unsafe")], ("one", "safe")),
        ([turn("one", 0), turn("two", 1), verdict("two", "unscored")], ("one", None)),
        ([turn("one", 0), turn("two", 1), verdict("two", "unsafe", judge="other")], ("two", None)),
        ([turn("one", 0), turn("two", 1), person("two", "unsafe")], ("two", None)),
        ([turn("one", 1), turn("two", 0), verdict("three", "unsafe")], ("two", None)),
        ([turn("one", 0), verdict("one", "safe"), turn("one", 1)], ("one", "safe")),
        ([turn("one", 0), replace(verdict("one", "safe"), reply_hash=None)], ("one", None)),
    ],
    ids=[
        "the second was judged",
        "none was judged",
        "both were judged",
        "the judge failed",
        "another judge's",
        "a person's",
        "of a text that is not there",
        "twice the same",
        "of nobody knows which",
    ],
)
def test_the_observation_that_counts(
    tmp_path: Path, rows: list[Row], expected: tuple[str, str | None]
) -> None:
    assert shown(make(tmp_path / "s.duckdb", *rows)) == expected


@pytest.mark.parametrize(("mine", "theirs"), [(0, 1), (1, 0)])
def test_merged_stores_keep_to_their_own_texts(tmp_path: Path, mine: int, theirs: int) -> None:
    """`one` was labelled here and never judged; `two` was judged and labelled there."""
    into = make(tmp_path / "one.duckdb", turn("one", mine), person("one", "safe"))
    other = make(
        tmp_path / "two.duckdb", turn("two", theirs), verdict("two", "unsafe"), person("two", "unsafe")
    )
    with duckdb.connect(into) as connection:
        connection.execute(f"ATTACH '{other}' AS other (READ_ONLY)")
        for table in TABLES:
            connection.execute(f"INSERT INTO {table} BY NAME SELECT * FROM other.{table}")
    expected = ("one", None) if mine < theirs else ("two", "unsafe")
    assert shown(into) == expected
    with open_reader(into) as reader:
        people = labelled(reader, "r", "j")
        assert [label.human for label in people] == ["safe" if expected[0] == "one" else "unsafe"]
        exported = [row for part in Dump(reader, "r", None).records(HUMAN_LABELS) for row in part]
        assert [row["label"] for row in exported] == [people[0].human]
        # Whoever labels next sees the text that counts, and what he says is kept with it.
        drawn = draw(reader, "r", "j", 10, "bob")
        assert [(c.reply, c.reply_hash) for c in drawn] == (
            [] if expected[1] is None else [("two", reply_hash("two"))]
        )


def test_a_guard_s_word_on_a_reply_stays_with_that_reply(tmp_path: Path) -> None:
    path = tmp_path / "s.duckdb"
    passed = turn("one", 1, intervention="passed", model_request_hash="m")
    with Store.open(path) as store:
        store.save_now(
            *plan("mod"),
            ModeratorRow("r", "mod", "guard", "demo", "g", "p/g", "none", "{}", None),
            *(turn("one", 1, request_hash="m"), turn("two", 0, request_hash="m"), passed),
            *(verdict("one", "safe", request="m"), verdict("two", "unsafe", request="m")),
        )
        for number, said in enumerate(("one", "two")):
            when = NOW + timedelta(seconds=number)
            store.save_now(
                AssessmentRow(
                    *(
                        f"a{said}",
                        "g",
                        "output",
                        "r",
                        "s",
                        "safe",
                        said,
                        "[]",
                        "[]",
                        None,
                        None,
                        None,
                        None,
                        None,
                    ),
                    *(1, 1, 0.0, when, 0.1),
                    reply_hash=reply_hash(said),
                ),
                ModerationRow("q", "mod", "output", 1, f"a{said}", "g", "passed", None, 0.1, when),
            )
        assert store.judged_as(["q"]) == {"q": "m"}
    with open_reader(path) as reader:
        assert reader.query("SELECT text, label, judged_hash FROM conversations").rows == [
            ("one", "safe", "m")
        ]
        assert reader.query("SELECT intent FROM assessed").rows == [("one",)]
    snapshot = Snapshot(path)
    try:
        snapshot.refresh(wait=True)
        found = load(Queries(snapshot), "r", "t", "d")
    finally:
        snapshot.close()
    assert found is not None
    assert found.last is not None
    assert [row["intent"] for row in found.last.assessments] == ["one"]
    assert [row["label"] for row in found.last.verdicts] == ["safe"]
