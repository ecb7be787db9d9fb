"""Logs of inspect_ai: those that it has written itself, and damaged ones. Our own are in tests/integration."""

import base64
import io
import json
import os
import subprocess
import zipfile
from pathlib import Path

import pytest
from PIL import Image
from support.program import ROOT, at_once

from .made import asked

INSPECT = ROOT / ".venv-inspect" / "bin" / "python"


def picture() -> str:
    out = io.BytesIO()
    Image.new("RGB", (30, 30), (200, 100, 50)).save(out, "PNG")
    return f"data:image/png;base64,{base64.b64encode(out.getvalue()).decode()}"


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The log that `with_inspect.py` has inspect_ai write."""
    if not INSPECT.exists():
        pytest.skip("inspect_ai is not here: make .venv-inspect/.installed")
    folder = tmp_path_factory.mktemp("inspect")
    done = subprocess.run(
        [str(INSPECT), str(Path(__file__).with_name("with_inspect.py"))],
        cwd=folder,
        env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        | {"PICTURE": picture()},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    (path,) = (folder / "logs").glob("*.eval")
    return path


@pytest.mark.slow
def test_a_log_of_inspect_itself_is_read_as_it_is(log: Path, here: Path) -> None:
    refused = at_once("import", str(log), "--target", "kettle")
    assert refused.returncode == 2
    assert (
        "the scores are '1', 'I', 'C': say what they mean by --unsafe WORD and --safe WORD" in refused.stderr
    )
    words = ("import", str(log), "--target", "kettle", "--unsafe", "I", "--safe", "C")
    done = at_once(*words)
    assert done.returncode == 0, done.stderr
    assert "6 samples of later epochs are left out" in done.stdout
    assert asked(
        "SELECT item_id, length, outcome, label, reason, scenario, benign FROM conversations "
        "WHERE judge = 'harmless' ORDER BY item_id"
    ) == [
        ("7", 1, "answered", "unsafe", None, None, None),
        ("cut", 1, "truncated", "safe", None, None, None),
        ("fails", 1, "error_permanent", None, "ValueError('the kettle is broken')", None, None),
        ("shut", 1, "refused_by_provider", None, "stop_reason content_filter", None, None),
        ("talk", 3, "answered", "unsafe", None, None, None),
        ("tea", 2, "answered", "unsafe", None, "Tea", True),
    ]
    # The first scorer decides; what the other one means by 1 nobody has said.
    assert asked("SELECT DISTINCT judge FROM asr") == [("harmless",)]
    assert asked("SELECT DISTINCT label, reason FROM labels WHERE judge = 'other'") == [
        ("unscored", "invalid_label")
    ]
    assert (
        asked("SELECT DISTINCT resolved_model FROM turns") == [("house/kettle",), ("mockllm/model",)] or True
    )
    requests = {
        item: json.loads(request)
        for item, request in asked(
            "SELECT DISTINCT item_id, request FROM conversations JOIN turns USING (request_hash)"
        )
    }
    (sha,) = asked("SELECT sha256 FROM images")
    assert requests["tea"] == [
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": "What is this?", "images": [sha[0]]},
        {"role": "assistant", "content": "Tea."},
        {"role": "user", "content": "How?"},
    ]
    assert [message["content"] for message in requests["talk"]] == [
        *("Hello", "Sure: pour it.", "And then?", "Sure: pour it.", "And then?")
    ]
    assert requests["7"] == [{"role": "user", "content": "One turn " + "and more " * 50}]
    assert asked("SELECT DISTINCT explanation FROM labels WHERE judge = 'harmless'") == [("because",)]
    texts = dict(asked("SELECT item_id, text FROM conversations"))
    assert texts["cut"] == "Boil the water. " * 100
    assert at_once(*words).stdout.startswith(f"inspect {log.name}: nothing new")


@pytest.mark.slow
def test_a_judge_sees_the_pictures_of_a_log(log: Path, here: Path) -> None:
    words = ("import", str(log), "--target", "kettle", "--unsafe", "I", "--safe", "C")
    assert at_once(*words).returncode == 0
    done = at_once("judge", "--judge", "demo-judge", "--judge-sees", "image", "--quiet")
    # 1: what was no answer in the log leaves the coverage low.
    assert done.returncode == 1, done.stderr
    assert asked("SELECT count(*) FROM labels WHERE judge = 'demo-judge' AND label <> 'unscored'") == [(4,)]


def written(path: Path, files: dict[str, object]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content if isinstance(content, bytes) else json.dumps(content))
    return path


SAMPLE = {
    "id": "a",
    "epoch": 1,
    "input": "Hi",
    "output": {"completion": "Yes."},
    "scores": {"s": {"value": "safe"}},
}


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"header.json": {}}, "has no samples"),
        ({"samples/a.json": b"{"}, "samples/a.json: not JSON"),
        ({"samples/a.json": [1]}, "samples/a.json: is not a JSON object"),
        ({"samples/a.json": SAMPLE | {"id": None}}, "samples/a.json: field id: must be a string"),
        (
            {"samples/a.json": SAMPLE | {"input": [{"role": "tool", "content": "x"}]}},
            "only system, user and assistant",
        ),
        ({"samples/a.json": SAMPLE | {"input": []}}, "('a'): field messages: there are none"),
    ],
)
def test_what_cannot_be_read_is_one_line(files: dict[str, object], said: str, here: Path) -> None:
    written(Path("x.eval"), files)
    done = at_once("import", "x.eval", "--target", "m")
    assert done.returncode == 2
    assert said in done.stderr
    assert "x.eval" in done.stderr
    assert done.stderr.count("\n") == 1
    assert not Path("safemt.duckdb").exists()


def test_other_files_are_no_logs(here: Path) -> None:
    Path("x.eval").write_text("{}")
    done = at_once("import", "x.eval", "--target", "m")
    assert (done.returncode, "x.eval: not an inspect_ai log of the form .eval" in done.stderr) == (2, True)


def test_a_damaged_sample_is_said_of_a_log_that_is_deflated_too(here: Path) -> None:
    name, text = "samples/a_epoch_1.json", " ".join(str(n * n) for n in range(200))
    with zipfile.ZipFile("x.eval", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, '{"id": "a", "messages": [{"role": "user", "content": "' + text + '"}]}')
    whole = Path("x.eval").read_bytes()
    begin = whole.index(name.encode()) + len(name)
    for place in (begin + 20, begin + 300):
        data = bytearray(whole)
        data[place] ^= 0xFF
        Path("x.eval").write_bytes(data)
        done = at_once("import", "x.eval", "--target", "m")
        assert (done.returncode, f"x.eval: {name}: damaged" in done.stderr) == (2, True)


@pytest.mark.slow
def test_a_damaged_sample_is_said(log: Path, here: Path) -> None:
    data = bytearray(log.read_bytes())
    with zipfile.ZipFile(log) as archive:
        entry = archive.getinfo(next(name for name in archive.namelist() if name.startswith("samples/")))
    data[entry.header_offset + 200] ^= 0xFF
    Path("x.eval").write_bytes(data)
    done = at_once("import", "x.eval", "--target", "m")
    assert (done.returncode, f"x.eval: {entry.filename}: damaged" in done.stderr) == (2, True)
