"""The examples of docs/api.md run as they stand, one after another."""

import re
from pathlib import Path

import pytest

import safemt_client as safemt

PAGE = Path(__file__).resolve().parents[2] / "docs" / "api.md"


def test_the_examples_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("altair")  # the extra `report`
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    for example in re.findall(r"^```python\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.M | re.S):
        exec(compile(example, str(PAGE), "exec"), names)
    printed = capsys.readouterr().out
    assert "done 1.0 0\n" in printed
    assert "25 of " in printed
    assert (tmp_path / "report.html").is_file()


def test_every_public_function_and_error_is_explained() -> None:
    text = PAGE.read_text(encoding="utf-8")
    wanted = [
        name for name in safemt.__all__ if name.islower() or name.endswith(("Error", "Result", "Table"))
    ]
    assert wanted
    assert [name for name in wanted if f"`{name}`" not in text] == []
