"""Wheel and sdist that are reproducible byte for byte: `python tools/dist.py OUT` and `... --twice`.

Builds the committed files, in a separate folder, with the installed setuptools (pinned in constraints.txt).
Times are the last commit's or SOURCE_DATE_EPOCH; owners, modes and the order of members are fixed here.
"""

from __future__ import annotations

import gzip
import io
import os
import subprocess
import sys
import tarfile
import tempfile
import time
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# setuptools changes sys.argv.
_BUILD = "import sys, setuptools.build_meta as b; to = sys.argv[1]; b.build_sdist(to); b.build_wheel(to)"


def build(source: Path, out: Path, epoch: int) -> list[Path]:
    """Build the project at `source` into `out`; the folder `source` is written to on the way."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(
            [sys.executable, "-c", _BUILD, folder],
            cwd=source,
            env=os.environ | {"SOURCE_DATE_EPOCH": str(epoch)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            check=True,
        )
        out.mkdir(parents=True, exist_ok=True)
        made = []
        for path in sorted(Path(folder).iterdir()):
            content = (_wheel if path.suffix == ".whl" else _sdist)(path.read_bytes(), epoch)
            (out / path.name).write_bytes(content)
            made.append(out / path.name)
    return made


def _mode(executable: bool) -> int:
    return 0o755 if executable else 0o644


def _wheel(content: bytes, epoch: int) -> bytes:
    """The same members sorted by name, with one time; RECORD stays valid, and last."""
    made = io.BytesIO()
    # No earlier time fits into a zip file.
    at = time.gmtime(max(epoch, 315_532_800))[:6]
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(made, "w") as new:
        members = {(m.filename.endswith(".dist-info/RECORD"), m.filename): m for m in old.infolist()}
        for _, member in sorted(members.items()):
            entry = zipfile.ZipInfo(member.filename, at)
            entry.create_system = 3
            entry.external_attr = (0o100000 | _mode(bool(member.external_attr >> 16 & 0o100))) << 16
            entry.compress_type = zipfile.ZIP_DEFLATED
            new.writestr(entry, old.read(member), compresslevel=9)
    return made.getvalue()


def _sdist(content: bytes, epoch: int) -> bytes:
    """The same members sorted by name, with one time and no owner."""
    plain = io.BytesIO()
    with (
        tarfile.open(fileobj=io.BytesIO(content)) as old,
        tarfile.open(fileobj=plain, mode="w", format=tarfile.PAX_FORMAT) as new,
    ):
        for member in sorted(old.getmembers(), key=lambda m: m.name):
            entry = tarfile.TarInfo(member.name)
            entry.type, entry.size, entry.mtime = member.type, member.size, epoch
            entry.mode = 0o755 if member.isdir() else _mode(bool(member.mode & 0o100))
            new.addfile(entry, old.extractfile(member) if member.isfile() else None)
    return gzip.compress(plain.getvalue(), 9, mtime=epoch)


def _committed(folder: Path) -> Path:
    """The committed files, in a separate folder."""
    archive = subprocess.run(["git", "archive", "HEAD"], cwd=ROOT, capture_output=True, check=True).stdout
    with tarfile.open(fileobj=io.BytesIO(archive)) as files:
        files.extractall(folder, filter="data")
    return folder


def _epoch() -> int:
    given = os.environ.get("SOURCE_DATE_EPOCH")
    if given is not None:
        return int(given)
    words = ["git", "log", "-1", "--format=%ct"]
    return int(subprocess.run(words, cwd=ROOT, capture_output=True, check=True).stdout)


def main(words: list[str]) -> int:
    """Build into a folder, or twice in different folders and compare."""
    epoch = _epoch()
    if words != ["--twice"]:
        with tempfile.TemporaryDirectory() as source:
            for path in build(_committed(Path(source)), Path(words[0]), epoch):
                print(path)
        return 0
    with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory(prefix="another-") as other:
        first = build(_committed(Path(one, "a")), Path(one, "out"), epoch)
        os.umask(0o077)
        second = build(_committed(Path(other, "b")), Path(other, "out"), epoch)
        different = [a.name for a, b in zip(first, second, strict=True) if a.read_bytes() != b.read_bytes()]
    for path in first:
        print(f"{path.name}: {'differs' if path.name in different else 'identical byte for byte'}")
    return 1 if different else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
