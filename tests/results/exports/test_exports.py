"""Exports: what goes in comes out, harmless in every format; with --redact no text does."""

import csv
import io
import json
import os
import re
import subprocess
import zipfile
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml
from support.full import HOSTILE, TIME, fill, rows

from safemt_client.__main__ import main
from safemt_client.providers.errors import InputError
from safemt_client.results.exports import FORMATS, export
from safemt_client.results.exports.files import partial
from safemt_client.results.exports.tables import TABLES, Dump
from safemt_client.results.store.reader import Reader, open_reader
from safemt_client.results.store.rows import HumanLabelRow
from safemt_client.results.store.server import server_file
from safemt_client.results.store.store import Store

ROOT = Path(__file__).resolve().parents[3]
INSPECT = ROOT / ".venv-inspect" / "bin" / "python"
WRITTEN = [form for form in FORMATS if form not in ("reference", "facts")]


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fill(tmp_path_factory.mktemp("hostile") / "d.duckdb", HOSTILE)


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fill(
        tmp_path_factory.mktemp("planted") / "d.duckdb", [f"planted words {n}, kept" for n in range(8)]
    )


def written(db: Path, form: str, folder: Path, redact: bool = False) -> list[Path]:
    with open_reader(db) as reader:
        return export(reader, form, None, folder, redact=redact)


Exports = Callable[[str, bool], Path]


@pytest.fixture(scope="module")
def exports(planted: Path, tmp_path_factory: pytest.TempPathFactory) -> Exports:
    """The folder of the planted store's export in a form, redacted or not; it is written once and only read."""

    @cache
    def export_once(form: str, redact: bool) -> Path:
        folder = tmp_path_factory.mktemp(form) / "out"
        paths = written(planted, form, folder, redact)
        assert sorted(paths) == files_in(folder)
        return folder

    return export_once


def files_in(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def content(path: Path) -> str:
    """All that a file holds, unpacked."""
    if path.suffix == ".parquet":
        table = pq.read_table(path)
        return repr(table.to_pylist()) + repr(table.schema) + path.read_bytes().decode("latin-1")
    if path.suffix == ".eval":
        with zipfile.ZipFile(path) as archive:
            assert archive.testzip() is None
            return "\n".join(name + archive.read(name).decode() for name in archive.namelist())
    return path.read_text(encoding="utf-8")


@pytest.mark.parametrize("form", FORMATS)
def test_redacted_holds_no_text(form: str, exports: Exports) -> None:
    folder = exports(form, True)
    for path in (paths := files_in(folder)):
        assert "planted words" not in content(path), path
        assert "planted" not in str(path.relative_to(folder))
    everything = "\n".join(map(content, paths))
    assert "unsafe" in everything
    if form != "reference":
        # Facts have numbers in place of hashes, and no messages.
        assert form == "facts" or "q1" in everything
        assert "parse_failure" in everything
        assert "Fraud" in everything
        assert form == "facts" or "i" * 64 in everything


@pytest.mark.parametrize("form", WRITTEN)
def test_without_redact_the_texts_are_there(form: str, exports: Exports) -> None:
    everything = "\n".join(map(content, files_in(exports(form, False))))
    for number in range(8):
        assert f"planted words {number}, kept" in everything


@pytest.mark.parametrize("redact", [False, True])
@pytest.mark.parametrize("form", FORMATS)
def test_no_key_of_an_address_is_written(form: str, redact: bool, exports: Exports) -> None:
    for path in files_in(exports(form, redact)):
        assert "sk-planted" not in content(path), path
        assert "sk-planted" not in str(path)


def test_what_redact_keeps_is_decided_here() -> None:
    kept = {table.name: [c.name for c in table.columns if c.kind == "text"] for table in TABLES}
    assert {name: columns for name, columns in kept.items() if columns} == {
        "conversations": ["question", "detail", "reply", "explanation"],
        "turns": ["reply", "reasoning", "error"],
        "verdicts": ["explanation"],
        "assessments": ["intent", "policy", "error"],
        **{"human_labels": ["note"], "comments": ["text"], "runs": ["dataset_path"]},
        "targets": ["system_prompt"],
    }


def test_redact_refuses_a_folder_that_holds_other_files(planted: Path, tmp_path: Path) -> None:
    written(planted, "csv", tmp_path)
    with pytest.raises(InputError, match="empty folder"):
        written(planted, "jsonl", tmp_path, redact=True)
    # Its own files are replaced.
    written(planted, "csv", tmp_path, redact=True)
    assert "planted words" not in "".join(path.read_text() for path in tmp_path.iterdir())


def test_csv_is_harmless_and_well_formed(hostile: Path, tmp_path: Path) -> None:
    csv.field_size_limit(2**27)
    for path in written(hostile, "csv", tmp_path):
        raw = path.read_bytes().decode("utf-8")
        assert not set(raw) & set("\x00\x1b\x9b\u202e\u2066")
        with path.open(newline="", encoding="utf-8") as file:
            lines = list(csv.reader(file, strict=True))
        assert {len(line) for line in lines} == {len(lines[0])}
        cells = [cell for line in lines for cell in line]
        assert not [cell for cell in cells if cell[:1] and cell[0] in "=+-@\t\r\n＝＋－＠"]
        assert raw.count("\r\n") >= len(lines)
    with (tmp_path / "turns.csv").open(newline="", encoding="utf-8") as file:
        replies = [row["reply"] for row in csv.DictReader(file)]
    assert "m" * 1_000_000 in replies
    assert 'quote " comma , line\nbreak' in replies
    assert "'=cmd|' /C calc'!A0" in replies
    assert "\\x1b[31mred\\x1b[0m" in replies


def test_json_lines_are_exact_and_harmless(hostile: Path, tmp_path: Path) -> None:
    for path in written(hostile, "jsonl", tmp_path):
        raw = path.read_text(encoding="utf-8")
        assert not set(raw) & set("\x00\x1b\x9b\u202e\u2066\u2028\r")
        found = [json.loads(line) for line in raw.split("\n")[:-1]]
        if path.stem == "turns":
            assert [row["reply"] for row in found] == in_order(HOSTILE)
            assert found[0]["messages"] == [{"role": "user", "content": HOSTILE[0], "images": ["i" * 64]}]
        if path.stem == "verdicts":
            assert {row["cost_usd"] for row in found} == {None}


def in_order(texts: list[str]) -> list[str]:
    """As their items sort: by name."""
    return [text for _, text in sorted((f"../item/{n}", text) for n, text in enumerate(texts))]


@pytest.mark.parametrize("form", ["parquet", "huggingface"])
def test_parquet_is_exact_and_typed(form: str, hostile: Path, tmp_path: Path) -> None:
    written(hostile, form, tmp_path)
    folder = tmp_path / "data" if form == "huggingface" else tmp_path
    turns = pq.read_table(folder / "turns.parquet")
    assert turns["reply"].to_pylist() == in_order(HOSTILE)
    assert turns["started_at"].to_pylist()[0] == TIME
    conversations = pq.read_table(folder / "conversations.parquet").to_pylist()
    assert len(conversations) == len(HOSTILE) + 1
    row = next(row for row in conversations if row["dialogue_key"] == "d:0")
    assert (row["label"], row["latency_s"], row["cost_usd"], row["prompt_tokens"]) == ("unsafe", 1.5, 0.5, 3)
    assert (row["detected"], row["intervention"], row["severity"]) == (True, "none", 3)
    missing = next(row for row in conversations if row["dialogue_key"] == "d:none")
    assert (missing["state"], missing["label"], missing["reason"]) == ("not_attempted", None, None)
    assert "is missing" in missing["detail"]


def test_the_card_of_a_data_set(hostile: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written(hostile, "huggingface", tmp_path / "set")
    card = (tmp_path / "set" / "README.md").read_text(encoding="utf-8")
    assert not set(card) & set("\x00\x1b\u202e")
    head = yaml.safe_load(card.split("---\n")[1])
    assert head["license"] == "cc-by-nc-4.0"
    files = {config["config_name"]: config["data_files"] for config in head["configs"]}
    assert set(files) == {table.name for table in TABLES}
    assert [c["config_name"] for c in head["configs"] if c.get("default")] == ["conversations"]
    for name, file in files.items():
        assert pq.read_table(tmp_path / "set" / file).num_rows > 0, name
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    import datasets

    for name in files:
        loaded = datasets.load_dataset(str(tmp_path / "set"), name, cache_dir=str(tmp_path / "cache"))
        assert loaded["train"].num_rows == pq.read_table(tmp_path / "set" / files[name]).num_rows


def test_a_table_without_rows_is_no_part_of_a_data_set(planted: Path, tmp_path: Path) -> None:
    copy = tmp_path / "d.duckdb"
    with Store.open(copy) as store:
        store.save_now(*(row for row in rows(["a"]) if not isinstance(row, HumanLabelRow)))
    written(planted, "huggingface", tmp_path / "set")
    assert (tmp_path / "set" / "data" / "human_labels.parquet").exists()
    written(copy, "huggingface", tmp_path / "set")
    assert not (tmp_path / "set" / "data" / "human_labels.parquet").exists()
    assert "human_labels" not in (tmp_path / "set" / "README.md").read_text()


def test_a_log_of_inspect_is_a_harmless_archive(hostile: Path, tmp_path: Path) -> None:
    (path,) = written(hostile, "inspect", tmp_path)
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        assert len(names) == len(set(names)) == len(HOSTILE) + 2
        for name in names:
            assert re.fullmatch(r"(samples/)?[\w.@-]+\.json", name)
            assert ".." not in name
            raw = archive.read(name)
            assert raw.isascii()
            assert not set(raw) & {0, 0x1B}
        sample = json.loads(archive.read("samples/-item-9-1_epoch_1.json"))
    assert sample["messages"][0]["content"].endswith(HOSTILE[9])
    assert sample["output"]["completion"] == HOSTILE[9]
    assert sample["scores"]["judge"]["value"] == "unsafe"


READ = """
import json, sys
from inspect_ai.analysis import evals_df, messages_df, samples_df
from inspect_ai.log import list_eval_logs, read_eval_log, read_eval_log_sample_summaries
folder = sys.argv[1]
(info,) = list_eval_logs(folder)
log = read_eval_log(info)
samples, evals, messages = samples_df(folder), evals_df(folder), messages_df(folder)
print(json.dumps({
    "status": log.status, "model": log.eval.model, "task": info.task, "id": info.task_id,
    "texts": [sample.output.completion for sample in log.samples],
    "roles": [[message.role for message in sample.messages] for sample in log.samples],
    "scores": [sample.scores["judge"].value for sample in log.samples],
    "errors": sum(sample.error is not None for sample in log.samples),
    "summaries": len(read_eval_log_sample_summaries(info)),
    "asr": log.results.scores[0].metrics["asr"].value,
    "frame": samples["score_judge"].tolist(), "scenarios": samples["metadata_scenario"].tolist(),
    "evals": len(evals), "messages": len(messages),
}))
"""


@pytest.mark.slow
@pytest.mark.skipif(
    not INSPECT.exists(),
    reason="inspect_ai is not here: make .venv-inspect/.installed",
)
@pytest.mark.parametrize("redact", [False, True])
def test_inspect_reads_its_log(redact: bool, hostile: Path, tmp_path: Path) -> None:
    written(hostile, "inspect", tmp_path / "logs", redact)
    done = subprocess.run(
        [str(INSPECT), "-c", READ, str(tmp_path / "logs")],
        cwd=tmp_path,
        env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["status"] == "success"
    assert (found["model"], found["id"], found["errors"]) == ("p/m", "t", 1)
    assert found["summaries"] == len(found["frame"]) == len(HOSTILE)
    assert found["evals"] == 1
    assert found["messages"] == 2 * len(HOSTILE) - 1
    assert sorted(found["scores"]) == sorted(found["frame"])
    # One failed, one is unscored.
    assert found["scores"].count("unsafe") == len(HOSTILE) - 1
    assert set(found["scenarios"]) == {"Fraud"}
    if redact:
        assert set(found["texts"]) == {"", "[left out]"}
    else:
        assert set(found["texts"]) == {*HOSTILE, ""} - {HOSTILE[3]}


@pytest.mark.parametrize("form", [form for form in FORMATS if form != "facts"])
def test_the_same_results_are_the_same_bytes(
    form: str, planted: Path, exports: Exports, tmp_path: Path
) -> None:
    written(planted, form, tmp_path)
    first, second = exports(form, False), tmp_path
    names = [path.relative_to(second) for path in files_in(second)]
    assert names == [path.relative_to(first) for path in files_in(first)] != []
    assert [(first / name).read_bytes() for name in names] == [(second / name).read_bytes() for name in names]


def half(path: Path) -> None:
    with partial(path) as part:
        part.write_text("half")
        raise ZeroDivisionError


def test_a_file_appears_only_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "f.csv"
    path.write_text("before")
    with pytest.raises(ZeroDivisionError):
        half(path)
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_text("mine")
    path.with_name("f.csv.part").symlink_to(elsewhere)
    with partial(path) as part:
        part.write_text("whole")
    assert (path.read_text(), elsewhere.read_text()) == ("whole", "mine")


def test_of_a_run_that_goes_on_the_same_is_written(tmp_path: Path) -> None:
    path = fill(tmp_path / "d.duckdb", HOSTILE)
    with Store.open(path) as store:
        where = json.loads(server_file(path).read_text())
        asked, own = (
            [list(Dump(reader, "r", None).records(table)) for table in TABLES]
            for reader in (Reader(path, None, where["token"], where["port"]), store)
        )
    assert asked == own


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--run", "nope", "--out", "x"], "run nope: not in this store"),
        (["--out", "file/below"], "name another folder with --out"),
        (["--out", "file"], "name another folder with --out"),
    ],
)
@pytest.mark.parametrize("form", FORMATS)
def test_bad_input_is_one_line(
    words: list[str],
    told: str,
    form: str,
    planted: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("file").write_text("mine")
    assert main(["export", "--db", str(planted), "--format", form, *words]) == 2
    error = capsys.readouterr().err
    assert told in error
    assert error.count("\n") == 1
    assert Path("file").read_text() == "mine"


def test_the_command_names_what_it_wrote(
    planted: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert main(["export", "--db", str(planted), "--format", "csv", "--redact", "--out", str(out)]) == 0
    assert capsys.readouterr().out.split() == [str(out / f"{table.name}.csv") for table in TABLES]
    assert next(csv.reader(io.StringIO((out / "turns.csv").read_text())))[0] == "run_id"
