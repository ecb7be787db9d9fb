"""What benchmarks/README.md says of whole programs is made from what was measured."""

import json
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks"


def test_the_section_is_what_the_benchmark_makes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(FOLDER))
    written = __import__("written")
    try:
        results = json.loads(written.RESULTS.read_text())
        text = written.README.read_text()
    finally:
        for name in ("written", "measuring"):
            sys.modules.pop(name)
    assert written.written(text, results) == text, "run: python benchmarks/throughput.py --render"
    # A program that is not there or fails has no figures, and the others have theirs.
    of_200 = results["200"]
    of_200["programs"]["inspect_ai"] = {"failed": "not installed"}
    made = written.section(results)
    assert "| inspect_ai | not installed |" in made
    assert "at 1,000 connections*" in made
    assert "inspect_ai's at 200 connections" not in made
