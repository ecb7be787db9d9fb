"""What is locked, audited, documented and built."""

import hashlib
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
LOCKED_EXTRAS = ("cluster", "fast", "hf", "otel", "report", "view")
EPOCH = 1_700_000_000


def tool(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"tools_{name}", ROOT / "tools" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def pins(name: str) -> dict[str, str]:
    found = re.findall(r"^([A-Za-z0-9._-]+)==([^\s\\]+)", (ROOT / name).read_text(), re.M)
    return {canonicalize_name(package): version for package, version in found}


def required(*extras: str) -> list[Requirement]:
    words = list(PROJECT["dependencies"])
    for extra in extras:
        words += PROJECT["optional-dependencies"][extra]
    return [one for one in map(Requirement, words) if one.name != "safemt-client"]


@pytest.mark.parametrize("name", ["constraints.txt", "constraints-hashed.txt"])
def test_every_pin_is_one_that_the_project_allows(name: str) -> None:
    pinned = pins(name)
    asked = required(*(LOCKED_EXTRAS if "hashed" in name else PROJECT["optional-dependencies"]))
    for one in asked:
        version = pinned.get(canonicalize_name(one.name))
        # inspect_ai has an environment of its own.
        if version is None and one.name == "inspect_ai":
            continue
        assert version is not None, f"{name} has no {one.name}"
        assert one.specifier.contains(version), f"{name}: {one.name} {version} is not in {one.specifier}"


def test_the_two_lists_of_pins_agree() -> None:
    constraints, hashed = pins("constraints.txt"), pins("constraints-hashed.txt")
    assert {name: version for name, version in hashed.items() if constraints.get(name) != version} == {}


@pytest.mark.parametrize("version", ["1.82.7", "1.82.8"])
def test_compromised_releases_are_excluded(version: str) -> None:
    (litellm,) = (one for one in required() if one.name == "litellm")
    assert not litellm.specifier.contains(version)
    assert version not in (pins("constraints.txt")["litellm"], pins("constraints-hashed.txt")["litellm"])


def test_every_locked_package_has_hashes_and_no_address() -> None:
    text = (ROOT / "constraints-hashed.txt").read_text()
    for block in re.split(r"^(?=\S)", text, flags=re.M):
        if block.strip():
            assert re.match(r"[A-Za-z0-9._-]+==\S+ \\\n( +--hash=sha256:[0-9a-f]{64}( \\)?\n)+$", block), (
                block
            )
    for name in ("constraints.txt", "constraints-hashed.txt"):
        assert not re.search(r"://|--(?:extra-)?index-url|--find-links|@ ", (ROOT / name).read_text())


def test_every_direct_dependency_is_documented_with_licence_and_reason() -> None:
    rows = [
        [cell.strip() for cell in line.strip("|\n ").split("|")]
        for line in (ROOT / "docs" / "dependencies.md").read_text().splitlines()
        if line.startswith("| `")
    ]
    core = sorted(row[0].strip("`") for row in rows if len(row) == 3)
    extras = sorted((row[0].strip("`"), row[1].strip("`")) for row in rows if len(row) == 4)
    assert core == sorted(Requirement(word).name for word in PROJECT["dependencies"])
    assert extras == sorted(
        (extra, one.name)
        for extra, words in PROJECT["optional-dependencies"].items()
        for one in map(Requirement, words)
        if one.name != "safemt-client"
    )
    assert all(cell for row in rows for cell in row)


FOUND = '{"dependencies": [{"name": "a", "version": "1", "vulns": [{"id": "X-1", "fix_versions": ["2"]}]}]}'
NONE = '{"dependencies": [{"name": "a", "version": "1", "vulns": []}]}'
PART = NONE.replace("]}]}", ']}, {"name": "b", "skip_reason": "not found"}]}')
SKIPPED = '{"dependencies": [{"name": "b", "skip_reason": "not found"}]}'


@pytest.mark.parametrize(
    ("stdout", "stderr", "status", "said"),
    [
        (FOUND, "", 1, "audit: a 1 has X-1, fixed in 2"),
        (NONE, "", 0, "audit: no known vulnerabilities in 1 packages"),
        (PART, "", 0, "audit: could not check 1: b"),
        (SKIPPED, "", 0, "audit: could not check any of 1 packages"),
        (
            "",
            "ERROR: Could not connect to the service",
            0,
            "audit: could not check for vulnerabilities",
        ),
        ("", "HTTPSConnectionPool: Max retries exceeded", 0, "audit: could not check"),
        (
            "",
            "Traceback\nValueError: no such option",
            2,
            "audit: pip-audit failed: ValueError: no such option",
        ),
        ("", "", 2, "audit: pip-audit failed: no output"),
    ],
)
def test_audit(stdout: str, stderr: str, status: int, said: str) -> None:
    found, lines = tool("audit").verdict(stdout, stderr)
    assert found == status
    assert any(line.startswith(said) for line in lines)


def source(folder: Path, mode: int) -> Path:
    folder.mkdir(parents=True)
    before = os.umask(mode)
    try:
        for name in ("safemt_client", "providers", "judges", "moderator", "results"):
            shutil.copytree(
                *(ROOT / name, folder / name),
                ignore=shutil.ignore_patterns("__pycache__"),
                copy_function=shutil.copyfile,
            )
        for name in ("pyproject.toml", "README.md", "LICENSE"):
            shutil.copyfile(ROOT / name, folder / name)
    finally:
        os.umask(before)
    return folder


@pytest.mark.slow
def test_a_release_is_the_same_byte_for_byte(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build = tool("dist").build
    first = build(source(tmp_path / "one", 0o022), tmp_path / "out", EPOCH)
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    monkeypatch.setenv("PYTHONHASHSEED", "7")
    second = build(source(tmp_path / "another" / "place", 0o077), tmp_path / "out2", EPOCH)
    assert [path.suffix for path in first] == [".whl", ".gz"]
    digests = [[hashlib.sha256(path.read_bytes()).hexdigest() for path in made] for made in (first, second)]
    assert digests[0] == digests[1]
    wheel, sdist = first
    with zipfile.ZipFile(wheel) as members:
        names = members.namelist()
        assert "safemt_client/telemetry/log.py" in names
        assert "safemt_client/results/store/views.sql" in names
        assert names[-1].endswith(".dist-info/RECORD")
        assert {member.date_time[:3] for member in members.infolist()} == {(2023, 11, 14)}
    with tarfile.open(sdist) as files:
        assert {(file.mtime, file.uid, file.gid, file.uname) for file in files.getmembers()} == {
            (EPOCH, 0, 0, "")
        }
        files.extractall(tmp_path / "unpacked", filter="data")
    # The sdist makes the same wheel, and pip takes it.
    (unpacked,) = (tmp_path / "unpacked").iterdir()
    again = build(unpacked, tmp_path / "out3", EPOCH)
    with zipfile.ZipFile(again[0]) as members:
        assert members.namelist() == names
    subprocess.run(
        [
            sys.executable,
            "-m",
            "pip",
            "install",
            "--quiet",
            "--no-deps",
            "--no-index",
            "--target",
            "target",
            wheel,
        ],
        cwd=tmp_path,
        check=True,
        capture_output=True,
    )
    assert (tmp_path / "target" / "safemt_client" / "telemetry" / "log.py").is_file()
