"""The program in its own process, with its peak memory; and data for it."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from .program import ROOT

# VmHWM is this program's own; what getrusage reports includes its parent's.
MEASURED = """
import sys
from safemt_client.__main__ import main
status = main(sys.argv[1:])
peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))
print("peak", int(peak.split()[1]) // 1024, file=sys.stderr)
sys.exit(status)
"""
TURN = {"role": "user", "content": "hello"}


def run(folder: Path, *words: str, most_s: float = 60) -> tuple[int, list[str], int]:
    """Exit status, lines of stderr and the peak of memory in MiB."""
    begun = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", MEASURED, *words],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        timeout=most_s,
        check=False,
    )
    assert time.monotonic() - begun < most_s
    *lines, peak = done.stderr.decode().splitlines()
    return done.returncode, lines, int(peak.split()[1])


def refused(folder: Path, name: str, said: str, most_mib: int = 450) -> None:
    status, lines, peak = run(folder, "data", "check", name)
    assert status == 2
    assert len(lines) == 1, lines
    assert said in lines[0]
    assert len(lines[0]) < 2_100
    assert peak < most_mib


def write(path: Path, *records: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path
