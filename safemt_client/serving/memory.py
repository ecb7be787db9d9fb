"""What this machine has: free memory, and cards."""

from __future__ import annotations

import subprocess
from functools import cache
from pathlib import Path

__all__ = ["Card", "cards", "free_memory", "has_accelerator", "in_words"]

Card = tuple[str, int, int]
"""The number of a GPU, its memory and what of it is free, in bytes."""

_DEVICES = ("/dev/nvidiactl", "/dev/kfd", "/dev/dxg", "/dev/accel")
"""What the drivers of NVIDIA, AMD, WSL and others put there."""


def free_memory() -> int | None:
    """Bytes of memory that a new program may take; None where nobody says."""
    try:
        text = Path("/proc/meminfo").read_text(encoding="ascii")
        free = (
            next(int(line.split()[1]) for line in text.splitlines() if line.startswith("MemAvailable:"))
            * 1024
        )
    except (OSError, ValueError, StopIteration):
        return None
    return min([free, *_of_group()])


def _of_group() -> list[int]:
    """Bytes that are left of the limit of a container."""
    group = Path("/sys/fs/cgroup")
    try:
        most = int((group / "memory.max").read_text())
        return [max(0, most - int((group / "memory.current").read_text()))]
    except (OSError, ValueError):
        return []  # no limit is the word max


def in_words(size: int) -> str:
    """Bytes for people."""
    return f"{size / 1e9:.1f} GB"


def has_accelerator() -> bool:
    """Whether a driver of a GPU is there."""
    return bool(cards()) or any(Path(device).exists() for device in _DEVICES)


@cache
def cards() -> tuple[Card, ...]:
    """NVIDIA's cards as their driver lists them; none without it."""
    words = ["nvidia-smi", "--query-gpu=index,memory.total,memory.free", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=30, check=True)
        rows = [line.split(",") for line in done.stdout.splitlines() if line.strip()]
        return tuple((row[0].strip(), int(row[1]) * 2**20, int(row[2]) * 2**20) for row in rows)
    except (OSError, subprocess.SubprocessError, ValueError, IndexError):
        return ()
