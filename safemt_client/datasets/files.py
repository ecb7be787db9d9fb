"""Reading JSON and JSON lines with errors that name the file and the line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from safemt_client.providers.errors import InputError

__all__ = ["json_lines", "read_json"]

_MAX_LINE = 16 * 2**20


def read_json(path: Path) -> Any:
    """The content of a JSON file."""
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except json.JSONDecodeError as error:
        raise InputError(f"{path}: not JSON: line {error.lineno}: {error.msg}") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8: byte {error.start}: save it as UTF-8") from None
    except RecursionError:
        raise InputError(f"{path}: nested too deeply") from None
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from None


def json_lines(path: Path) -> Iterator[tuple[int, Any]]:
    """Line number and content of each line that is not blank."""
    try:
        with path.open("rb") as file:
            number = 0
            while line := file.readline(_MAX_LINE + 1):
                number += 1
                if len(line) > _MAX_LINE:
                    raise InputError(f"{path}: line {number}: longer than {_MAX_LINE} bytes")
                if line.strip():
                    try:
                        yield number, json.loads(line)
                    except (ValueError, RecursionError):
                        raise InputError(f"{path}: line {number}: not JSON in UTF-8") from None
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from None
