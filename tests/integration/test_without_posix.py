"""The program where the modules and calls of Unix are missing, as on Windows: what it can do, it does.

They are taken away in a process of its own. This shows that the program does not need them, not that it runs there.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
WITHOUT = """
import asyncio, multiprocessing, os, shutil, signal, subprocess, sys, tempfile, threading
import aiohttp, anyio._backends._asyncio, duckdb, httpx, numpy, rich, scipy.stats

for name in ("resource", "fcntl", "pwd", "grp", "termios"):
    sys.modules[name] = None
for name in ("getuid", "geteuid", "fchmod", "killpg", "fork", "set_blocking", "O_NOFOLLOW", "O_NONBLOCK", "O_CLOEXEC"):
    delattr(os, name)
for name in ("SIGHUP", "SIGKILL"):
    delattr(signal, name)

def cannot(*wanted):
    raise NotImplementedError

import anyio
anyio.open_signal_receiver = cannot
from safemt_client.providers import signals
signals._LOOPS_HEAR = False
from safemt_client.__main__ import main
"""


def without(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", WITHOUT + code],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )


def test_a_run_its_report_and_its_command_at_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tell.py").write_text("open('told', 'w').write('done')")
    done = without(
        "from pathlib import Path\n"
        "words = ['--provider', 'demo', '--limit', '2', '--turns', '1,2', '--on-finish']\n"
        "assert main([*words, f'{sys.executable} tell.py']) == 0\n"
        "assert Path('told').read_text() == 'done'\n"
        "assert main(['report', '--md', 'r.md']) == 0\n"
        "assert main(['export', '--out', 'out']) == 0\n"
        "assert main(['doctor']) == 0\n"
        "from safemt_client.providers.keys import find_key\n"
        "Path('key').write_text('sk-planted-42')\n"
        "assert find_key('X_API_KEY', {'X_API_KEY_FILE': 'key'}) == 'sk-planted-42'\n"
        "Path('link.log').symlink_to('told')\n"
        "assert main([*words[:-1], '--log', 'link.log', '--fresh']) == 2\n"
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "is a link, and links are not followed" in done.stderr


def test_ctrl_c_lets_calls_in_flight_finish(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    done = without(
        "sys.argv = ['safemt', '--provider', 'demo']\n"
        "from safemt_client.engine.recorder import Recorder\n"
        "before, told = Recorder.save_turn, []\n"
        "async def save(self, *given, **named):\n"
        "    if not told:\n"
        "        told.append(os.kill(os.getpid(), signal.SIGINT))\n"
        "    return await before(self, *given, **named)\n"
        "Recorder.save_turn = save\n"
        "sys.exit(main(['--provider', 'demo', '--rpm', '60', '--max-concurrency', '1']))\n"
    )
    assert done.returncode == 1, done.stdout + done.stderr
    assert "interrupted: stopped early; continue with:" in done.stdout
    assert "Traceback" not in done.stderr
