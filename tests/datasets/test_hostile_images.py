"""Images that mean harm: paths that lead elsewhere, files that are none, bombs."""

import json
import os
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import pytest
from PIL import Image as Pillow
from support.measured import MEASURED, TURN, write
from support.program import ROOT

from safemt_client.datasets import open_dataset
from safemt_client.datasets.images import ImageError, prepare
from safemt_client.providers.errors import InputError


@pytest.mark.parametrize(
    "name",
    [
        *("../outside.png", "images/../../outside.png", "..\\outside.png", "/../outside.png", "//etc/passwd"),
        *("/etc/passwd", "link.png", "folder/outside.png", "circle/a.png", "file:///etc/passwd", "a\0.png"),
        *("x" * 5_000, "\ud800.png", "\x1b[31m.png", "http://127.0.0.1:9/a.png", ".", "", "~/a.png", "pipe"),
        *("a.png/b", "/proc/self/environ", "data:image/png;base64,AAAA"),
    ],
)
def test_an_image_path_leads_nowhere_else(name: str, tmp_path: Path) -> None:
    root = tmp_path / "data"
    root.mkdir()
    Pillow.new("RGB", (3, 3)).save(tmp_path / "outside.png")
    Pillow.new("RGB", (3, 3)).save(root / "a.png")
    (root / "link.png").symlink_to(tmp_path / "outside.png")
    (root / "folder").symlink_to(tmp_path)
    (root / "circle").symlink_to(root / "circle")
    os.mkfifo(root / "pipe")
    dataset = open_dataset(str(write(root / "a.jsonl", {"id": "a", "dialogue": [TURN | {"images": [name]}]})))
    with pytest.raises(InputError) as caught:
        dataset.image_path(name)
    assert len(str(caught.value).splitlines()) == 1
    assert len(str(caught.value)) < 1_000
    assert "\x1b" not in str(caught.value)


def png(width: int, height: int, data: bytes, depth: int = 8, kind: int = 2) -> bytes:
    def chunk(name: bytes, content: bytes) -> bytes:
        return (
            struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
        )

    head = struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


SMALL = png(1, 1, zlib.compress(b"\0\1\2\3"))
TEXT_BOMB = (
    SMALL[:33]
    + (
        lambda body: (
            struct.pack(">I", len(body)) + b"zTXt" + body + struct.pack(">I", zlib.crc32(b"zTXt" + body))
        )
    )(b"a\0\0" + zlib.compress(b"x" * 2**27))
    + SMALL[33:]
)


@pytest.mark.parametrize(
    "content",
    [
        b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>",
        b"<?xml version='1.0'?><!DOCTYPE a [<!ENTITY b SYSTEM 'file:///etc/passwd'>]><svg>&b;</svg>",
        b"<html><img src='a'></html>",
        b"%PDF-1.7\n" + SMALL,
        b"PK\x03\x04" + SMALL,
        b"#!/bin/sh\n" + SMALL,
        b"MZ" + SMALL,
        b"BM" + b"\0" * 100,
        b"II*\0" + b"\0" * 100,
        b"\0\0\1\0" + b"\0" * 100,
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(%pipe%touch made) (w) file",
        b"\x1f\x8b" + b"\0" * 50,
        b"RIFF\xff\xff\xff\xffWEBPVP8 ",
        b"GIF89a",
        b"\xff\xd8\xff\xe0" + b"\0" * 50,
        SMALL[:40],
        png(50_000, 50_000, zlib.compress(b"\0" * 10**6)),
        png(2**31 - 1, 1, b""),
        png(0, 0, b""),
        png(9_999, 9_999, b"\0" * 9, depth=3, kind=9),
    ],
)
def test_what_is_no_picture_for_a_model(
    content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a.png", "a.jpg"):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ImageError) as caught:
            prepare(tmp_path / name, item="\x1b[31m'; --")
        line = str(caught.value)
        assert len(line.splitlines()) == 1
        assert "\x1b" not in line
        assert name in line
    assert not (tmp_path / "made").exists()


def test_the_type_is_what_the_bytes_say(tmp_path: Path) -> None:
    """A file that is a picture and something else too is a picture, whatever its name says."""
    (tmp_path / "a.svg").write_bytes(SMALL + b"PK\x03\x04<script>alert(1)</script>")
    image = prepare(tmp_path / "a.svg", item="a")
    assert image.media_type == "image/png"


def test_picture_bombs_take_bounded_memory(tmp_path: Path) -> None:
    (tmp_path / "b.png").write_bytes(TEXT_BOMB)
    rows = zlib.compress(b"\0" * (30_001 * 30_000 // 8), 9)
    (tmp_path / "c.png").write_bytes(png(30_000, 30_000, rows, depth=1, kind=0))
    with (tmp_path / "d.png").open("wb") as file:
        file.truncate(10 * 2**30)
    frames = [Pillow.new("P", (4_000, 4_000), n) for n in range(3)]
    frames[0].save(tmp_path / "e.gif", save_all=True, append_images=frames[1:])
    names = ["b.png", "c.png", "d.png", "e.gif"]
    write(tmp_path / "a.jsonl", *({"id": name, "dialogue": [TURN | {"images": [name]}]} for name in names))
    done = subprocess.run(
        [sys.executable, "-c", MEASURED, "data", "check", "a.jsonl", "--json"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        timeout=100,
        check=False,
    )
    broken = json.loads(done.stdout)["broken_images"]
    assert {line.split("'")[1] for line in broken} >= {"c.png", "d.png"}
    assert int(done.stderr.decode().split("peak ")[1]) < 700
