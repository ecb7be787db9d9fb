"""What is asked, and the endpoint that answers."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from soak.report import BrokenError

LENGTHS = (1, 2, 4, 6, 8)
TURNS_OF_AN_ITEM = sum(LENGTHS) + len(LENGTHS) - 1  # A single turn is the same request live and scripted.
HISTORIES = ("live", "scripted")
# US dollars per million tokens; each call of the endpoint states 50 in. What comes out is free: under a cap room is
# kept for the longest reply that might come, and small caps would let none begin.
PRICE = "10/0"
CALL_USD = 50 * 10 / 1e6
HERE = Path(__file__).resolve().parent


def write_data(path: Path, items: int) -> None:
    """Harmless dialogues of several lengths, all texts different."""
    with path.open("w") as file:
        for item in range(items):
            for length in LENGTHS:
                dialogue = []
                for turn in range(length - 1):
                    question = f"Garden {item}, walk {length}: what grows beside stone {turn}?"
                    dialogue.append({"role": "user", "content": question})
                    dialogue.append({"role": "assistant", "content": "Thyme, as a rule."})
                dialogue.append(
                    {"role": "user", "content": f"Please tell more of garden {item} on walk {length}."}
                )
                file.write(
                    json.dumps({"id": f"g_{item}", "scenario": "Gardens", "dialogue": dialogue}) + "\n"
                )


def until(done: Callable[[], bool], seconds: float, given_up: Callable[[], bool] = lambda: False) -> bool:
    """Wait until `done`; False when `given_up`, or after so many seconds."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if done():
            return True
        if given_up():
            return False
        time.sleep(0.02)
    return False


class Endpoint:
    """The endpoint in a process of its own."""

    def __init__(self, folder: Path, name: str, *words: str) -> None:
        self.log = folder / f"{name}.log"
        port = folder / f"{name}.port"
        script = str(HERE / "endpoint.py")
        self.process = subprocess.Popen(
            [sys.executable, script, str(port), str(self.log), *words], cwd=folder
        )
        until(port.exists, 20, lambda: self.process.poll() is not None)
        if not port.exists():
            raise BrokenError("the endpoint did not start")
        self.url = f"http://127.0.0.1:{port.read_text()}"

    def lines(self) -> int:
        return self.log.stat().st_size // 35 if self.log.exists() else 0

    def answers(self) -> Counter[str]:
        """How often each request was answered, by its hash."""
        if not self.log.exists():
            return Counter()
        return Counter(line[2:] for line in self.log.read_text().splitlines() if line[0] == "a")

    def connections(self) -> int:
        with urllib.request.urlopen(f"{self.url}/connections", timeout=10) as answer:
            return int(json.load(answer)["open"])

    @contextmanager
    def frozen(self) -> Iterator[None]:
        self.process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.process.send_signal(signal.SIGCONT)

    @contextmanager
    def down(self) -> Iterator[None]:
        """Off the network: connections break and are refused."""
        self.process.send_signal(signal.SIGUSR1)
        try:
            if not until(lambda: not self.listens(), 20):
                raise BrokenError("the endpoint did not go down")
            yield
        finally:
            self.process.send_signal(signal.SIGUSR2)
            if not until(self.listens, 20):
                raise BrokenError("the endpoint did not come back")

    def listens(self) -> bool:
        try:
            self.connections()
        except OSError:
            return False
        return True

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()
