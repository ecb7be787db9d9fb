"""Planted secrets: how each may be spelled, and a search for them in whatever the program wrote."""

import base64
import gzip
import html
import json
import zipfile
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

import duckdb
import pyarrow.parquet

__all__ = ["clean_files", "escaped", "everywhere", "spellings", "texts"]


def spellings(key: str) -> list[str]:
    code = base64.b64encode(f"Bearer {key}".encode()).decode()
    return [
        key,
        quote(key, safe=""),
        json.dumps(key).replace("/", "\\/")[1:-1],
        code[12:-4],
        key.encode().hex(),
        escaped(key),
    ]


def escaped(text: str) -> str:
    """Each character as JSON may spell it."""
    return "".join(f"\\u{ord(letter):04x}" for letter in text)


def everywhere(key: str) -> list[str]:
    """A secret as answers may repeat it."""
    percent = "".join(f"%{ord(letter):02x}" for letter in key)
    entities = "".join(f"&#{ord(letter)};" for letter in key)
    shifted = [base64.b64encode(("x" * n + key + "y").encode()).decode() for n in range(3)]
    slashed = json.dumps(key).replace("/", "\\/")[1:-1]
    plain = [
        key,
        quote(key, safe=""),
        quote(quote(key, safe="")),
        slashed,
        html.escape(key),
        key.encode().hex(),
    ]
    return [*plain, escaped(key), percent, entities, *shifted]


def texts(path: Path) -> list[str]:
    """What a file holds, also where it is packed."""
    raw = path.read_bytes()
    found = [raw.decode("latin-1"), raw.decode("utf-16-le", "ignore")]
    if raw.startswith(b"PAR1"):
        table = pyarrow.parquet.read_table(path)
        found += [str(table.to_pylist()), str(table.schema.metadata)]
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as packed:
            found += [packed.read(name).decode("latin-1") for name in packed.namelist()]
    if raw.startswith(b"\x1f\x8b"):
        found.append(gzip.decompress(raw).decode("latin-1"))
    if path.suffix == ".duckdb":
        with duckdb.connect(str(path), read_only=True) as store:
            for (table,) in store.execute("SELECT table_name FROM duckdb_tables()").fetchall():
                found.append(str(store.execute(f'FROM "{table}"').fetchall()))
    return found


def clean_files(folder: Path, marks: Sequence[str]) -> list[str]:
    """That no file below holds one of the marks; the names of the files."""
    looked_at = []
    for path in sorted(folder.rglob("*")):
        assert "planted" not in path.name
        if path.is_file():
            looked_at.append(str(path.relative_to(folder)))
            for text in texts(path):
                for mark in marks:
                    assert mark not in text, f"{path}: {mark}"
    return looked_at
