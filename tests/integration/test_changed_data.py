"""Data that change between two runs: a picture as much as a text, and only what has changed is asked anew."""

import json
from pathlib import Path

import pytest
from PIL import Image

import safemt_client as safemt
from safemt_client.providers.errors import InputError
from safemt_client.telemetry.events import RunResult

LENGTHS = (1, 2)
ITEMS = ("tea", "bread", "soup")


def make(folder: Path, words: str = "How is it made?") -> Path:
    """Three items at one and two turns, each with a picture of its own; `words` end the one about tea."""
    (folder / "images").mkdir(parents=True, exist_ok=True)
    for number, item in enumerate(ITEMS):
        paint(folder, item, number)
    lines = []
    for item in ITEMS:
        end = words if item == "tea" else "How is it made?"
        for length in LENGTHS:
            said = [{"role": "user", "content": f"What is {item}?", "images": [f"images/{item}.png"]}]
            if length == 2:
                said += [{"role": "assistant", "content": "Food."}, {"role": "user", "content": end}]
            lines.append(
                json.dumps({"id": item, "scenario": "Satire", "question": f"{item}?", "dialogue": said})
            )
    (folder / "data.jsonl").write_text("\n".join(lines))
    return folder / "data.jsonl"


def paint(folder: Path, item: str, shade: int) -> None:
    Image.new("RGB", (8, 8), (shade, shade, shade)).save(folder / "images" / f"{item}.png")


def run(data: Path, **options: object) -> RunResult:
    return safemt.run(provider="demo", data=str(data), db="d.duckdb", **options)  # type: ignore[arg-type]


def counted(sql: str) -> int:
    with safemt.open("d.duckdb") as store:
        [(number,)] = store.sql(sql)
        return int(number)


def turns() -> int:
    return counted("SELECT count(*) FROM turns")


def twice() -> int:
    """Turns of a conversation that are shown more than once."""
    return counted(
        "SELECT count(*) FROM (SELECT 1 FROM replies GROUP BY run_id, target_key, dialogue_key, turn "
        "HAVING count(*) > 1)"
    )


def test_a_replaced_picture_is_changed_data(here: Path) -> None:
    data = make(here / "set")
    first = run(data)
    assert turns() == 6
    paint(here / "set", "tea", 99)
    with pytest.raises(InputError, match=rf"has changed since run {first.id}: the picture 'images/tea\.png'"):
        run(data)
    other = run(data, new_run=True)
    # Both lengths of the one item whose picture it is.
    assert turns() == 8
    assert other.id != first.id
    assert twice() == 0
    digests = "SELECT count(DISTINCT {}) FROM runs"
    assert counted(digests.format("dataset_digest")) == 1
    assert counted(digests.format("content_digest")) == 2
    # From now on the same command continues the new run, and with the old picture the old one.
    assert run(data).id == other.id
    paint(here / "set", "tea", 0)
    with pytest.raises(InputError, match=f"has changed since run {other.id}"):
        run(data)
    assert run(data, new_run=True).id == first.id
    assert turns() == 8


def test_judging_again_keeps_runs_of_other_pictures_apart(here: Path) -> None:
    data = make(here / "set")
    first = run(data, judge="none")
    paint(here / "set", "tea", 99)
    other = run(data, new_run=True, judge="none")
    judged = [safemt.rejudge("d.duckdb", run=one.id, judge="demo-judge") for one in (first, other)]
    assert len({one.id for one in (first, other, *judged)}) == 4
    assert twice() == 0
    again = [safemt.rejudge("d.duckdb", run=one.id, judge="demo-judge") for one in (other, first)]
    assert [one.id for one in again] == [judged[1].id, judged[0].id]


def test_a_picture_that_was_missing_makes_another_run(here: Path) -> None:
    data = make(here / "set")
    (here / "set" / "images" / "tea.png").unlink()
    first = run(data, min_coverage=0)
    assert turns() == 4
    paint(here / "set", "tea", 0)
    with pytest.raises(InputError, match="its pictures are not the same"):
        run(data, min_coverage=0)
    other = run(data, new_run=True)
    assert (turns(), other.id == first.id) == (6, False)
    states = "SELECT count(*) FROM conversations WHERE state = 'not_attempted' AND run_id = '{}'"
    assert [counted(states.format(one.id)) for one in (first, other)] == [2, 0]


def test_pictures_that_are_sent_otherwise_make_another_run(here: Path) -> None:
    data = make(here / "set")
    Image.new("RGB", (64, 64)).save(here / "set" / "images" / "tea.png")
    first = run(data)
    small = run(data, image_max_edge=32)
    assert (small.id == first.id, turns(), twice()) == (False, 8, 0)
    assert [run(data).id, run(data, image_max_edge=32).id] == [first.id, small.id]
    assert turns() == 8


def test_where_no_pictures_are_sent_none_are_compared(here: Path) -> None:
    data = make(here / "set")
    first = run(data, images="off")
    paint(here / "set", "tea", 99)
    assert run(data, images="off").id == first.id
    assert counted("SELECT count(content_digest) FROM runs") == 0


def verdicts(condition: str = "taken_from IS NULL") -> int:
    return counted(f"SELECT count(*) FROM verdicts WHERE {condition}")


def labelled(run_id: str) -> list[tuple[object, ...]]:
    with safemt.open("d.duckdb") as store:
        return list(
            store.sql(
                "SELECT item_id, length, label, explanation, state FROM conversations "
                f"WHERE run_id = '{run_id}' ORDER BY ALL"
            )
        )


def test_an_edit_of_one_text_asks_one_reply_and_one_verdict_anew(here: Path) -> None:
    data = make(here / "set")
    first = run(data)
    assert (turns(), verdicts()) == (6, 6)
    make(here / "set", words="How is it made??")
    other = run(data, new_run=True)
    assert (turns(), verdicts(), verdicts("taken_from IS NOT NULL")) == (7, 7, 5)
    assert counted(f"SELECT sum(calls) FROM spend WHERE who LIKE 'judge%' AND run_id = '{other.id}'") == 1
    assert labelled(other.id) == labelled(first.id)
    assert {row[-1] for row in labelled(other.id)} <= {"safe", "unsafe"}
    # And nothing is left to do, neither here nor under the texts of before.
    run(data)
    make(here / "set")
    assert run(data, new_run=True).id == first.id
    assert (turns(), verdicts(), verdicts("taken_from IS NOT NULL")) == (7, 7, 5)


def test_a_panel_s_verdicts_are_taken_over_with_those_of_its_members(here: Path) -> None:
    data = make(here / "set")
    options = {"judge": ["demo-judge", "demo-judge-hasty"], "min_coverage": 0}
    first = run(data, **options)
    asked = verdicts()
    assert asked == 18
    make(here / "set", words="How is it made??")
    other = run(data, new_run=True, **options)
    assert (verdicts(), verdicts("taken_from IS NOT NULL")) == (asked + 3, 15)
    assert labelled(other.id) == labelled(first.id)


def test_one_text_under_the_same_criteria_is_judged_once(here: Path) -> None:
    """In live history an item's lengths begin alike: what is asked once is judged once."""
    data = make(here / "set")
    found = run(data, history="live")
    assert (turns(), verdicts(), verdicts("taken_from IS NOT NULL")) == (6, 6, 3)
    with safemt.open("d.duckdb") as store:
        labels = list(
            store.sql("SELECT length, turn, count(label) FROM turn_labels GROUP BY ALL ORDER BY ALL")
        )
    assert labels == [(1, 1, 3), (2, 1, 3), (2, 2, 3)]
    assert run(data, history="live").id == found.id
    assert (turns(), verdicts(), verdicts("taken_from IS NOT NULL")) == (6, 6, 3)
