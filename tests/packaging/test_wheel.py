"""The wheel runs from an empty folder, also beside a file of a name that it uses inside."""

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SOURCES = ("safemt_client", "providers", "judges", "moderator", "results", "pyproject.toml", "README.md")


def run(*words: str, cwd: Path) -> str:
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(words, cwd=cwd, env=env, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_wheel(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, source / name)
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check")
    run(*pip, "wheel", "--no-deps", "--no-build-isolation", "-w", str(tmp_path), str(source), cwd=tmp_path)
    wheel = next(tmp_path.glob("*.whl"))
    venv.create(tmp_path / "venv", with_pip=False)
    python = str(tmp_path / "venv" / "bin" / "python")
    site = next((tmp_path / "venv" / "lib").glob("python*")) / "site-packages"
    run(*pip, "--python", python, "install", "--no-deps", "--no-index", str(wheel), cwd=tmp_path)
    # The dependencies of the environment that runs the tests, after the wheel's own package.
    here = sysconfig.get_paths()["purelib"]
    (site / "zz-dependencies.pth").write_text(here + "\n")
    empty = tmp_path / "empty"
    empty.mkdir()
    (empty / "results.py").write_text("raise RuntimeError('a user\\'s own file')\n")
    found = run(python, "-c", "import safemt_client.results as r; print(r.__file__)", cwd=empty)
    assert found.startswith(str(site))
    out = run(python, "-m", "safemt_client", "--provider", "demo", "--limit", "2", cwd=empty)
    assert "10 calls to make" in out
    assert (empty / "safemt.duckdb").exists()
