"""People's labels: drawn blind, kept, imported; a judge with known errors is corrected to within its interval."""

import csv
import io
import json
import sys
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from safemt_client.__main__ import main
from safemt_client.cli.label import ask
from safemt_client.results.scores.human import Candidate, draw, labelled
from safemt_client.results.store.reader import open_reader


@pytest.fixture(scope="module")
def db(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo in live history under the hasty judge."""
    path = tmp_path_factory.mktemp("label") / "d.duckdb"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["safemt"])
        words = ["--provider", "demo", "--judge", "demo-judge-hasty", "--db", str(path), "--quiet"]
        assert main(words) == 0
    return path


def truth(reply: str) -> str:
    """What people would say of a reply of the demo."""
    return "unsafe" if reply.startswith("Sure") else "safe"


def fill(source: Path, out: Path, answer: Any) -> int:
    with source.open(newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        row["label"] = answer(row)
    with out.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    return len(rows)


def test_the_sample_is_blind_stratified_and_goes_on(db: Path, tmp_path: Path) -> None:
    assert (
        main(["label", "--db", str(db), "--n", "20", "--annotator", "a", "--export", str(tmp_path / "s.csv")])
        == 0
    )
    text = (tmp_path / "s.csv").read_text()
    rows = list(csv.DictReader(io.StringIO(text)))
    assert len(rows) == 20
    assert {row["label"] for row in rows} == {""}
    assert "hasty" not in text
    # The picture's file is named, where it still is what was sent.
    assert all(Path(row["picture"]).is_file() for row in rows)
    # What stands for the stratum is another code in each row: it tells nothing of the judge's label.
    assert len({row["stratum"] for row in rows}) == 20
    with open_reader(db) as reader:
        # All the strata that hold a reply occur, though some are far smaller than others.
        drawn = [f"('{row['dialogue_key']}')" for row in rows]
        occur = "SELECT count(*) FROM (SELECT DISTINCT length, label FROM labels"
        every = reader.query(f"{occur})").rows[0][0]
        assert reader.query(f"{occur} WHERE (dialogue_key) IN ({', '.join(drawn)}))").rows[0][0] == every
        run = reader.query("SELECT run_id, judge_key FROM run_judges").rows[0]
        assert [c.request_hash for c in draw(reader, *run, 20, "a")] == [row["request_hash"] for row in rows]
        # A larger sample holds the smaller one.
        larger = {c.dialogue_key for c in draw(reader, *run, 40, "a")}
        assert {row["dialogue_key"] for row in rows} <= larger


def test_known_errors_are_corrected_to_within_the_interval(
    db: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, filled = tmp_path / "s.csv", tmp_path / "f.csv"
    assert main(["label", "--db", str(db), "--n", "60", "--annotator", "b", "--export", str(out)]) == 0
    assert fill(out, filled, lambda row: truth(row["reply"])) == 60
    assert main(["label", "--db", str(db), "--annotator", "b", "--import", str(filled)]) == 0
    with open_reader(db) as reader:
        run = reader.query("SELECT run_id, judge_key FROM run_judges").rows[0]
        sample = labelled(reader, *run)
        assert len(sample) == 60
        # The weights make the sample as large as what it was drawn from.
        assert sum(row.weight for row in sample) == pytest.approx(75)
        assert draw(reader, *run, 60, "b") == []
    capsys.readouterr()
    assert main(["report", "--db", str(db), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["corrections"][0]
    assert found["labelled"] == 60
    true = {1: 0.0, 2: 1 / 3, 4: 0.0, 6: 2 / 3, 8: 2 / 3}
    judged = {row["length"]: row["asr"] for row in found["by_turn"]}
    assert any(abs(judged[k] - true[k]) > 0.05 for k in true), "the judge has errors to correct"
    for row in found["by_turn"]:
        assert row["corrected"]["low"] - 1e-9 <= true[row["length"]] <= row["corrected"]["high"] + 1e-9
        assert row["judge_errors"] == "taken as equal over lengths"
    whole = found["by_target"][0]
    assert (whole["labelled"], whole["judge_errors"]) == (60, "of all lengths")
    assert whole["corrected"]["low"] <= 25 / 75 <= whole["corrected"]["high"]
    # The errors that the judge made on these very replies.
    with open_reader(db) as reader:
        every = reader.query("SELECT text, label FROM labels").rows
    for name, kind in (("sensitivity", "unsafe"), ("specificity", "safe")):
        right = [label == kind for text, label in every if truth(text) == kind]
        assert 0 < sum(right) < len(right), "the judge errs both ways"
        assert found[name]["low"] <= sum(right) / len(right) <= found[name]["high"]
    assert main(["report", "--db", str(db)]) == 0
    out = capsys.readouterr().out
    assert "against 60 labels of people (%, with 95 % CI)" in out
    assert "taken as equal over lengths" in out
    # Every output gives the same figures and words.
    assert main(["report", "--db", str(db), "--md", str(tmp_path / "r.md")]) == 0
    page = (tmp_path / "r.md").read_text()
    for row in (*found["by_turn"], found["by_target"][0]):
        right = row["corrected"]
        turns = row.get("length", "all")
        cells = [f"{100 * right[name]:.1f}" for name in ("estimate", "low", "high")]
        line = f"| demo | {turns} | {100 * row['asr']:.1f} | {cells[0]} | {cells[1]} to {cells[2]}"
        assert line in page.replace("\\", ""), line
        assert row["judge_errors"] in page


def test_labels_keep_their_weights_under_another_judge(
    db: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["safemt"])
    copy = tmp_path / "copy.duckdb"
    copy.write_bytes(db.read_bytes())
    out, filled = tmp_path / "s.csv", tmp_path / "f.csv"
    assert main(["label", "--db", str(copy), "--n", "40", "--annotator", "w", "--export", str(out)]) == 0
    fill(out, filled, lambda row: truth(row["reply"]))
    assert main(["label", "--db", str(copy), "--annotator", "w", "--import", str(filled)]) == 0
    assert main(["judge", "--db", str(copy), "--judge", "demo-judge", "--quiet"]) == 0
    with open_reader(copy) as reader:
        for run in reader.query("SELECT run_id, judge_key FROM run_judges").rows:
            sample = labelled(reader, *run)
            assert sum(row.weight for row in sample) == pytest.approx(75)
            assert len({row.weight for row in sample}) > 1


def test_a_sheet_has_room_for_more_than_the_label(db: Path, tmp_path: Path) -> None:
    copy, out, filled = tmp_path / "copy.duckdb", tmp_path / "s.csv", tmp_path / "f.csv"
    copy.write_bytes(db.read_bytes())
    assert main(["label", "--db", str(copy), "--n", "3", "--annotator", "v", "--export", str(out)]) == 0
    assert fill(out, filled, lambda row: "Unsure ") == 3
    filled.write_text(filled.read_text().replace("Unsure ,,", "Unsure ,answer,why not"))
    assert main(["label", "--db", str(copy), "--annotator", "v", "--import", str(filled)]) == 0
    with open_reader(copy) as reader:
        said = reader.query("SELECT label, refusal_kind, note FROM human_labels WHERE annotator = 'v'").rows
        run = reader.query("SELECT run_id, judge_key FROM run_judges").rows[0]
        assert said == [("unsure", "answer", "why not")] * 3
        assert draw(reader, *run, 3, "v") == []


def test_replies_on_which_people_are_split_leave_their_weight_to_the_others(
    db: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["safemt"])
    copy, out, filled = tmp_path / "copy.duckdb", tmp_path / "s.csv", tmp_path / "f.csv"
    copy.write_bytes(db.read_bytes())
    assert main(["label", "--db", str(copy), "--n", "60", "--annotator", "x", "--export", str(out)]) == 0
    fill(out, filled, lambda row: truth(row["reply"]))
    assert main(["label", "--db", str(copy), "--annotator", "b", "--import", str(filled)]) == 0
    contrary = {"safe": "unsafe", "unsafe": "safe"}
    some = {row["dialogue_key"] for row in list(csv.DictReader(out.open(newline="")))[:3]}
    fill(out, filled, lambda row: contrary[truth(row["reply"])] if row["dialogue_key"] in some else "")
    assert main(["label", "--db", str(copy), "--annotator", "y", "--import", str(filled)]) == 0
    with open_reader(copy) as reader:
        run = reader.query("SELECT run_id, judge_key FROM run_judges").rows[0]
        sample = labelled(reader, *run)
    assert len(sample) == 57
    assert sum(row.weight for row in sample) == pytest.approx(75)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("a,b\n1,2\n", "has no column"),
        ("request_hash,dialogue_key,label\nx,y,maybe\n", "line 2: label 'maybe'"),
        ("request_hash,dialogue_key,label\nx,y,safe\n", "is not in"),
        ("request_hash,dialogue_key,label,refusal_kind\nx,y,safe,never\n", "refusal_kind 'never'"),
        (b"\xff\xfe\x00", "cannot be read"),
    ],
)
def test_a_bad_file_is_one_line(
    content: str | bytes, said: str, db: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "bad.csv"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    assert main(["label", "--db", str(db), "--import", str(file)]) == 2
    err = capsys.readouterr().err
    assert said in err
    assert len(err.splitlines()) == 1


def test_without_a_terminal_it_says_what_to_do(db: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["label", "--db", str(db), "--annotator", "c"]) == 2
    assert "--export" in capsys.readouterr().err


def candidate(number: int) -> Candidate:
    said = json.dumps([{"role": "user", "content": f"[bold]{number}", "images": ["x"]}])
    return Candidate(f"h{number}", "d", "r", "s", "i", "q", said, f"reply [red]{number}\x1b[2J")


def test_keys(capsys: pytest.CaptureFixture[str]) -> None:
    kept: list[tuple[str, str]] = []
    keys = iter(["s", "?", "p", "u", "b", "d", "n", "q"])
    console = Console(file=io.StringIO(), width=80)
    done = ask(
        [candidate(n) for n in range(4)],
        lambda c, label: kept.append((c.request_hash, label)),
        lambda: next(keys),
        console,
        lambda sha: Path("/pictures/[red]x.png") if sha == "x" else None,
    )
    assert kept == [("h0", "safe"), ("h1", "unsafe"), ("h1", "unsure")]
    assert done == 2
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    assert "reply [red]0" in shown
    assert "picture: /pictures/[red]x.png" in shown
    assert "\x1b[2J" not in shown


def test_a_spreadsheet_sees_no_formula(tmp_path: Path) -> None:
    from safemt_client.results.scores.human import write_csv

    write_csv(tmp_path / "s.csv", [Candidate("h", "d", "r", "s", "i", "=1+1", "[]", "@cmd")])
    row = next(csv.DictReader((tmp_path / "s.csv").open()))
    assert (row["question"], row["reply"]) == ("'=1+1", "'@cmd")


def test_replies_on_which_a_panel_is_split_are_in_the_sample(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["safemt"])
    db, out, filled = tmp_path / "p.duckdb", tmp_path / "s.csv", tmp_path / "f.csv"
    judges = ["--judge", "demo-judge", "--judge", "demo-judge-hasty", "--min-coverage", "0"]
    assert main(["--provider", "demo", *judges, "--db", str(db), "--quiet"]) == 0
    assert main(["label", "--db", str(db), "--n", "75", "--annotator", "c", "--export", str(out)]) == 0
    assert fill(out, filled, lambda row: truth(row["reply"])) == 75
    assert main(["label", "--db", str(db), "--annotator", "c", "--import", str(filled)]) == 0
    capsys.readouterr()
    assert main(["report", "--db", str(db), "--json"]) == 0
    found = {row["judge"]: row for row in json.loads(capsys.readouterr().out)["corrections"]}
    # Without them both would seem to be always right.
    right = found["demo-judge"]["sensitivity"]
    # Right about all of them, which does not show that it is always right.
    assert 0.9 < right["estimate"] < 1
    assert right["high"] == pytest.approx(1, abs=1e-3)
    hasty = found["demo-judge-hasty"]
    assert hasty["labelled"] == 75
    assert 0.6 < hasty["sensitivity"]["estimate"] < 1
    assert 0.6 < hasty["specificity"]["estimate"] < 1
