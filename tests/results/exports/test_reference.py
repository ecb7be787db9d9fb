"""Labels in the reference's own layout: one export, one set of files, which the authors' script can read."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from safemt_client.providers.errors import InputError
from safemt_client.providers.types import reply_hash
from safemt_client.results.exports import export
from safemt_client.results.store.reader import open_reader
from safemt_client.results.store.rows import (
    DialogueRow,
    JudgeRow,
    Row,
    RunDialogueRow,
    RunRow,
    StepRow,
    TargetRow,
    TurnRow,
    VerdictRow,
)
from safemt_client.results.store.store import Store

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def run(run_id: str, targets: dict[str, str], lengths: tuple[int, ...], benign: bool = True) -> list[Row]:
    """A run of an item that is not benign and, with `benign`, one that is; every reply is labelled unsafe."""
    rows: list[Row] = [
        RunRow(run_id, run_id, NOW, "0", "data", "d", "/nowhere", None, "{}"),
        JudgeRow(run_id, "j", "judge", "p/j", "paper", "h", "{}", None),
        *(
            TargetRow(run_id, key, name, key, "scripted", "on", "{}", None, 0, None)
            for key, name in targets.items()
        ),
    ]
    for length in lengths:
        for item, is_benign in [("harm", False), ("tea", True)][: 1 + benign]:
            dialogue = f"d:{length}:{item}"
            rows += [
                DialogueRow(dialogue, "d", item, length, None, None, None, is_benign, None, "[]", "{}"),
                RunDialogueRow(run_id, dialogue, None),
            ]
            for key in targets:
                rows += said(run_id, key, dialogue, length)
    return rows


def said(run_id: str, target: str, dialogue: str, length: int) -> list[Row]:
    request, text = f"{target} {dialogue}", "of course"
    return [
        StepRow(run_id, target, dialogue, length, request),
        TurnRow(
            *(request, 1, run_id, "s", target, "answered", text, None, "stop", None, 200, None, None, 1, 1),
            *(None, None, 0.0, NOW, 1.0, "[]", None, None, "answer"),
            reply_hash=reply_hash(text),
        ),
        VerdictRow(
            *(f"j {request}", "j", request, dialogue, run_id, "s", "unsafe", None, None, None, None, 1, 1),
            *(0.0, NOW, 1.0, None, "paper 1", None, None, None, None, None, None),
            reply_hash=reply_hash(text),
        ),
    ]


def written(path: Path, run_id: str, out: Path) -> dict[str, list[str]]:
    """The ids in each file that an export wrote, by its place in the folder."""
    with open_reader(path) as reader:
        paths = export(reader, "reference", run_id, out, redact=False)
    return {
        str(found.relative_to(out)): [record["id"] for record in json.loads(found.read_text())]
        for found in paths
    }


def store(path: Path, *runs: list[Row]) -> Path:
    with Store.open(path) as found:
        for rows in runs:
            found.save_now(*rows)
    return path


def test_benign_items_have_a_file_of_their_own(tmp_path: Path) -> None:
    db = store(tmp_path / "s.duckdb", run("r", {"t": "model"}, (1, 2)))
    assert written(db, "r", tmp_path / "out") == {
        "1/label/model.json": ["harm"],
        "1/benign/model.json": ["tea"],
        "2/label/model.json": ["harm"],
        "2/benign/model.json": ["tea"],
    }


def test_targets_whose_names_are_alike_have_files_of_their_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    targets = {"1234567890": "a/m", "2234567890": "a m", "3": "A_M", "4": "a_m", "5": "a_m", "6": "a_m-3"}
    db = store(tmp_path / "s.duckdb", run("r", targets, (1,), benign=False))
    found = written(db, "r", tmp_path / "out")
    names = {"a_m-12345678", "a_m-22345678", "A_M-3-3", "a_m-4", "a_m-5", "a_m-3-6"}
    assert found == {f"1/label/{name}.json": ["harm"] for name in names}
    told = capsys.readouterr().err.splitlines()
    assert len(told) == 6
    assert "safemt: a/m: written as a_m-12345678.json: another target has a name like it" in told


def test_rounds_of_another_export_are_refused_and_those_of_the_same_name_replaced(tmp_path: Path) -> None:
    db = store(
        tmp_path / "s.duckdb",
        run("long", {"t": "model"}, (1, 2)),
        run("short", {"u": "Model"}, (1,), benign=False),
        run("other", {"v": "another"}, (1,), benign=False),
    )
    out = tmp_path / "out"
    before = written(db, "long", out)
    assert written(db, "long", out) == before
    with pytest.raises(InputError, match=r"1/benign/model\.json: is of another export"):
        written(db, "short", out)
    assert json.loads((out / "2/label/model.json").read_text())[0]["safety_label"] == "unsafe"
    # Files of other targets are rounds of their own.
    assert written(db, "other", out) == {"1/label/another.json": ["harm"]}


def test_a_file_that_cannot_be_written_leaves_all_as_it_was(tmp_path: Path) -> None:
    db = store(tmp_path / "s.duckdb", run("r", {"t": "model"}, (1, 2), benign=False))
    out = tmp_path / "out"
    (out / "1" / "label").mkdir(parents=True)
    (out / "1" / "label" / "model.json").write_text("before")
    (out / "2" / "label" / "model.json").mkdir(parents=True)
    with pytest.raises(InputError, match=r"2/label/model\.json"):
        written(db, "r", out)
    assert (out / "1" / "label" / "model.json").read_text() == "before"
    assert [path.name for path in (out / "1" / "label").iterdir()] == ["model.json"]
