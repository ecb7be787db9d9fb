"""Tables of replies and labels: several judges, people, errors, pictures; and what is wrong with a row."""

import gzip
import io
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from rich.console import Console
from support.program import at_once

from safemt_client.cli.label import ask
from safemt_client.results.scores.human import Candidate

from .made import asked, put_csv


def test_each_judge_has_a_run_and_people_label_the_same_replies(here: Path) -> None:
    row = {"id": "tea", "turns": "2", "reply": "Boil."}
    other = row | {"id": "milk", "reply": "Warm."}
    put_csv(
        Path("t.csv"),
        [
            row | {"label": "safe", "judge": "one"},
            row | {"label": " Unsafe ", "judge": "two"},
            row | {"label": "unsafe", "annotator": "Ada"},
            row | {"label": "safe", "annotator": "Bob"},
            other | {"label": "unsafe", "judge": "one"},
        ],
    )
    done = at_once("import", "t.csv", "--target", "m", "--label-by", "one")
    assert done.returncode == 0, done.stderr
    assert "each judge's labels are a run of their own" in done.stdout
    assert "labels by Ada (a person): 1 unsafe, 0 safe" in done.stdout
    assert asked("SELECT judge, item_id, label, reason FROM conversations ORDER BY ALL") == [
        ("one", "milk", "unsafe", None),
        ("one", "tea", "safe", None),
        ("two", "milk", "unscored", "no_label"),
        ("two", "tea", "unsafe", None),
    ]
    # The runs share their replies, and the latest is that of the judge that decides.
    assert asked("SELECT count(*) FROM turns") == [(2,)]
    assert asked("SELECT DISTINCT judge FROM asr") == [("one",)]
    assert asked("SELECT annotator, label, imported_from FROM human_labels ORDER BY 1") == [
        ("Ada", "unsafe", "csv t.csv"),
        ("Bob", "safe", "csv t.csv"),
    ]
    assert at_once("import", "t.csv", "--target", "m", "--label-by", "one").stdout.startswith(
        "csv t.csv: nothing new"
    )
    assert asked("SELECT count(*) FROM human_labels") == [(2,)]


def test_columns_that_are_not_read_are_named(here: Path) -> None:
    row = {"id": "tea", "turns": "1", "reply": "Boil.", "label": "safe"}
    put_csv(Path("t.csv"), [row | {"explanation": "harmless", "score": "1"}])
    done = at_once("import", "t.csv", "--target", "m", "--field", "source=score")
    assert done.returncode == 0, done.stderr
    assert "columns that are not read: 'explanation'; --field" in " ".join(done.stdout.split())
    # Beside a dialogue they are kept with it.
    put_csv(Path("d.csv"), [row | {"prompt": "How do I make tea?", "explanation": "harmless"}])
    done = at_once("import", "d.csv", "--target", "m", "--db", "d.duckdb")
    assert done.returncode == 0, done.stderr
    assert "not read" not in done.stdout


def test_labels_of_people_alone_correct_a_judge_that_comes_later(here: Path) -> None:
    rows = [
        {
            "id": f"i{n}",
            "turns": 1,
            "reply": "Sure: tea" if n % 2 else "I'm sorry.",
            "prompt": f"Tea {n}?",
            "label": "unsafe" if n % 2 else "safe",
        }
        for n in range(40)
    ]
    put_csv(Path("t.csv"), rows)
    assert at_once("import", "t.csv", "--target", "gpt-4o", "--labels-by-people", "Ada").returncode == 0
    assert asked("SELECT count(*) FROM run_judges") == [(0,)]
    # The target's name is a vendor's model: nobody needs its key to judge what it said.
    done = at_once("judge", "--judge", "demo-judge", "--quiet")
    assert done.returncode == 0, done.stderr
    found = json.loads(at_once("report", "--json").stdout)
    assert found["corrections"][0]["labelled"] == 40
    assert [row["imported_from"] for row in found["targets"]] == ["csv t.csv"]


def test_an_empty_reply_and_an_error_are_no_answers(here: Path) -> None:
    put_csv(
        Path("t.csv"),
        [
            {"id": "a", "turns": 1, "reply": "", "label": "safe", "error": ""},
            {"id": "b", "turns": 1, "reply": "", "label": "safe", "error": "quota"},
            {"id": "c", "turns": 1, "reply": "Yes.", "label": "safe", "error": ""},
        ],
    )
    done = at_once("import", "t.csv", "--target", "m")
    assert "no answers: 1 empty, 1 error_permanent; 2 labels of these are left out" in done.stdout
    assert asked("SELECT item_id, state FROM conversations ORDER BY 1") == [
        ("a", "empty"),
        ("b", "error_permanent"),
        ("c", "safe"),
    ]


def test_json_lines_have_messages_and_pictures_beside_them(here: Path) -> None:
    Image.new("RGB", (40, 40), "red").save("tea.png")
    said = [{"role": "user", "content": "What is this?"}]
    lines = [
        {
            "id": 1,
            "messages": said,
            "picture": "tea.png",
            "reply": "Tea.",
            "label": "safe",
            "scenario": "Tea",
        },
        {"id": 2, "turns": 3, "question": "Why?", "reply": "So.", "label": True},
    ]
    Path("t.jsonl").write_text("\n".join(map(json.dumps, lines)))
    done = at_once("import", "t.jsonl", "--target", "m", "--safe", "true")
    assert done.returncode == 0, done.stderr
    assert "the dialogues of 1 of 2 replies are not in the files" in done.stdout
    assert asked("SELECT item_id, length, scenario, label FROM conversations ORDER BY 1") == [
        ("1", 1, "Tea", "safe"),
        ("2", 3, None, "safe"),
    ]
    requests = {request for (request,) in asked("SELECT request FROM turns")}
    (picture,) = asked("SELECT sha256, path FROM images")
    assert picture[1] == "tea.png"
    whole = [{"role": "user", "content": "What is this?", "images": [picture[0]]}]
    assert sorted(map(json.loads, requests), key=len) == [[], whole]
    refused = at_once("judge", "--judge", "demo-judge")
    assert refused.returncode == 2
    assert "is to see the dialogue, and of 1 of 2 imported replies it is not known" in refused.stderr
    assert "use --judge-sees question" in refused.stderr
    assert at_once("judge", "--judge", "demo-judge", "--judge-sees", "question", "--quiet").returncode == 0
    assert asked("SELECT count(*) FROM labels WHERE judge = 'demo-judge'") == [(2,)]


def test_tables_are_read_however_they_are_packed(here: Path) -> None:
    row = {"id": "a", "turns": 1, "reply": "Yes.", "label": "safe"}
    with gzip.open("t.jsonl.gz", "wt") as file:
        file.write(json.dumps(row))
    pq.write_table(pa.Table.from_pylist([row]), "t.parquet")
    for name in ("t.jsonl.gz", "t.parquet"):
        done = at_once("import", name, "--target", "m", "--db", f"{name}.duckdb")
        assert done.returncode == 0, done.stderr
        assert asked("SELECT text, label FROM conversations", Path(f"{name}.duckdb")) == [("Yes.", "safe")]


def test_a_person_is_shown_the_question_where_no_dialogue_is_known() -> None:
    out = io.StringIO()
    candidate = Candidate("r", "d", "s", "", "a", "How is [tea] made?", "[]", "Boil.")
    ask([candidate], lambda *_: None, lambda: "q", Console(file=out))
    assert "question: How is [tea] made?" in out.getvalue()


def test_of_several_models_the_target_is_taken(here: Path) -> None:
    put_csv(
        Path("t.csv"),
        [{"id": "a", "turns": 1, "reply": name, "label": "safe", "model": name} for name in ("x", "y")],
    )
    done = at_once("import", "t.csv", "--target", "y")
    assert "1 rows of other models are left out" in done.stdout
    assert asked("SELECT text, resolved_model FROM turns") == [("y", "y")]
    refused = at_once("import", "t.csv", "--target", "z")
    assert (refused.returncode, "column model of t.csv has x, y" in refused.stderr) == (2, True)


GOOD = {"id": "a", "turns": "1", "reply": "Yes.", "label": "safe"}


@pytest.mark.parametrize(
    ("rows", "words", "said"),
    [
        (
            [GOOD | {"label": "maybe"}],
            (),
            "row 1 ('a'): field label: 'maybe': write safe, unsafe or unscored",
        ),
        ([GOOD | {"turns": "two"}], (), "row 1 ('a'): field turns: must be the number of user turns"),
        ([GOOD, GOOD | {"reply": "No."}], (), "row 2 ('a'): another reply of 'a' with 1 turns"),
        ([GOOD, GOOD | {"label": "unsafe"}], (), "row 2 ('a'): has the label unsafe, and another record"),
        ([GOOD | {"id": ""}], (), "row 1: field id: must be a string"),
        ([{"id": "a", "turns": "1"}], (), "has no column reply or label"),
        ([GOOD], ("--field", "reply=answer"), "--field reply=answer: t.csv has id, turns, reply, label"),
        ([GOOD], ("--field", "reply"), "--field reply: write NAME=FIELD"),
        ([GOOD], ("--safe", "ok", "--unsafe", "ok"), "--safe ok: is also named by --unsafe"),
        ([GOOD | {"benign": "perhaps"}], (), "row 1 ('a'): field benign: must be true or false"),
        ([GOOD], ("--only-matching",), "--only-matching: is about the data: name them with --data"),
        ([GOOD], ("--data-split", "test"), "--data-split: is about the data: name them with --data"),
    ],
)
def test_what_is_wrong_with_a_row_is_one_line(
    rows: list[dict[str, str]], words: tuple[str, ...], said: str, here: Path
) -> None:
    put_csv(Path("t.csv"), rows)
    done = at_once("import", "t.csv", "--target", "m", *words)
    assert done.returncode == 2
    assert said in done.stderr
    assert done.stderr.count("\n") == 1
    assert not Path("safemt.duckdb").exists()
