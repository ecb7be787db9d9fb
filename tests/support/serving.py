"""Managed servers in tests: the stand-in's specification, and which processes there are."""

import os
import shlex
import sys
from pathlib import Path

from safemt_client.serving.keeper import MARK, Record, start_of
from safemt_client.serving.server import ServerSpec
from safemt_client.serving.sweep import read_record

from . import stand_in

__all__ = ["as_vllm", "left", "nothing_is_left", "of_stand_in", "record_of"]


def nothing_is_left(folder: Path) -> None:
    """Nothing of a server is there but its log, and nothing says where it was."""
    assert [*folder.glob("*.serving"), *folder.glob("*.servers*")] == []
    name = str(folder).encode()
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            assert name not in path.read_bytes(), path
        except OSError:
            continue


def of_stand_in(*words: str, **changed: object) -> ServerSpec:
    """A server that behaves as the words say."""
    given: dict[str, object] = {
        "name": "stand:in",
        "model": stand_in.MODEL,
        "command": (sys.executable, "-S", stand_in.__file__, "{port}", *words),
        "key_variable": "STAND_IN_KEY",
    }
    return ServerSpec(**given | changed)  # type: ignore[arg-type]


def as_vllm(folder: Path, *words: str) -> tuple[str, str, str]:
    """The name of a model whose vLLM behaves as the words say, and the options that go with it."""
    model, python = folder / "small", folder / "python"
    model.mkdir()
    (model / "config.json").write_text('{"dtype": "bfloat16"}')
    (model / "model.safetensors").write_bytes(b"weights")
    stand = shlex.join([sys.executable, "-S", stand_in.__file__])
    # Asked with -c for its version, or: -m MODULE --model M --served-model-name NAME --host HOST --port PORT.
    python.write_text(
        '#!/bin/sh\nif [ "$1" = -c ]; then echo 1+cpu; exit; fi\n'
        f'exec {stand} "${{10}}" "model=$6" key=VLLM_API_KEY {shlex.join(words)}\n'
    )
    python.chmod(0o700)
    return f"vllm:{model}", "--serve-python", str(python)


def record_of(folder: Path) -> Record:
    """What is recorded of the one server of a folder."""
    (path,) = folder.glob("*.serving")
    record = read_record(path)
    assert record is not None
    return record


def left(record: Record) -> set[int]:
    """The processes of a server and its watchdog that there are still."""
    mark = f"{MARK}={record['mark']}".encode()
    found = {record["keeper"]} if start_of(record["keeper"]) == record["keeper_start"] else set()
    for entry in os.scandir("/proc"):
        try:
            if entry.name.isdecimal() and mark in Path(entry.path, "environ").read_bytes().split(b"\0"):
                found.add(int(entry.name))
        except OSError:
            continue
    return found
