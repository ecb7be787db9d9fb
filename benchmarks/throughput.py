"""Scripted four-turn dialogues against a loopback endpoint: this program and its peers, in one run.

    python benchmarks/throughput.py [CONDITION ...] [--repeat 5] [--peers ...] [--share 1.0] [--write]
    python benchmarks/throughput.py --render

Every entry is a separate program, measured from start to end: CPU seconds (user and system) per 1,000
dialogues; seconds of wall time, peak memory; and, as the endpoint sees it, the seconds of sending as a ratio
to the ideal (requests x latency / connections). Sending ends with the last answer. It begins when a program
says so, as those of peers.py do before they prepare the first request, or else with the first request.
Medians of the repeats, which take turns, so that a busy moment of the machine does not fall on one program
alone. "its start and plan alone" is this program with --dry-run: what it needs before anything is sent.

--write puts what was measured into results.json, beside the conditions that were not measured, and makes that
section of README.md from it, which --render does alone. --share measures with so much of the dialogues.
inspect_ai and litellm need different versions of the openai SDK: INSPECT_PYTHON names the interpreter of an
environment that holds the former. PROMPTFOO names promptfoo's `dist/src/main.js`. Without these variables the
two are left out.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from measuring import BARE, HERE, PLAN, US, Measured, endpoint, measure, open_files, our_command, peer_file
from written import RESULTS, render, table, where

EVERY = (US, PLAN, BARE, "openai SDK", "litellm.acompletion", "reference pattern", "inspect_ai", "promptfoo")
SOME = (US, BARE, "litellm.acompletion", "reference pattern", "inspect_ai", "promptfoo")


@dataclass(frozen=True)
class Condition:
    """What the endpoint is like and what is asked of it."""

    title: str
    connections: int = 200
    latency_s: float = 0.2
    dialogues: int = 1000
    programs: tuple[str, ...] = SOME
    endpoint: tuple[str, ...] = ()
    tls: bool = False
    picture_bytes: int = 0
    judge: bool = False
    guard: bool = False

    @property
    def calls(self) -> int:
        """Requests for each dialogue."""
        return 1 + self.judge + self.guard


CONDITIONS = {
    "200": Condition("200 connections", dialogues=2000, programs=EVERY),
    "1000": Condition("1,000 connections", connections=1000, dialogues=2000, programs=EVERY),
    "tls": Condition("TLS", tls=True),
    "pictures": Condition("A picture of 200 KB in each dialogue", dialogues=500, picture_bytes=200_000),
    "2kb": Condition("Replies of 2 KB", endpoint=("--reply-bytes", "2000")),
    "20kb": Condition("Replies of 20 KB", endpoint=("--reply-bytes", "20000")),
    "judge": Condition("Each reply is judged", judge=True),
    "moderator": Condition("A guard is asked before each call", guard=True, programs=(US, BARE)),
    "closing": Condition(
        "The server closes connections after 100 requests",
        connections=10,
        latency_s=0.02,
        dialogues=2000,
        endpoint=("--close-after", "100"),
    ),
}


def write_dialogues(path: Path, count: int, picture_bytes: int = 0) -> None:
    words = "tell me more about how you would plan a quiet afternoon in the garden "
    with path.open("w") as file:
        for number in range(count):
            dialogue = []
            for turn in range(4):
                dialogue.append({"role": "user", "content": f"{number}.{turn} {(words * 3).strip()}"})
                dialogue.append({"role": "assistant", "content": (words * 8).strip()})
            record = {"id": f"item_{number}", "scenario": "Satire", "dialogue": dialogue[:-1]}
            if picture_bytes:
                record["image"] = write_picture(path.parent / f"{number}.png", number, picture_bytes)
            file.write(json.dumps(record) + "\n")


def write_picture(path: Path, seed: int, size: int) -> str:
    """A picture of noise, which cannot be compressed, and of about so many bytes."""
    from PIL import Image

    side = int((size / 3) ** 0.5)
    Image.frombytes("RGB", (side, side), random.Random(seed).randbytes(3 * side * side)).save(path)
    return path.name


def write_certificate(folder: Path) -> Path:
    """A key and a certificate for the loopback address, signed by itself."""
    key, made = folder / "key.pem", folder / "certificate.pem"
    words = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=bench"]
    words += ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(made)]
    subprocess.run(words, check=True, capture_output=True)
    both = folder / "both.pem"
    both.write_text(key.read_text() + made.read_text())
    return both


def missing(name: str) -> str | None:
    """What a program needs that is not here."""
    needed = {"inspect_ai": "INSPECT_PYTHON", "promptfoo": "PROMPTFOO"}.get(name)
    return None if needed is None or peer_file(needed) else "not installed"


def command(name: str, url: str, data: Path, condition: Condition) -> list[str]:
    if name in (US, PLAN):
        words = ["--dry-run"] if name == PLAN else []
        words += ["--judge", f"judge@{url}"] if condition.judge else []
        words += ["--moderator", f"llama-guard-4+block=guard@{url}"] if condition.guard else []
        return our_command(url, data, condition.connections, *words)
    python = os.environ["INSPECT_PYTHON"] if name == "inspect_ai" else sys.executable
    words = ["--judge"] * condition.judge + ["--guard"] * condition.guard
    return [python, str(HERE / "peers.py"), name, url, str(data), str(condition.connections), *words]


def measured(condition: Condition, names: list[str], repeat: int) -> dict[str, Any]:
    """The figures of each program under a condition; of one that fails twice only why."""
    runs: dict[str, list[Measured]] = {name: [] for name in names}
    failures = dict.fromkeys(names, 0)
    failed: dict[str, str] = {name: said for name in names if (said := missing(name))}
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        data = folder / "dialogues.jsonl"
        write_dialogues(data, condition.dialogues, condition.picture_bytes)
        certificate = write_certificate(folder) if condition.tls else None
        trusted = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "NODE_EXTRA_CA_CERTS")
        variables = {name: str(folder / "certificate.pem") for name in trusted if condition.tls}
        words = ("--latency", str(condition.latency_s), *condition.endpoint)
        with endpoint(folder, *words, tls=certificate) as (seen, url):
            for number in range(repeat):
                for name in names:
                    if name in failed:
                        continue
                    found = measure(name, seen, command(name, url, data, condition), variables)
                    expected = 0 if name == PLAN else condition.dialogues * condition.calls
                    if found is None or found.requests != expected:
                        failures[name] += 1
                        if failures[name] == 2:
                            failed[name] = (
                                "failed" if found is None else f"{found.requests} requests, not {expected}"
                            )
                    else:
                        runs[name].append(found)
                        told = f"{condition.title}: {name}, {number + 1} of {repeat}: {found.cpu_s:.1f} CPU s"
                        print(f"{told}, {found.wall_s:.1f} s", file=sys.stderr, flush=True)
    return {
        name: {"failed": failed.get(name, "failed")}
        if name in failed or not runs[name]
        else {"times": len(runs[name]), "failures": failures[name]}
        | {
            field: round(statistics.median(getattr(one, field) for one in runs[name]), 4)
            for field in ("cpu_s", "wall_s", "peak_mb", "sending_s", "since_first_s", "sent_mb")
        }
        for name in names
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("conditions", nargs="*", metavar="CONDITION", help=f"all of {', '.join(CONDITIONS)}")
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument(
        "--peers", nargs="*", choices=EVERY, help="beside this program; by default all that can"
    )
    parser.add_argument(
        "--share", type=float, default=1, help="of the dialogues: for a look, not for figures"
    )
    parser.add_argument("--write", action="store_true", help="write results.json and README.md")
    parser.add_argument("--render", action="store_true", help="only make README.md from results.json")
    arguments = parser.parse_args()
    unknown = [name for name in arguments.conditions if name not in CONDITIONS]
    if unknown:
        parser.error(f"{unknown[0]}: none of {', '.join(CONDITIONS)}")
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    open_files()
    for key in [] if arguments.render else arguments.conditions or list(CONDITIONS):
        condition = CONDITIONS[key]
        changed = {"dialogues": max(1, int(condition.dialogues * arguments.share))}
        condition = Condition(**(vars(condition) | changed))
        peers = condition.programs if arguments.peers is None else (US, PLAN, BARE, *arguments.peers)
        names = [name for name in condition.programs if name in peers]
        found = {
            "title": condition.title,
            "connections": condition.connections,
            "latency_s": condition.latency_s,
            "dialogues": condition.dialogues,
            "calls": condition.calls,
            "where": where(),
            "programs": measured(condition, names, arguments.repeat),
        }
        print(f"\n{table(found)}\n", flush=True)
        results[key] = found
        if arguments.write:
            ordered = {name: results[name] for name in CONDITIONS if name in results}
            RESULTS.write_text(json.dumps(ordered, indent=2) + "\n")
    if arguments.write or arguments.render:
        render()


if __name__ == "__main__":
    main()
