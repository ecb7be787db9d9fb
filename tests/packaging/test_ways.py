"""Every way of having it: bare checkout, wheel, `pip install .` from inside and from elsewhere, `-e .`."""

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCES = ("safemt_client", "providers", "judges", "moderator", "results", "pyproject.toml", "README.md")
PIP = (sys.executable, "-m", "pip", "--disable-pip-version-check")
OFFLINE = ("--no-deps", "--no-index", "--no-build-isolation")


def run(*words: str, cwd: Path, **env: str) -> str:
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        words, cwd=cwd, env=clean | env, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    folder.mkdir()
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, folder / name)
    return folder


@pytest.fixture
def python(tmp_path: Path) -> str:
    """The interpreter of a fresh environment that sees the dependencies of the one that runs the tests."""
    venv.create(tmp_path / "venv", with_pip=False)
    site = next((tmp_path / "venv" / "lib").glob("python*")) / "site-packages"
    # After the environment's own packages, so that what is installed there wins.
    (site / "zz-dependencies.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    return str(tmp_path / "venv" / "bin" / "python")


@pytest.fixture
def empty(tmp_path: Path) -> Path:
    folder = tmp_path / "empty"
    folder.mkdir()
    (folder / "results.py").write_text("raise RuntimeError('a user\\'s own file')\n")
    return folder


def works(python: str, empty: Path, home: Path) -> None:
    found = run(python, "-c", "import safemt_client.results as r; print(r.__file__)", cwd=empty)
    assert found.startswith(str(home)), found
    out = run(python, "-m", "safemt_client", "--provider", "demo", "--limit", "2", cwd=empty)
    assert "10 calls to make" in out
    assert (empty / "safemt.duckdb").exists()
    assert "Safety Index" in run(str(Path(python).parent / "safemt"), "report", cwd=empty)


def test_wheel(source: Path, python: str, empty: Path, tmp_path: Path) -> None:
    run(*PIP, "wheel", "--no-deps", "--no-build-isolation", "-w", str(tmp_path), str(source), cwd=tmp_path)
    wheel = next(tmp_path.glob("*.whl"))
    run(*PIP, "--python", python, "install", "--no-deps", "--no-index", str(wheel), cwd=tmp_path)
    works(python, empty, tmp_path / "venv")


@pytest.mark.parametrize("inside", [True, False])
def test_install_from_a_checkout(
    inside: bool, source: Path, python: str, empty: Path, tmp_path: Path
) -> None:
    where = (".", source) if inside else (str(source), empty)
    run(*PIP, "--python", python, "install", *OFFLINE, where[0], cwd=where[1])
    works(python, empty, tmp_path / "venv")


@pytest.mark.parametrize("mode", ["strict", "compat", ""])
def test_editable(mode: str, source: Path, python: str, empty: Path) -> None:
    options = ("--config-settings", f"editable_mode={mode}") if mode else ()
    run(*PIP, "--python", python, "install", *OFFLINE, *options, "-e", ".", cwd=source)
    works(python, empty, source)


def test_bare_checkout(source: Path, empty: Path, python: str) -> None:
    found = run(python, "-m", "safemt_client", "--version", cwd=source)
    assert found.startswith("safemt_client 0")
    out = run(python, "-m", "safemt_client", *("--provider", "demo", "--limit", "1"), cwd=source)
    assert "5 calls to make" in out
    assert "safemt_client" in run(
        python, "-m", "safemt_client", "--version", cwd=empty, PYTHONPATH=str(source)
    )
