"""Every way of having it: bare checkout, wheel, `pip install .` from inside and from elsewhere, `-e .`."""

from pathlib import Path

import pytest
from support.installed import OFFLINE, PIP, copy_sources, fresh_python, run


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return copy_sources(tmp_path / "source")


@pytest.fixture
def python(tmp_path: Path) -> str:
    return fresh_python(tmp_path / "venv")


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
    run(
        *PIP,
        "wheel",
        "--no-deps",
        "--no-index",
        "--no-build-isolation",
        "-w",
        str(tmp_path),
        str(source),
        cwd=tmp_path,
    )
    wheel = next(tmp_path.glob("*.whl"))
    run(*PIP, "--python", python, "install", *OFFLINE, str(wheel), cwd=tmp_path)
    works(python, empty, tmp_path / "venv")


@pytest.mark.slow
@pytest.mark.parametrize("inside", [True, False])
def test_install_from_a_checkout(
    inside: bool, source: Path, python: str, empty: Path, tmp_path: Path
) -> None:
    where = (".", source) if inside else (str(source), empty)
    run(*PIP, "--python", python, "install", *OFFLINE, where[0], cwd=where[1])
    works(python, empty, tmp_path / "venv")


@pytest.mark.slow
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
