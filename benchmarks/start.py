"""What a start costs beside the least that it could: four comparisons, each side by side in one run.

    python benchmarks/start.py [bare] [pictures] [nothing] [memory] [--repeat 5]

- `bare`: CPU of the whole program with --dry-run on 2,000 scripted four-turn dialogues, to that of the same
  calls over the same transport, bare.
- `pictures`: planning 10,000 dialogues with 2,000 pictures of 200 KB, to decoding these files in as many
  threads; and planning them again, to `os.stat` of each file, and to the least in Python: reading what is
  remembered, `os.stat`, and an image of each.
- `nothing`: opening a store of a million turns and looking all of them up, to opening the file with plain
  DuckDB and one join of the hashes.
- `memory`: the peak of planning 17 targets x 10,000 dialogues.

CPU seconds, the least of the repeats; what a part does is measured in a process of its own.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
sys.path[:0] = [str(ROOT), str(HERE)]

PICTURES, TARGETS, TURNS = 2_000, 17, 1_000_000


def in_process(part: str, *words: str) -> dict[str, Any]:
    """What a part of this file measures in a fresh process."""
    env = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    done = subprocess.run(
        [sys.executable, __file__, f"--{part}", *words], env=env, stdout=subprocess.PIPE, check=True
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def least(count: int, measure: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """The least of each figure over some measurements."""
    found = [measure() for _ in range(count)]
    return {name: min(one[name] for one in found) for name in found[0]}


def bare(repeat: int) -> None:
    """CPU of a dry run to that of the bare calls, which answer after 200 ms."""
    from measuring import BARE, PLAN, endpoint, open_files
    from quick import round_of
    from throughput import write_dialogues

    open_files()
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "dialogues.jsonl"
        write_dialogues(data, 2_000)
        with endpoint(Path(folder), "--latency", "0.2") as (seen, url):
            rounds = [round_of(seen, url, data, 200, 2_000, (BARE, PLAN)) for _ in range(repeat)]
    ours, theirs = (2 * min(one[name] for one in rounds) for name in (PLAN, BARE))
    print(f"start and plan {ours:.2f} CPU s, bare calls {theirs:.2f}: {ours / theirs:.2f} (goal: 0.5)")


def write_pictures(folder: Path) -> None:
    """Pictures of about 200 KB, and 10,000 dialogues of which five each begin with one of them."""
    import numpy as np
    from PIL import Image

    (folder / "images").mkdir()
    source = np.random.default_rng(1)
    for number in range(PICTURES):
        pixels = source.integers(0, 256, (64, 80, 3), dtype=np.uint8)
        image = Image.fromarray(pixels).resize((1024, 768), Image.Resampling.BICUBIC)
        image.save(folder / "images" / f"{number}.jpg", quality=93)
    with (folder / "dialogues.jsonl").open("w") as file:
        for number in range(PICTURES):
            for length in range(1, 6):
                said = [{"role": "user", "content": f"What is in picture {number}?"}]
                for turn in range(1, length):
                    said += [
                        {"role": "assistant", "content": f"Colours, {turn}."},
                        {"role": "user", "content": f"And what else, beside {turn}?"},
                    ]
                record = {"id": f"p{number}", "dialogue": said, "image_path": f"images/{number}.jpg"}
                file.write(json.dumps(record) + "\n")


def pictures(repeat: int) -> None:
    """Planning with pictures, for the first time and again."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_pictures(folder)
        # Remembered pictures lie in the user's cache: one of its own each time.
        firsts, seconds = [], []
        for number in range(repeat):
            os.environ["XDG_CACHE_HOME"] = str(folder / f"cache{number}")
            firsts.append(in_process("plan", str(folder)))
            seconds.append(in_process("plan", str(folder)))
        decoding = least(repeat, lambda: in_process("decode", str(folder)))
        needed = least(repeat, lambda: in_process("floor", str(folder)))
        first, second = (min(one["pictures"] for one in some) for some in (firsts, seconds))
        whole, again = (min(one["plan"] for one in some) for some in (firsts, seconds))
    print(
        f"first plan {whole:.2f} CPU s, decoding {decoding['decode']:.2f}: {whole / decoding['decode']:.2f} "
        f"(goal: 1.2); its pictures {first:.2f} s: {first / decoding['decode']:.2f}"
    )
    print(
        f"second plan {again:.2f} s; its pictures {second * 1000:.1f} ms, "
        f"os.stat {decoding['stat'] * 1000:.1f} ms: {second / decoding['stat']:.1f} (goal: 1.5); "
        f"the least in Python {needed['floor'] * 1000:.1f} ms: {needed['floor'] / decoding['stat']:.1f}"
    )


def plan_pictures(folder: Path) -> dict[str, float]:
    """CPU seconds of reading and planning, and those of the pictures among them."""
    import gc

    import anyio

    import safemt_client.datasets.remembered  # noqa: F401 - as Pillow in the other part, before the clock runs
    from safemt_client.datasets import open_dataset
    from safemt_client.planning.build import make_plan
    from safemt_client.planning.content import content_digest
    from safemt_client.planning.pictures import pictures_of
    from safemt_client.planning.resolved import NothingKnown, of_dataset
    from safemt_client.planning.target import Target
    from safemt_client.providers.types import Sampling
    from safemt_client.settings import RunSettings

    settings = RunSettings(provider=["m@http://127.0.0.1:9/v1"], data="x")
    gc.set_threshold(150_000, 20, 20)  # as the program does

    async def planned() -> dict[str, float]:
        begin = time.process_time()
        data = open_dataset(str(folder / "dialogues.jsonl"))
        read = time.process_time()
        found = await pictures_of(data, data.dialogues, settings, None)
        made = time.process_time()
        content = content_digest(data, found)
        target = Target("m", "local/m", "scripted", "on", Sampling())
        make_plan(of_dataset(data, data.dialogues, [target], pictures=found, content=content), NothingKnown())
        return {"plan": time.process_time() - begin, "pictures": made - read}

    return anyio.run(planned)


def floor(folder: Path) -> dict[str, float]:
    """CPU seconds of what a later plan cannot do without: what is remembered, `os.stat`, an image of each."""
    import gc

    import orjson

    from safemt_client.providers.types import Image

    gc.set_threshold(150_000, 20, 20)
    (kept,) = Path(os.environ["XDG_CACHE_HOME"]).rglob("looked-at/*")
    found = {}
    begin = time.process_time()
    for path, row in orjson.loads(kept.read_bytes()).items():
        status = os.stat(f"{folder}/{path}")
        times = status.st_mtime_ns, status.st_ctime_ns
        if [status.st_size, *times, status.st_ino, status.st_dev] == row[:5]:
            found[path] = Image(*row[5:10], bytes)
    spent = time.process_time() - begin
    assert len(found) == PICTURES
    return {"floor": spent}


def decode(folder: Path) -> dict[str, float]:
    """CPU seconds of decoding all pictures in a thread for each core, and of `os.stat` of each."""
    from concurrent.futures import ThreadPoolExecutor

    from PIL import Image

    paths = [folder / "images" / f"{number}.jpg" for number in range(PICTURES)]

    def one(path: Path) -> None:
        with Image.open(path) as image:
            image.load()

    begin = time.process_time()
    with ThreadPoolExecutor(os.cpu_count() or 2) as pool:
        list(pool.map(one, paths))
    decoded = time.process_time()
    names = [str(path) for path in paths]
    stated = time.process_time()
    for name in names:
        os.stat(name)
    return {"decode": decoded - begin, "stat": time.process_time() - stated}


def nothing(repeat: int) -> None:
    """Planning where nothing is to be done."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "large.duckdb"
        in_process("fill", str(path))
        ours = least(repeat, lambda: in_process("ours", str(path)))
        plain = least(repeat, lambda: in_process("plain", str(path)))
    print(
        f"nothing to do: opened in {ours['open']:.2f} s and looked up in {ours['look']:.2f} s, plain DuckDB "
        f"{plain['open']:.2f} and {plain['join']:.2f} s: "
        f"{(ours['open'] + ours['look']) / (plain['open'] + plain['join']):.2f} (goal: 1.5)"
    )


def _hashes() -> list[str]:
    import hashlib

    return [hashlib.sha256(str(number).encode()).hexdigest() for number in range(TURNS)]


def fill(path: Path) -> dict[str, Any]:
    """A store with a million turns of 2.5 KB, written by DuckDB itself."""
    import duckdb

    from safemt_client.results.store.store import Store

    Store.open(path).close()
    with duckdb.connect(str(path)) as connection:
        connection.execute(
            f"""INSERT INTO turns BY NAME
                SELECT sha256(n::VARCHAR) AS request_hash, 1 AS attempt, 'bench' AS run_id,
                       'bench' AS session_id, 'bench' AS target_key, 'answered' AS outcome,
                       repeat(n::VARCHAR, 100) AS text,
                       sha256(repeat(n::VARCHAR, 100)) AS reply_hash, 1.0 AS latency_s,
                       TIMESTAMP '2026-01-01' + INTERVAL (n) SECOND AS started_at,
                       repeat(n::VARCHAR, 150) AS request, repeat(n::VARCHAR, 120) AS raw
                FROM range({TURNS}) t(n)"""
        )
    return {}


def ours(path: Path) -> dict[str, float]:
    """Seconds of opening, and of looking all turns up."""
    from safemt_client.results.store.store import Store

    hashes = _hashes()
    begin = time.process_time()
    with Store.open(path) as store:
        opened = time.process_time()
        found = store.observed(hashes)
        looked = time.process_time()
    assert len(found) == TURNS
    return {"open": opened - begin, "look": looked - opened}


def plain(path: Path) -> dict[str, float]:
    """The same with DuckDB alone."""
    import duckdb
    import pyarrow as pa

    hashes = _hashes()
    begin = time.process_time()
    with duckdb.connect(str(path), read_only=True) as connection:
        opened = time.process_time()
        connection.register("wanted", pa.table({"hash": hashes}))
        rows = connection.execute(
            "SELECT request_hash, outcome FROM attempts SEMI JOIN wanted ON request_hash = hash"
        ).fetchall()
        joined = time.process_time()
    assert len(rows) == TURNS
    return {"open": opened - begin, "join": joined - opened}


def memory(repeat: int) -> None:
    """The peak of a large plan."""
    found = in_process("large")
    print(
        f"{TARGETS} targets x 10,000 dialogues: planned in {found['s']:.1f} s, {found['mb']:.0f} MB "
        "(goal: under 1,000)"
    )


def large() -> dict[str, float]:
    """Seconds and megabytes of a plan of all targets."""
    from resume import dataset

    from safemt_client.planning.build import make_plan
    from safemt_client.planning.resolved import NothingKnown, of_dataset
    from safemt_client.planning.target import Target
    from safemt_client.providers.types import Sampling

    data = dataset()
    targets = [Target(f"m{n}", f"local/m{n}", "scripted", "off", Sampling()) for n in range(TARGETS)]
    begin = time.process_time()
    found = make_plan(of_dataset(data, data.dialogues, targets), NothingKnown())
    spent = time.process_time() - begin
    assert len(found.pending) == TARGETS * len(data.dialogues)
    # Not ru_maxrss: a child begins with its parent's.
    status = Path("/proc/self/status").read_text()
    return {"s": spent, "mb": int(status.split("VmHWM:")[1].split()[0]) / 1024}


_PARTS: dict[str, Callable[[int], None]] = {
    "bare": bare,
    "pictures": pictures,
    "nothing": nothing,
    "memory": memory,
}
_INNER: dict[str, Callable[[Path], dict[str, Any]]] = {
    "plan": plan_pictures,
    "decode": decode,
    "floor": floor,
    "fill": fill,
    "ours": ours,
    "plain": plain,
}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("parts", nargs="*", choices=[[], *_PARTS], default=[])
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--large", action="store_true", help=argparse.SUPPRESS)
    for name in _INNER:
        parser.add_argument(f"--{name}", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.large:
        print(json.dumps(large()))
        return
    for name, inner in _INNER.items():
        if (path := getattr(arguments, name)) is not None:
            print(json.dumps(inner(path)))
            return
    for name in arguments.parts or _PARTS:
        _PARTS[name](arguments.repeat)


if __name__ == "__main__":
    main()
