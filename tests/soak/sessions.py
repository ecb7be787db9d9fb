"""Starts of the program."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from soak.report import BrokenError

# By seconds: RSS in MB, and open files.
Samples = list[tuple[float, float, int]]
ROOT = Path(__file__).resolve().parents[2]


def command(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """One command of the program, to its end."""
    return subprocess.run(
        [sys.executable, "-m", "safemt_client", *words],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )


@dataclass
class Ended:
    """How a session ended."""

    status: int
    err: str
    samples: Samples

    @property
    def errors(self) -> list[str]:
        return [line for line in self.err.splitlines() if line.strip()]


class Session:
    """One start of the program."""

    def __init__(
        self, words: Sequence[str], folder: Path, number: object, preexec: Callable[[], None] | None = None
    ) -> None:
        self.err = folder / f"session-{number}.err"
        self.out = self.err.with_suffix(".out")
        with self.err.open("w") as err, self.out.open("w") as out:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "safemt_client", *words],
                cwd=folder,
                env=os.environ | {"PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "default::ResourceWarning"},
                stdout=out,
                stderr=err,
                start_new_session=True,
                preexec_fn=preexec,
            )
        self.samples: Samples = []
        self._thread = threading.Thread(target=self._sample, daemon=True)
        self._thread.start()

    def _sample(self) -> None:
        proc, begin = Path(f"/proc/{self.process.pid}"), time.monotonic()
        while self.process.poll() is None:
            try:
                pages = int((proc / "statm").read_text().split()[1])
                files = len(os.listdir(proc / "fd"))
            except (OSError, IndexError):
                return
            megabytes = pages * resource.getpagesize() / 2**20
            self.samples.append((time.monotonic() - begin, megabytes, files))
            time.sleep(0.25)

    @property
    def over(self) -> bool:
        return self.process.poll() is not None

    def send(self, number: int) -> None:
        if not self.over:
            self.process.send_signal(number)

    def end(self, seconds: float) -> Ended:
        """Wait for its end; a process that does not end in time is killed, and that is a fault."""
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise BrokenError(f"a session did not end within {seconds:.0f} s: {self.err}") from None
        self._thread.join()
        return Ended(self.process.returncode, self.err.read_text(), self.samples)

    def children(self) -> int:
        """Processes that it left behind."""
        try:
            os.killpg(self.process.pid, 0)
        except ProcessLookupError:
            return 0
        return 1
