"""Import from Python: the same as the command."""

from pathlib import Path

import pytest
from support.program import at_once

import safemt_client as safemt

from .made import asked, put_csv

ROWS = [
    {"key": f"i{n}", "turns": 1, "answer": f"Reply {n}", "label": "I" if n % 2 else "C"} for n in range(4)
]
TABLES = "SELECT request_hash, label, reason FROM verdicts ORDER BY ALL"


def test_it_does_what_the_command_does(here: Path) -> None:
    put_csv(Path("t.csv"), ROWS)
    done = safemt.import_results(
        "t.csv",
        "m",
        "x.duckdb",
        fields={"id": "key", "reply": "answer"},
        safe="C",
        unsafe=["I"],
        label_by="mine",
    )
    assert (done.replies, done.labels, done.nothing_new) == (4, {"mine": {"unsafe": 2, "safe": 2}}, False)
    words = (
        "--field",
        "id=key",
        "--field",
        "reply=answer",
        "--safe",
        "C",
        "--unsafe",
        "I",
        "--label-by",
        "mine",
    )
    made = at_once("import", "t.csv", "--target", "m", *words, "--db", "y.duckdb")
    assert made.returncode == 0, made.stderr
    assert done.runs[-1] in made.stdout
    assert asked(TABLES, Path("x.duckdb")) == asked(TABLES, Path("y.duckdb"))
    with safemt.open("x.duckdb") as store:
        assert [row.asr for row in store.scores(done.runs[-1]).asr_by_turn] == [0.5]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"files": []}, "files: are none"),
        ({"safe": "x", "unsafe": "X"}, "--safe x: is also named by --unsafe"),
        ({"label_by": "a", "labels_by_people": "b"}, "--label-by, --labels-by-people"),
        ({"data_map": "m.toml"}, "--data-map: is about the data"),
        ({"format": "xml"}, "--format xml: no such format"),
    ],
)
def test_what_is_wrong_is_told_before_a_store_is_made(
    given: dict[str, object], said: str, here: Path
) -> None:
    put_csv(Path("t.csv"), ROWS)
    with pytest.raises(safemt.InputError, match=said):
        safemt.import_results(**({"files": "t.csv", "target": "m", "db": "x.duckdb"} | given))
    assert not Path("x.duckdb").exists()


def test_a_bad_row_near_the_end_leaves_nothing(here: Path) -> None:
    rows = [{"id": f"i{n}", "turns": 1, "reply": f"Reply {n}", "label": "safe"} for n in range(3000)]
    put_csv(Path("t.csv"), [*rows, rows[0] | {"reply": "Another"}])
    with pytest.raises(
        safemt.InputError, match=r"row 3001 \('i0'\): another reply of 'i0' with 1 turns than in"
    ):
        safemt.import_results("t.csv", "m", "x.duckdb")
    put_csv(Path("t.csv"), [*rows, rows[0] | {"label": "maybe", "id": "x"}])
    with pytest.raises(safemt.InputError, match="row 3001"):
        safemt.import_results("t.csv", "m", "x.duckdb")
    assert not Path("x.duckdb").exists()
