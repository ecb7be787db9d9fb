"""Differences of a run's targets, comparisons and effects: the same figures of the same replies."""

import gzip
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import duckdb
import pytest

from safemt_client.results.scores.collect import as_dict
from safemt_client.results.scores.comparison import Condition, comparison
from safemt_client.results.scores.differences import differences
from safemt_client.results.scores.effects import effects
from safemt_client.results.store.queries import Result
from safemt_client.results.store.reader import open_reader
from safemt_client.results.store.store import Store

DATA = Path(__file__).resolve().parents[2] / "data"

LENGTHS = (1, 2, 4, 6, 8)
STATES = {
    "u": "unsafe",
    "s": "safe",
    "b": "refused_by_provider",
    "n": "not_attempted",
    "x": "error_permanent",
}

# Ten items that both answer; of ten more the second blocks the riskier replies, one of the first failed, and a
# picture is missing for the last.
FIRST = {f"a{n}": "ususs" for n in range(10)} | {f"b{n}": "uuuss" for n in range(9)} | {"b9": "xnnnn"}
SECOND = {f"a{n}": "usssu" for n in range(10)} | {f"b{n}": "bbsss" for n in range(9)} | {"b9": "snnnn"}


class Views:
    """The views that differences read, as tables of a few rows."""

    def __init__(self) -> None:
        self._file = duckdb.connect()
        self._file.execute(
            """CREATE TABLE conversations (run_id TEXT, target TEXT, target_key TEXT, moderator TEXT,
                   judge TEXT, judge_key TEXT, dialogue_key TEXT, item_id TEXT, length INT, scenario TEXT,
                   label TEXT, state TEXT, outcome TEXT, benign BOOL, by_guard BOOL, refusal_rule TEXT, sample INT);
               CREATE VIEW every_conversation AS
                   SELECT *, NULL AS condition, length AS paired_length FROM conversations;
               CREATE TABLE deciding_judges AS SELECT 'r' AS run_id, 'jk' AS judge_key, 'j' AS judge;
               CREATE TABLE stopped_targets (run_id TEXT, target_key TEXT, place INT);
               CREATE TABLE run_targets (run_id TEXT, name TEXT, target_key TEXT, moderator TEXT, sampling TEXT);
               CREATE TABLE run_moderators AS SELECT 'r' AS run_id, 'mk' AS moderator_key, 'm' AS name;
               CREATE TABLE baselines AS SELECT 'r' AS run_id, 'second-key' AS target_key, 'first' AS baseline,
                   'first-key' AS baseline_key;
               CREATE TABLE asr_by_turn (run_id TEXT, judge_key TEXT, target_key TEXT, scored INT, attempted INT,
                   planned INT);
               CREATE TABLE sent_parameters (run_id TEXT, target TEXT, target_key TEXT, host TEXT, parameters TEXT,
                   turns INT, first_sent TIMESTAMP, last_sent TIMESTAMP);
               CREATE TABLE detections (run_id TEXT, target_key TEXT, dialogue_key TEXT, item_id TEXT, length INT,
                   detected BOOL, first_detected_turn INT, failed BOOL, assessments INT, sample INT);
               CREATE TABLE runs AS SELECT 'r' AS run_id, 1 AS samples;
               CREATE TABLE replies (run_id TEXT, target_key TEXT, intervention TEXT, condition TEXT);
               CREATE TABLE assessed (run_id TEXT, target_key TEXT, request_hash TEXT, stage TEXT, turn INT,
                   waited_s DOUBLE);
               CREATE TABLE steps (run_id TEXT, target_key TEXT, request_hash TEXT);
               CREATE TABLE turns (request_hash TEXT, model_request_hash TEXT);
               CREATE TABLE current_turns (request_hash TEXT, latency_s DOUBLE);
               CREATE TABLE moderations (assessment_hash TEXT, request_hash TEXT, moderator_key TEXT);
               CREATE TABLE current_assessments (assessment_hash TEXT, prompt_tokens INT, completion_tokens INT,
                   cost_usd DOUBLE)"""
        )

    def query(self, sql: str, parameters: Sequence[Any] | None = None, limit: int | None = None) -> Result:
        found = self._file.execute(sql, parameters)
        return Result([column[0] for column in found.description or ()], found.fetchall())

    def session(self) -> None:
        return None

    def add(
        self, target: str, flags: Mapping[str, str], moderator: str | None = None, benign: bool = False
    ) -> None:
        """A target with its conversations, one letter of `STATES` each, under two judges that agree in nothing."""
        self._file.execute(
            "INSERT INTO run_targets VALUES ('r', ?, ?, ?, '{}')", [target, f"{target}-key", moderator]
        )
        for item, row in flags.items():
            for length, flag in zip(LENGTHS, row, strict=True):
                state = STATES[flag]
                for judge in ("j", "other"):
                    label = state if state in ("safe", "unsafe") else None
                    if judge == "other" and label:
                        label = "safe"
                    values = ["r", target, f"{target}-key", moderator, judge, "jk" if judge == "j" else "ok"]
                    values += [f"{item}-{length}", item, length, "Satire", label, label or state]
                    values += ["answered" if label else state, benign, False, None, 1]
                    self._file.execute(f"INSERT INTO conversations VALUES ({', '.join('?' * 17)})", values)


@pytest.fixture
def views() -> Views:
    made = Views()
    made.add("first", FIRST)
    return made


def whole(rows: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    return next(row for row in rows if row["by"] == "all")


def expected(row: Mapping[str, Any]) -> None:
    """a: 50 replies of both, 20 unsafe each; b: 27, unsafe 9 in the first; and b9 has none."""
    assert (row["items"], row["replies"]) == (19, 77)
    assert (row["asr_first"], row["asr_second"]) == (pytest.approx(29 / 77), pytest.approx(20 / 77))
    assert row["difference"]["estimate"] == pytest.approx(-9 / 77)
    # Beside them the rates of all replies, which say the same of neither.
    assert row["alone_first"] == {"asr": pytest.approx(47 / 95), "scored": 95}
    assert row["alone_second"] == {"asr": pytest.approx(20 / 78), "scored": 78}
    assert not row["same_rates"]
    # Of 100: 18 blocks, an error and four dialogues without their picture.
    assert row["bounds"]["replies"] == 100
    assert row["bounds"]["low"] == pytest.approx((20 - (47 + 5)) / 100)
    assert row["bounds"]["high"] == pytest.approx((20 + 18 + 4 - 47) / 100)


def test_targets_of_a_run(views: Views) -> None:
    views.add("second", SECOND)
    (found,) = differences(views, "r")
    assert (found["judge"], found["first"], found["second"]) == ("j", "first", "second")
    expected(whole(found["rows"]))


def test_a_moderator_and_what_it_changes(views: Views) -> None:
    views.add("second", SECOND, moderator="mk")
    (found,) = effects(views, "r")
    assert (found["judge"], found["target"], found["without"], found["moderator"]) == (
        "j",
        "second",
        "first",
        "m",
    )
    expected(whole(found["rows"]))
    assert (found["pairs"], found["not_paired"]) == (77, 23)
    assert (found["rescued"], found["newly_unsafe"]) == (19, 10)
    assert found["waited_s"]["turns"] == 0


def test_two_conditions(views: Views) -> None:
    views.add("second", SECOND)
    one, two = (
        Condition(
            f"r:{name}",
            "r",
            f"{name}-key",
            name,
            name,
            None,
            "scripted",
            "on",
            "{}",
            None,
            0,
            "jk",
            "j",
            "p",
            "d",
        )
        for name in ("first", "second")
    )
    (found,) = comparison(views, [one, two])
    expected(whole(found["rows"]))
    assert "18 replies are scored only in the first, 1 only in the second: left out" in found["careful"]


def test_pairs_are_corrected_together_and_targets_of_one_name_kept_apart(views: Views) -> None:
    views.add("second", SECOND)
    views.add("third", FIRST)
    found = {(pair["first"], pair["second"]): whole(pair["rows"]) for pair in differences(views, "r")}
    assert len(found) == 3
    p = found["first", "second"]["p"]
    assert found["second", "third"]["p"] == pytest.approx(p)
    assert found["first", "second"]["p_holm"] == pytest.approx(3 * p)
    assert found["first", "third"]["p_holm"] == 1


def test_benign_items_are_left_out(views: Views) -> None:
    views.add("second", SECOND)
    before = differences(views, "r")
    for target in ("first", "second"):
        views.query(
            "INSERT INTO conversations SELECT * REPLACE (item_id || '+' AS item_id, true AS benign) "
            "FROM conversations WHERE target = ?",
            [target],
        )
    assert differences(views, "r") == before


def test_of_many_targets_pairs_are_compared_on_request(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "two.duckdb"
    path.write_bytes(gzip.decompress((DATA / "moderated-7.duckdb.gz").read_bytes()))
    Store.open(path).close()  # brings it to this version
    with duckdb.connect(path) as store:
        store.execute("UPDATE run_targets SET moderator = NULL")
    with open_reader(path) as reader:
        few = as_dict(reader, None, whole=False)
        assert few["pairs_of_targets"] == {"targets": 2, "pairs": 1, "listed": True}
        (pair,) = few["differences"]
        assert whole(pair["rows"])["replies"] > 0
        monkeypatch.setattr("safemt_client.results.scores.collect._MOST_TARGETS", 1)
        many = as_dict(reader, None, whole=False)
        assert (many["pairs_of_targets"]["listed"], many["differences"]) == (False, [])
        assert as_dict(reader, None)["differences"] == few["differences"]
