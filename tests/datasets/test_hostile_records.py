"""Data that mean harm: one clear line each, in bounded time and memory."""

import os
import time
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
from support.faults import answer
from support.measured import TURN, refused, write
from support.program import against

from safemt_client.__main__ import main
from safemt_client.datasets import files, open_dataset
from safemt_client.providers.errors import InputError

IDS = [
    "'; DROP TABLE turns; --",
    "\"; ATTACH 'x' AS y; --",
    "../../../../tmp/escaped",
    "..\\..\\windows",
    "/etc/passwd",
    "\x1b]0;owned\x07\x1b[2J\x1b[31mred",
    "nul\x00nul",
    "\u202egnihtemos",
    "two\nlines\r\x1b[A",
    "[bold]markup[/]",
    "{{ 7 * 7 }}",
    "CON",
    ".",
    "..",
    "a" * 5_000,
    "%s%n%x",
    "=cmd|' /C calc'!A0",
]


def test_ten_gigabytes_on_one_line(tmp_path: Path) -> None:
    with (tmp_path / "a.jsonl").open("wb") as file:
        file.truncate(10 * 2**30)
    refused(tmp_path, "a.jsonl", "larger than")


def test_a_line_that_is_too_long(tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", {"id": "a", "dialogue": [TURN]})
    with (tmp_path / "a.jsonl").open("r+b") as file:
        file.seek(0, 2)
        file.truncate(400 * 2**20)
    refused(tmp_path, "a.jsonl", "line 2: longer than")


def test_a_huge_array(tmp_path: Path) -> None:
    (tmp_path / "Data").mkdir()
    with (tmp_path / "Data" / "1_turn.json").open("wb") as file:
        file.truncate(10 * 2**30)
    refused(tmp_path, ".", "convert it to .jsonl")


def test_what_never_ends_is_no_file(tmp_path: Path) -> None:
    (tmp_path / "Data").mkdir()
    os.mkfifo(tmp_path / "Data" / "1_turn.json")
    refused(tmp_path, ".", "is not a regular file")
    os.mkfifo(tmp_path / "a.jsonl")
    refused(tmp_path, "a.jsonl", "no such file")
    (tmp_path / "b.jsonl").symlink_to("/dev/zero")
    refused(tmp_path, "b.jsonl", "no such file")


def test_many_small_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "_MAX_RECORDS", 10)
    (tmp_path / "a.jsonl").write_text("\n" * 11)
    with pytest.raises(InputError, match="more than 10 lines"):
        open_dataset(str(tmp_path / "a.jsonl"))


@pytest.mark.slow
def test_a_table_that_unpacks_to_gigabytes(tmp_path: Path) -> None:
    column = pyarrow.array(["x" * 2**20] * 900)
    table = pyarrow.table({"id": pyarrow.array(range(900)), "dialogue": column})
    (tmp_path / "Data").mkdir()
    pyarrow.parquet.write_table(
        table, tmp_path / "Data" / "1_turn.parquet", compression="zstd", use_dictionary=False
    )
    assert (tmp_path / "Data" / "1_turn.parquet").stat().st_size < 2**22
    refused(tmp_path, ".", "split it", most_mib=900)
    pyarrow.parquet.write_table(table, tmp_path / "Data" / "1_turn.parquet", use_dictionary=True)
    refused(tmp_path, ".", "split it", most_mib=900)


@pytest.mark.parametrize("content", [b"", b"PAR1", b"PAR1" + b"\xff" * 100 + b"PAR1", b"{}" * 100])
def test_a_broken_table(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "1_turn.parquet").write_bytes(content)
    with pytest.raises(InputError, match="not Parquet") as caught:
        open_dataset(str(tmp_path))
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (b"[" * 1_000_000, "not JSON"),
        (b'{"a":' * 1_000_000, "not JSON"),
        (b"[" * 50_000 + b"]" * 50_000, "not JSON"),
        (b'{"id": "a", "dialogue": "\xff\xfe"}', "not JSON in UTF-8"),
        (b'{"id": "a", "dialogue": "\xed\xa0\x80"}', "field dialogue"),
        (b'{"id": ' + b"9" * 5_000 + b"}", "not JSON"),
        (b"\x00", "not JSON"),
        (b"NaN", "is not a JSON object"),
        (b"null", "is not a JSON object"),
        (b'{"id": 1e999, "dialogue": []}', "field id"),
        (b'{"id": "", "dialogue": []}', "field id"),
        (b'{"id": "a \\ud800", "dialogue": []}', "an unpaired surrogate"),
        (b'{"question_id": "a \\ud800", "turns": ["x"]}', "an unpaired surrogate"),
        (b'{"id": "a", "dialogue": {"role": "user"}}', "list of messages"),
        (b'{"id": "a", "dialogue": [[[[]]]]}', "is not a JSON object"),
        (b'{"id": "a", "dialogue": [{"role": ["user"], "content": "x"}]}', "field role"),
        (b'{"id": "a", "dialogue": [{"role": "user", "content": {"a": 1}}]}', "field content"),
        (b'{"id": "a", "image_path": [5], "dialogue": [{"role": "user", "content": "a"}]}', "image_path"),
        (b'{"question_id": {"a": [1]}, "turns": ["x"]}', "question_id"),
        (b'{"question_id": 1, "turns": ["x"], "category": [1]}', "category"),
    ],
)
@pytest.mark.parametrize("form", ["a.jsonl", "1_turn.json"])
def test_a_record_of_a_wrong_shape_is_one_line(line: bytes, said: str, form: str, tmp_path: Path) -> None:
    (tmp_path / form).write_bytes(line if form == "a.jsonl" else b"[" + line + b"]")
    with pytest.raises(InputError) as caught:
        open_dataset(str(tmp_path / form if form == "a.jsonl" else tmp_path))
    assert len(str(caught.value).splitlines()) == 1
    assert len(str(caught.value)) < 500
    if form == "a.jsonl":
        assert said in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os').system('touch made')",
        "[{'role': 'user', 'content': __import__('os').getcwd()}]",
        "[{'role': 'user', 'content': open('/etc/passwd').read()}]",
        "[x for x in ().__class__.__base__.__subclasses__()]",
        'f\'{__import__("os").system("touch made")}\'',
        "lambda: 1",
        "[{'role': 'user', 'content': 'a'}] * 10**9",
        "'a' * 10**9",
        "9**9**9",
        "9" * 100_000,
        "(" * 100_000,
        "[" * 5_000 + "]" * 5_000,
        "-" * 100_000 + "1",
        "1" + "+1" * 100_000,
        "not " * 50_000 + "1",
        "a" + ".a" * 100_000,
        "{[]: 1}",
        "{{}}",
        "{1, 2, []}",
        "'\\N{NO SUCH NAME}'",
        "'\x00'",
        "b'\\xff'",
        "'unclosed",
        "\ud800",
        "{" * 2_000_000,
        "",
        "...",
    ],
)
def test_a_python_literal_is_read_without_running_anything(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = write(tmp_path / "a.jsonl", {"id": "a", "dialogue": text})
    begun = time.monotonic()
    with pytest.raises(InputError) as caught:
        open_dataset(str(path))
    assert time.monotonic() - begun < 20
    assert len(str(caught.value).splitlines()) == 1
    assert "field dialogue" in str(caught.value)
    assert [found.name for found in tmp_path.iterdir()] == ["a.jsonl"]


def test_large_literals_take_bounded_memory(tmp_path: Path) -> None:
    for n, text in enumerate(
        (
            "[" + "[],[1]," * 140_000 + "]",
            "-" * 900_000 + "1",
            "1" + "+1" * 450_000,
            "{" + "1:{}," * 190_000 + "}",
        )
    ):
        write(tmp_path / f"{n}.jsonl", {"id": "a", "dialogue": text})
        refused(tmp_path, f"{n}.jsonl", "dialogue", most_mib=1_200)


def test_a_good_literal_is_taken(tmp_path: Path) -> None:
    good = "[{'role': 'user', 'content': 'it\\'s \\d'},]"
    found = open_dataset(str(write(tmp_path / "a.jsonl", {"id": "a", "dialogue": good})))
    assert found.dialogues[0].messages[0].text == "it's \\d"


@pytest.mark.parametrize(
    "spec", ["a\0b", "x" * 100_000, "x" * 300, "\ud800", "\x1b[31m", "", "/dev/zero", "/dev/null"]
)
def test_a_name_that_is_none(spec: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "check", spec]) == 2
    err = capsys.readouterr().err
    assert len(err.splitlines()) == 1
    assert len(err) < 2_200
    assert "\x1b" not in err


def test_ids_that_act(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    inside = tmp_path / "in"
    inside.mkdir()
    write(inside / "a.jsonl", *({"id": item, "scenario": item[:300], "dialogue": [TURN]} for item in IDS))
    monkeypatch.chdir(inside)
    status, endpoint = against(
        [],
        answer("\x1b[31mhello\x1b[0m"),
        *(
            "--provider",
            "m@URL",
            "--data",
            "a.jsonl",
            "--judge",
            "j@URL",
            "--max-wait",
            "0",
            "--min-coverage",
            "0",
        ),
    )
    out = (inside / "out").read_bytes()
    assert status == 0, out
    assert b"\x1b]0" not in out
    assert b"Traceback" not in out
    # All say the same: the model is asked once, and the judge once and for a repair.
    assert len(endpoint.requests) == 3
    for words in (
        ["report"],
        ["report", "--md", "r.md"],
        ["sql", "FROM replies"],
        ["sql", "FROM dialogues"],
        ["runs"],
    ):
        capsys.readouterr()
        assert main(words) == 0
        shown = "".join(capsys.readouterr())
        assert "\x1b" not in shown
        assert "\u202e" not in shown
    for form in ("reference", "parquet", "csv", "jsonl", "inspect", "huggingface"):
        assert main(["export", "--format", form, "--out", f"exported/{form}"]) == 0
    assert main(["sql", "SELECT count(DISTINCT item_id) FROM dialogues"]) == 0
    assert {path.name for path in tmp_path.iterdir()} == {"in"}
    assert not Path("/tmp/escaped").exists()
    # Every file lies where it was asked for.
    assert {path.name for path in inside.iterdir()} <= {
        *("a.jsonl", "out", "exported", "r.md", "safemt.duckdb", "safemt.duckdb.wal"),
        *(path.name for path in inside.glob("safemt.duckdb.*.log*")),
    }
