"""Data and endpoints that mean harm: one clear line each, in bounded time and memory."""

import gzip
import json
import os
import struct
import subprocess
import sys
import time
import zlib
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
from PIL import Image as Pillow
from support.faults import Behaviour, answer, raw, response
from support.program import ROOT, against

from safemt_client.__main__ import main
from safemt_client.datasets import files, open_dataset
from safemt_client.datasets.images import ImageError, prepare
from safemt_client.providers.errors import InputError
from safemt_client.providers.transport import make_transport

# VmHWM is this program's own; what getrusage tells comes from its parent too.
# VmHWM is this program's own; what getrusage tells comes from its parent too.
MEASURED = """
import sys
from safemt_client.__main__ import main
status = main(sys.argv[1:])
peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))
print("peak", int(peak.split()[1]) // 1024, file=sys.stderr)
sys.exit(status)
"""
TURN = {"role": "user", "content": "hello"}
IDS = [
    "'; DROP TABLE turns; --",
    "\"; ATTACH 'x' AS y; --",
    "../../../../tmp/escaped",
    "..\\..\\windows",
    "/etc/passwd",
    "\x1b]0;owned\x07\x1b[2J\x1b[31mred",
    "nul\x00nul",
    "\u202egnihtemos",
    "two\nlines\r\x1b[A",
    "[bold]markup[/]",
    "{{ 7 * 7 }}",
    "CON",
    ".",
    "..",
    "a" * 5_000,
    "%s%n%x",
    "=cmd|' /C calc'!A0",
]


def run(folder: Path, *words: str, most_s: float = 60) -> tuple[int, list[str], int]:
    """Exit status, lines of stderr and the peak of memory in MiB."""
    begun = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", MEASURED, *words],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        timeout=most_s,
        check=False,
    )
    assert time.monotonic() - begun < most_s
    *lines, peak = done.stderr.decode().splitlines()
    return done.returncode, lines, int(peak.split()[1])


def refused(folder: Path, name: str, said: str, most_mib: int = 450) -> None:
    status, lines, peak = run(folder, "data", "check", name)
    assert status == 2
    assert len(lines) == 1, lines
    assert said in lines[0]
    assert len(lines[0]) < 2_100
    assert peak < most_mib


def write(path: Path, *records: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


# Sizes without end


def test_ten_gigabytes_on_one_line(tmp_path: Path) -> None:
    with (tmp_path / "a.jsonl").open("wb") as file:
        file.truncate(10 * 2**30)
    refused(tmp_path, "a.jsonl", "larger than")


def test_a_line_that_is_too_long(tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", {"id": "a", "dialogue": [TURN]})
    with (tmp_path / "a.jsonl").open("r+b") as file:
        file.seek(0, 2)
        file.truncate(400 * 2**20)
    refused(tmp_path, "a.jsonl", "line 2: longer than")


def test_a_huge_array(tmp_path: Path) -> None:
    (tmp_path / "Data").mkdir()
    with (tmp_path / "Data" / "1_turn.json").open("wb") as file:
        file.truncate(10 * 2**30)
    refused(tmp_path, ".", "give it as .jsonl")


def test_what_never_ends_is_no_file(tmp_path: Path) -> None:
    (tmp_path / "Data").mkdir()
    os.mkfifo(tmp_path / "Data" / "1_turn.json")
    refused(tmp_path, ".", "is not a plain file")
    os.mkfifo(tmp_path / "a.jsonl")
    refused(tmp_path, "a.jsonl", "no such file")
    (tmp_path / "b.jsonl").symlink_to("/dev/zero")
    refused(tmp_path, "b.jsonl", "no such file")


def test_many_small_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "_MAX_RECORDS", 10)
    (tmp_path / "a.jsonl").write_text("\n" * 11)
    with pytest.raises(InputError, match="more than 10 lines"):
        open_dataset(str(tmp_path / "a.jsonl"))


def test_a_table_that_unpacks_to_gigabytes(tmp_path: Path) -> None:
    column = pyarrow.array(["x" * 2**20] * 900)
    table = pyarrow.table({"id": pyarrow.array(range(900)), "dialogue": column})
    (tmp_path / "Data").mkdir()
    pyarrow.parquet.write_table(
        table, tmp_path / "Data" / "1_turn.parquet", compression="zstd", use_dictionary=False
    )
    assert (tmp_path / "Data" / "1_turn.parquet").stat().st_size < 2**22
    refused(tmp_path, ".", "give it in parts", most_mib=900)
    pyarrow.parquet.write_table(table, tmp_path / "Data" / "1_turn.parquet", use_dictionary=True)
    refused(tmp_path, ".", "give it in parts", most_mib=900)


@pytest.mark.parametrize("content", [b"", b"PAR1", b"PAR1" + b"\xff" * 100 + b"PAR1", b"{}" * 100])
def test_a_broken_table(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "1_turn.parquet").write_bytes(content)
    with pytest.raises(InputError, match="not Parquet") as caught:
        open_dataset(str(tmp_path))
    assert len(str(caught.value).splitlines()) == 1


# Shapes


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (b"[" * 1_000_000, "not JSON"),
        (b'{"a":' * 1_000_000, "not JSON"),
        (b"[" * 50_000 + b"]" * 50_000, "not JSON"),
        (b'{"id": "a", "dialogue": "\xff\xfe"}', "not JSON in UTF-8"),
        (b'{"id": "a", "dialogue": "\xed\xa0\x80"}', "field dialogue"),
        (b'{"id": ' + b"9" * 5_000 + b"}", "not JSON"),
        (b"\x00", "not JSON"),
        (b"NaN", "is no object"),
        (b"null", "is no object"),
        (b'{"id": 1e999, "dialogue": []}', "field id"),
        (b'{"id": "", "dialogue": []}', "field id"),
        (b'{"id": "a \\ud800", "dialogue": []}', "half a surrogate pair"),
        (b'{"question_id": "a \\ud800", "turns": ["x"]}', "half a surrogate pair"),
        (b'{"id": "a", "dialogue": {"role": "user"}}', "list of messages"),
        (b'{"id": "a", "dialogue": [[[[]]]]}', "is no object"),
        (b'{"id": "a", "dialogue": [{"role": ["user"], "content": "x"}]}', "field role"),
        (b'{"id": "a", "dialogue": [{"role": "user", "content": {"a": 1}}]}', "field content"),
        (b'{"id": "a", "image_path": ["x"], "dialogue": [{"role": "user", "content": "a"}]}', "image_path"),
        (b'{"question_id": {"a": [1]}, "turns": ["x"]}', "question_id"),
        (b'{"question_id": 1, "turns": ["x"], "category": [1]}', "category"),
    ],
)
@pytest.mark.parametrize("form", ["a.jsonl", "1_turn.json"])
def test_a_record_of_a_wrong_shape_is_one_line(line: bytes, said: str, form: str, tmp_path: Path) -> None:
    (tmp_path / form).write_bytes(line if form == "a.jsonl" else b"[" + line + b"]")
    with pytest.raises(InputError) as caught:
        open_dataset(str(tmp_path / form if form == "a.jsonl" else tmp_path))
    assert len(str(caught.value).splitlines()) == 1
    assert len(str(caught.value)) < 500
    if form == "a.jsonl":
        assert said in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os').system('touch made')",
        "[{'role': 'user', 'content': __import__('os').getcwd()}]",
        "[{'role': 'user', 'content': open('/etc/passwd').read()}]",
        "[x for x in ().__class__.__base__.__subclasses__()]",
        'f\'{__import__("os").system("touch made")}\'',
        "lambda: 1",
        "[{'role': 'user', 'content': 'a'}] * 10**9",
        "'a' * 10**9",
        "9**9**9",
        "9" * 100_000,
        "(" * 100_000,
        "[" * 5_000 + "]" * 5_000,
        "-" * 100_000 + "1",
        "1" + "+1" * 100_000,
        "not " * 50_000 + "1",
        "a" + ".a" * 100_000,
        "{[]: 1}",
        "{{}}",
        "{1, 2, []}",
        "'\\N{NO SUCH NAME}'",
        "'\x00'",
        "b'\\xff'",
        "'unclosed",
        "\ud800",
        "{" * 2_000_000,
        "",
        "...",
    ],
)
def test_a_python_literal_is_read_without_running_anything(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = write(tmp_path / "a.jsonl", {"id": "a", "dialogue": text})
    begun = time.monotonic()
    with pytest.raises(InputError) as caught:
        open_dataset(str(path))
    assert time.monotonic() - begun < 20
    assert len(str(caught.value).splitlines()) == 1
    assert "field dialogue" in str(caught.value)
    assert [found.name for found in tmp_path.iterdir()] == ["a.jsonl"]


def test_large_literals_take_bounded_memory(tmp_path: Path) -> None:
    for n, text in enumerate(
        (
            "[" + "[],[1]," * 140_000 + "]",
            "-" * 900_000 + "1",
            "1" + "+1" * 450_000,
            "{" + "1:{}," * 190_000 + "}",
        )
    ):
        write(tmp_path / f"{n}.jsonl", {"id": "a", "dialogue": text})
        refused(tmp_path, f"{n}.jsonl", "dialogue", most_mib=1_200)


def test_a_good_literal_is_taken(tmp_path: Path) -> None:
    good = "[{'role': 'user', 'content': 'it\\'s \\d'},]"
    found = open_dataset(str(write(tmp_path / "a.jsonl", {"id": "a", "dialogue": good})))
    assert found.dialogues[0].messages[0].text == "it's \\d"


@pytest.mark.parametrize(
    "spec", ["a\0b", "x" * 100_000, "x" * 300, "\ud800", "\x1b[31m", "", "/dev/zero", "/dev/null"]
)
def test_a_name_that_is_none(spec: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "check", spec]) == 2
    err = capsys.readouterr().err
    assert len(err.splitlines()) == 1
    assert len(err) < 2_200
    assert "\x1b" not in err


# Names


def test_ids_that_act(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    inside = tmp_path / "in"
    inside.mkdir()
    write(inside / "a.jsonl", *({"id": item, "scenario": item[:300], "dialogue": [TURN]} for item in IDS))
    monkeypatch.chdir(inside)
    status, endpoint = against(
        [],
        answer("\x1b[31mhello\x1b[0m"),
        *(
            "--provider",
            "m@URL",
            "--data",
            "a.jsonl",
            "--judge",
            "j@URL",
            "--max-wait",
            "0",
            "--min-coverage",
            "0",
        ),
    )
    out = (inside / "out").read_bytes()
    assert status == 0, out
    assert b"\x1b]0" not in out
    assert b"Traceback" not in out
    assert len(endpoint.requests) >= 2 * len(IDS)
    for words in (
        ["report"],
        ["report", "--md", "r.md"],
        ["sql", "FROM replies"],
        ["sql", "FROM dialogues"],
        ["runs"],
    ):
        done = subprocess.run(
            [sys.executable, "-m", "safemt_client", *words],
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            capture_output=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert b"\x1b" not in done.stdout + done.stderr
        assert "\u202e".encode() not in done.stdout + done.stderr
    for form in ("reference", "parquet", "csv", "jsonl", "inspect", "huggingface"):
        assert main(["export", "--format", form, "--out", f"exported/{form}"]) == 0
    assert main(["sql", "SELECT count(DISTINCT item_id) FROM dialogues"]) == 0
    assert {path.name for path in tmp_path.iterdir()} == {"in"}
    assert not Path("/tmp/escaped").exists()
    # Every file lies where it was asked for.
    assert {path.name for path in inside.iterdir()} <= {
        *("a.jsonl", "out", "exported", "r.md", "safemt.duckdb", "safemt.duckdb.wal"),
        *(path.name for path in inside.glob("safemt.duckdb.*.log*")),
    }


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


# Pictures


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
            prepare(tmp_path / name, max_edge=2048, max_bytes=4_000_000, item="\x1b[31m'; --")
        line = str(caught.value)
        assert len(line.splitlines()) == 1
        assert "\x1b" not in line
        assert name in line
    assert not (tmp_path / "made").exists()


def test_the_type_is_what_the_bytes_say(tmp_path: Path) -> None:
    """A file that is a picture and something else too is a picture, whatever its name says."""
    (tmp_path / "a.svg").write_bytes(SMALL + b"PK\x03\x04<script>alert(1)</script>")
    image = prepare(tmp_path / "a.svg", max_edge=2048, max_bytes=4_000_000, item="a")
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


# Endpoints


def nested(layers: int, size: int = 2**30) -> bytes:
    packer = zlib.compressobj(9, wbits=31)
    body = b"".join(packer.compress(b" " * 2**20) for _ in range(size // 2**20)) + packer.flush()
    for _ in range(layers - 1):
        body = gzip.compress(body)
    return body


ENDPOINTS: dict[str, tuple[Behaviour, str]] = {
    "redirect": (response(302, "", location="http://localhost:9/"), "302"),
    "gzip": (response(200, nested(1), content_encoding="gzip"), "larger than"),
    "gzip in gzip": (response(200, nested(2), content_encoding="gzip, gzip"), "packed as gzip, gzip"),
    "brotli": (response(200, b"\x1b" * 100, content_encoding="br"), "packed as br"),
    "no gzip": (response(200, b"{}" * 100, content_encoding="gzip"), "broken"),
    "half gzip": (
        response(200, gzip.compress(b"{}" * 9_999)[:40], content_encoding="gzip"),
        "broken|not whole",
    ),
    "deep": (response(200, b"[" * 5_000_000), "JSON"),
    "headers": (
        raw(b"HTTP/1.1 200 OK\r\n" + b"".join(b"a%d: b\r\n" % n for n in range(100_000)) + b"\r\n"),
        "connection failed|JSON",
    ),
    "a header": (raw(b"HTTP/1.1 200 OK\r\na: " + b"b" * 10_000_000 + b"\r\n\r\n"), "connection failed"),
    "chunks": (
        raw(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nfffffffffffffff\r\n" + b" " * 40 * 2**20),
        "larger than|failed",
    ),
    "no end": (raw(b"HTTP/1.1 200 OK\r\n\r\n" + b" " * 1_000, stall=True), "no answer within"),
    "silence": (raw(b"", stall=True), "no answer within"),
    "a digit bomb": (response(200, b'{"choices": [{"message": {"content": ' + b"9" * 10_000 + b"}}]}"), ""),
}


@pytest.mark.parametrize("name", ENDPOINTS)
def test_an_endpoint_that_means_harm(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import re

    import anyio
    from support.faults import serve

    from safemt_client.providers.limits import AccountLimiter
    from safemt_client.providers.openai_compatible import OpenAICompatible
    from safemt_client.providers.types import Message, Reply, Request

    behaviour, said = ENDPOINTS[name]

    async def asked() -> Reply:
        async with serve([], behaviour) as endpoint, make_transport() as transport:
            provider = OpenAICompatible(
                model="m",
                base_url=endpoint.url,
                api_key=None,
                transport=transport,
                identity="local/m",
                limiter=AccountLimiter(rpm=None, tpm=None, concurrency=1),
                max_wait_s=0,
                attempt_timeout_s=3,
                turn_timeout_s=10,
            )
            return await provider.ask(Request((Message("user", "hi"),)))

    begun, before = time.monotonic(), _peak()
    reply = anyio.run(asked)
    assert time.monotonic() - begun < 15
    assert not reply.outcome.observed
    assert re.search(said, f"{reply.error} {reply.status_code}"), reply.error
    assert len((reply.error or "").splitlines()) == 1
    assert len(reply.error or "") <= 300
    assert _peak() - before < 300


def _peak() -> int:
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
