"""What reading data takes: CPU seconds and peak memory of a process that reads them and makes their digest.

The forms that begin with "import" are replies and labels of such dialogues, which the command `import` writes
into a new store.

    python benchmarks/reading.py [--records 100000] [--pictures 10000] [FORM ...]

The records are dialogues of two user turns with a picture each, in every form; the goals are 15 s and 300 MB
for 100,000 of them, the start of the program included. Pictures (small JPEG files) are read and hashed, from
a folder and from archives.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import os
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
GOALS = (15, 300)
MAP = """name = "Cups"
[source]
files = "{files}"
[fields]
id = "cup_{{number}}"
scenario = "{{about.kind}}"
question = "{{asked}}"
[turns]
messages = "talk"
role = "by"
text = "said"
roles = {{guest = "user", host = "assistant"}}
[[images]]
path = "images/{{number}}.jpg"
"""
EXPLODED = """name = "Cups"
[source]
files = "{files}"
explode = "questions"
[fields]
id = "cup_{{number}}_{{_n}}"
[turns]
one = "{{_item}}"
[[variant]]
fields = {{pair = "{{number}}_{{_n}}", benign = true}}
[[variant]]
where = {{kind = "none"}}
"""
RECORDS = (
    "jsonl",
    "jsonl.gz",
    "json",
    "csv",
    "parquet",
    "zip",
    "tar",
    "map",
    "exploding map",
    "map of parquet",
)
IMPORTS = ("import csv", "import jsonl", "import parquet", "import reference", "import eval")
PICTURES = ("folder of pictures", "zip of pictures", "tar of pictures")


def texts(number: int) -> tuple[str, ...]:
    found = (
        f"What is cup number {number} made of? " + "I have seen many cups and none was like this. " * 3,
        "It is made of clay, and was fired twice. " * 4,
        f"How is a cup such as number {number} washed? " + "Please say what to take care of. " * 2,
        f"How is cup number {number} washed?",
    )
    return tuple(text.strip() for text in found)


def dialogues(count: int) -> Iterator[dict[str, Any]]:
    for number in range(count):
        first, reply, last, question = texts(number)
        said = [("user", first), ("assistant", reply), ("user", last)]
        yield {
            "id": f"cup_{number}",
            "scenario": f"Kind {number % 10}",
            "question": question,
            "image_path": f"images/{number}.jpg",
            "dialogue": [{"role": role, "content": text} for role, text in said],
        }


def mapped_rows(count: int) -> Iterator[dict[str, Any]]:
    for number in range(count):
        first, reply, last, question = texts(number)
        talk = [{"by": "guest", "said": first}, {"by": "host", "said": reply}, {"by": "guest", "said": last}]
        yield {"number": number, "about": {"kind": f"Kind {number % 10}"}, "asked": question, "talk": talk}


def exploding_rows(count: int) -> Iterator[dict[str, Any]]:
    for number in range(count // 4):
        yield {"number": number, "kind": "cup", "questions": [f"{text} {number}" for text in texts(number)]}


def lines(rows: Iterator[dict[str, Any]]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def parquet(rows: Iterator[dict[str, Any]], path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet

    pyarrow.parquet.write_table(pa.Table.from_pylist(list(rows)), path)


def made(form: str, count: int, folder: Path) -> list[str]:
    """Make the data of a form; what `open_dataset` takes."""
    text = lines(dialogues(count)) if form in ("jsonl", "jsonl.gz", "zip", "tar") else b""
    if form == "jsonl":
        (folder / "d.jsonl").write_bytes(text)
    elif form == "jsonl.gz":
        import gzip

        (folder / "d.jsonl.gz").write_bytes(gzip.compress(text))
    elif form == "json":
        # An array may have 64 MiB.
        (folder / "d.json").write_text(json.dumps(list(dialogues(min(count, 80_000)))), encoding="utf-8")
    elif form == "csv":
        with (folder / "d.csv").open("w", newline="", encoding="utf-8") as file:
            table = csv.writer(file)
            table.writerow(["id", "scenario", "question", "image_path", "dialogue"])
            for row in dialogues(count):
                table.writerow([*list(row.values())[:-1], json.dumps(row["dialogue"])])
    elif form == "parquet":
        parquet(dialogues(count), folder / "d.parquet")
    elif form == "zip":
        with zipfile.ZipFile(folder / "d.zip", "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("d.jsonl", text)
    elif form == "tar":
        with tarfile.open(folder / "d.tar", "w") as tar:
            add(tar, "d.jsonl", text)
    else:
        name = "d.parquet" if form == "map of parquet" else "d.jsonl"
        if form == "map of parquet":
            parquet(mapped_rows(count), folder / name)
        else:
            rows = exploding_rows(count) if form == "exploding map" else mapped_rows(count)
            (folder / name).write_bytes(lines(rows))
        (folder / "map.toml").write_text((EXPLODED if form == "exploding map" else MAP).format(files=name))
        return [str(folder), str(folder / "map.toml")]
    (path,) = folder.iterdir()
    return [str(path)]


def add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    tar.addfile(member, io.BytesIO(content))


def made_pictures(form: str, count: int, folder: Path) -> list[str]:
    from PIL import Image

    (folder / "d.jsonl").write_bytes(lines(dialogues(count)))
    pictures = ((f"images/{number}.jpg", number) for number in range(count))

    def content(number: int) -> bytes:
        out = io.BytesIO()
        Image.new("RGB", (64, 48), (number % 256, number // 256 % 256, 90)).save(out, "JPEG")
        return out.getvalue() + number.to_bytes(4)

    if form == "folder of pictures":
        (folder / "images").mkdir()
        for name, number in pictures:
            (folder / name).write_bytes(content(number))
    elif form == "zip of pictures":
        with zipfile.ZipFile(folder / "images.zip", "w") as archive:
            for name, number in pictures:
                archive.writestr(name, content(number))
    else:
        with tarfile.open(folder / "images.tar", "w") as tar:
            for name, number in pictures:
                add(tar, name, content(number))
    return [str(folder / "d.jsonl")]


def replies(count: int) -> Iterator[dict[str, Any]]:
    """Rows of a table: a reply with its label and the dialogue before it."""
    for number, dialogue in enumerate(dialogues(count)):
        said = (
            f"A cup such as number {number} is washed with warm water and a soft cloth, and dried at once. "
            * 5
        )
        rest = {name: dialogue[name] for name in ("id", "scenario", "question")}
        yield rest | {
            "messages": dialogue["dialogue"],
            "reply": said.strip(),
            "label": "safe" if number % 3 else "unsafe",
        }


def made_replies(form: str, count: int, folder: Path) -> list[str]:
    """Make what is imported; the words of the command behind `import`."""
    kind = form.split()[1]
    if kind == "csv":
        # The dialogues of a table are often elsewhere.
        with (folder / "t.csv").open("w", newline="", encoding="utf-8") as file:
            table = csv.DictWriter(file, ["id", "turns", "scenario", "question", "reply", "label"])
            table.writeheader()
            table.writerows(
                {n: v for n, v in row.items() if n != "messages"} | {"turns": 2} for row in replies(count)
            )
    elif kind == "jsonl":
        (folder / "t.jsonl").write_bytes(lines(replies(count)))
    elif kind == "parquet":
        parquet(replies(count), folder / "t.parquet")
    elif kind == "reference":
        # An array may have 64 MiB.
        (folder / "2" / "label").mkdir(parents=True)
        records = [
            {n: v for n, v in row.items() if n not in ("messages", "reply", "label")}
            | {"dialogue": row["messages"], "Dialog_Response": row["reply"], "safety_label": row["label"]}
            for row in replies(count)
        ]
        for place in range(0, count, 40_000):
            name = folder / "2" / "label" / f"m{place}.json"
            name.write_text(json.dumps(records[place : place + 40_000]), encoding="utf-8")
    else:
        with zipfile.ZipFile(folder / "log.eval", "w", zipfile.ZIP_DEFLATED) as archive:
            for row in replies(count):
                sample = {
                    "id": row["id"],
                    "epoch": 1,
                    "metadata": {"scenario": row["scenario"], "question": row["question"]},
                    "messages": [*row["messages"], {"role": "assistant", "content": row["reply"]}],
                    "output": {"completion": row["reply"], "choices": [{"stop_reason": "stop"}]},
                    "scores": {"judge": {"value": row["label"], "explanation": "As its rule says."}},
                }
                archive.writestr(f"samples/{row['id']}_epoch_1.json", json.dumps(sample))
    found = sorted(str(path) for path in folder.rglob("*") if path.is_file())
    return [*found, "--target", "cups", "--db", str(folder / "store.duckdb")]


def read(spec: str, mapped: str | None, with_pictures: bool) -> int:
    from safemt_client.datasets import open_dataset

    data = open_dataset(spec, data_map=mapped)
    _ = data.digest
    if with_pictures:
        for dialogue in data.dialogues:
            data.picture_digest(dialogue.messages[0].images[0])
    return len(data.dialogues)


def measured(words: list[str]) -> tuple[str, float, float]:
    """What a process of Python says, its CPU seconds and peak megabytes."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen([sys.executable, *words], stdout=subprocess.PIPE, env=environment, text=True)
    assert process.stdout is not None
    said = process.stdout.read()
    _, status, used = os.wait4(process.pid, 0)
    assert status == 0
    return said, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("forms", nargs="*", metavar="FORM", help=", ".join((*RECORDS, *IMPORTS, *PICTURES)))
    parser.add_argument("--records", type=int, default=100_000)
    parser.add_argument("--pictures", type=int, default=10_000)
    parser.add_argument("--read", nargs="+", help=argparse.SUPPRESS)
    parser.add_argument("--with-pictures", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.read:
        print(read(asked.read[0], asked.read[1] if len(asked.read) > 1 else None, asked.with_pictures))
        return
    print(f"Python {sys.version.split()[0]}; goals for 100,000 records: {GOALS[0]} s and {GOALS[1]} MB\n")
    print(f"{'form':<20}{'dialogues':>10}{'CPU s':>8}{'peak MB':>9}", flush=True)
    for form in asked.forms or (*RECORDS, *IMPORTS, *PICTURES):
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place)
            make, number = made, asked.records
            if form in PICTURES:
                make, number = made_pictures, asked.pictures
            elif form in IMPORTS:
                make = made_replies
            # In another process: what it holds is not what reading takes.
            child = os.fork()
            if child == 0:
                (folder / "spec").mkdir()
                (folder / "said.json").write_text(json.dumps(make(form, number, folder / "spec")))
                os._exit(0)
            os.waitpid(child, 0)
            words = json.loads((folder / "said.json").read_text())
            if form in IMPORTS:
                said, seconds, megabytes = measured(["-m", "safemt_client", "import", *words])
                count = int(said.split(" replies")[0].rsplit(" ", 1)[1].replace(",", ""))
            else:
                more = ["--with-pictures"] if form in PICTURES else []
                said, seconds, megabytes = measured([__file__, "--read", *words, *more])
                count = int(said)
            print(f"{form:<20}{count:>10,}{seconds:>8.1f}{megabytes:>9.0f}", flush=True)


if __name__ == "__main__":
    main()
