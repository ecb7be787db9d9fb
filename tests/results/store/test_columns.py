"""Columns of Arrow from Python's values."""

import subprocess
import sys
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest

from safemt_client.results.store.columns import column

ROOT = Path(__file__).resolve().parents[3]
HERE = timezone(timedelta(hours=2))


@pytest.mark.parametrize(
    ("kind", "given", "stored"),
    [
        ("str", ["a", None, "", "ü", "\ud800"], ["a", None, "", "ü", "\\ud800"]),
        ("int", [2**62, None, -1, True], [2**62, None, -1, 1]),
        ("float", [0.5, None, 3], [0.5, None, 3.0]),
        ("bool", [True, False, None, *[True] * 9], [True, False, None, *[True] * 9]),
        (
            "datetime",
            [datetime(1960, 1, 1, 3, 4, 5, 6, HERE), None, datetime(2026, 7, 1, tzinfo=UTC)],
            [datetime(1960, 1, 1, 1, 4, 5, 6), None, datetime(2026, 7, 1)],
        ),
    ],
)
def test_what_is_given_is_stored(kind: str, given: list[object], stored: list[object]) -> None:
    made = column(kind, given)
    made.validate(full=True)
    assert made.to_pylist() == stored
    assert column(kind, []).to_pylist() == []


@pytest.mark.parametrize(("kind", "value"), [("int", 2.5), ("int", 2**64), ("float", "1"), ("str", 1)])
def test_another_type_is_refused_not_converted(kind: str, value: object) -> None:
    with pytest.raises((TypeError, OverflowError)):
        column(kind, [value])


def test_a_run_with_its_report_imports_neither_pandas_nor_scipy(tmp_path: Path) -> None:
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "import sys; from safemt_client.__main__ import main; "
            "assert main(['--provider', 'demo', '--limit', '2', '--quiet']) == 0; "
            "print(sorted(sys.modules.keys() & {'pandas', 'scipy', 'litellm', 'torch'}))",
        ],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT), "PATH": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.endswith("\n[]\n"), done.stdout + done.stderr
