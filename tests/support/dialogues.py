"""Small benign dialogues and the files that hold them."""

import base64
import io
import json
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from PIL import Image as Pillow

from safemt_client.datasets import open_dataset
from safemt_client.datasets.model import Dataset


def user(text: str, **more: Any) -> dict[str, Any]:
    return {"role": "user", "content": text, **more}


def reply(text: str, **more: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": text, **more}


def record(*messages: Any, **more: Any) -> dict[str, Any]:
    return {"id": "a", "dialogue": list(messages) or [user("How is tea made?")], **more}


def picture(kind: str = "JPEG", colour: int = 200) -> bytes:
    out = io.BytesIO()
    Pillow.new("RGB", (40, 30), (colour, 20, 20)).save(out, kind)
    return out.getvalue()


def in_base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def lines(*records: Any) -> bytes:
    return "".join(json.dumps(one, ensure_ascii=False) + "\n" for one in records).encode()


def put(path: Path, content: Any) -> Path:
    """Write bytes, text, or else JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if not isinstance(content, bytes):
        content = (content if isinstance(content, str) else json.dumps(content)).encode()
    path.write_bytes(content)
    return path


def opened(folder: Path, *records: Any, **options: Any) -> Dataset:
    """The data set of these records as JSON lines."""
    return open_dataset(str(put(folder / "d.jsonl", lines(*records))), **options)


def said(data: Dataset, number: int = 0) -> list[tuple[str, str, tuple[str, ...]]]:
    return [(m.role[0], m.text, m.images) for m in data.dialogues[number].messages]


def kinds(data: Dataset) -> set[str]:
    return {oddity.kind for oddity in data.warnings}


def packed(path: Path, files: Mapping[str, Any], kind: str = "zip") -> Path:
    """An archive of these files, its ending added."""
    contents = {n: c if isinstance(c, bytes) else json.dumps(c).encode() for n, c in files.items()}
    path = path.with_name(f"{path.name}.{kind}")
    path.parent.mkdir(parents=True, exist_ok=True)
    if kind == "zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in contents.items():
                archive.writestr(name, content)
        return path
    with tarfile.open(path, "w") as tar:
        for name, content in contents.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return path
