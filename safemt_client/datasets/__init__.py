"""Data sets: `open_dataset` finds the reader for what `--data` names."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from safemt_client.datasets import mt_bench, open_jsonl, safemt
from safemt_client.datasets.files import json_lines, shown
from safemt_client.datasets.model import Dataset
from safemt_client.providers.errors import InputError

__all__ = ["open_dataset"]


def open_dataset(spec: str, *, follow_links: bool = False) -> Dataset:
    """The data set that `--data` names.

    `sample` is the bundled benign one; `hf:OWNER/NAME` comes from the Hugging Face hub; a folder is
    SafeMT's; a `.jsonl` file is in the open form, or MT-Bench's questions. With `follow_links`
    links in it may lead anywhere; otherwise an image behind such a link is not sent.

    Raises:
        InputError: nothing is there, or its shape is wrong.
    """
    try:
        found = _open(spec)
    except OSError as error:
        raise InputError(f"--data {shown(spec)}: {error.strerror}") from None
    return replace(found, links_to=(Path("/"),)) if follow_links else found


def _open(spec: str) -> Dataset:
    if spec == "sample":
        return safemt.read(Path(__file__).resolve().parent / "sample")
    if spec.startswith("hf:"):
        from safemt_client.datasets import hugging_face

        return hugging_face.read(spec.removeprefix("hf:"))
    path = Path(spec)
    if path.is_dir():
        if safemt.find(path):
            return safemt.read(path)
        if (path / "question.jsonl").is_file():
            return _open(str(path / "question.jsonl"))
        raise InputError(f"{path}: no *_turn.json in it or in its Data folder: name SafeMT's folder")
    if not path.is_file():
        raise InputError(f"{path}: no such file or folder: name a SafeMT folder, a .jsonl file, or 'sample'")
    if path.suffix != ".jsonl":
        raise InputError(f"{path}: name a folder with *_turn.json, or a .jsonl file")
    first = next(json_lines(path), None)
    if first is not None and mt_bench.is_mt_bench(first[1]):
        return mt_bench.read(path)
    return open_jsonl.read(path)
