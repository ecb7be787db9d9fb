"""The program installed as users have it: a copy of its sources, and a fresh environment to put it in."""

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SOURCES = ("safemt_client", "providers", "judges", "moderator", "results", "pyproject.toml", "README.md")
PIP = (sys.executable, "-m", "pip", "--disable-pip-version-check")
# What is imported is compiled then: all of it would take longer.
OFFLINE = ("--no-deps", "--no-index", "--no-build-isolation", "--no-compile")


def run(*words: str, cwd: Path, status: int = 0, **env: str) -> str:
    """The output of a command, which must end with this status."""
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        words, cwd=cwd, env=clean | env, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout if status == 0 else done.stderr


def copy_sources(folder: Path) -> Path:
    """A copy of what is installed: building writes beside its sources."""
    folder.mkdir()
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, folder / name)
    return folder


def fresh_python(folder: Path) -> str:
    """The interpreter of a fresh environment that sees the dependencies of the one that runs the tests."""
    venv.create(folder, with_pip=False)
    site = next((folder / "lib").glob("python*")) / "site-packages"
    # After the environment's own packages, so that what is installed there wins.
    (site / "zz-dependencies.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    return str(folder / "bin" / "python")
