"""Filters that people have given a name: in a file beside the store, so that they outlive viewer and browser.

What is kept is the address without the run: the same filters serve every run of the store.
"""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path

from safemt_client.providers.errors import InputError
from safemt_client.results.store.facts_folder import is_facts

__all__ = ["SavedFilters", "saved_file"]

_LONGEST, _MOST = 80, 200
"""Characters of a name, and names in a file."""


def saved_file(path: Path) -> Path:
    """The file with the named filters of the store at `path`."""
    return path.with_name(path.name + ".filters.json")


class SavedFilters:
    """The named filters of one store; each change is on the disk when it returns."""

    def __init__(self, path: Path) -> None:
        self._store = path
        self._file = saved_file(path)
        self._lock = threading.Lock()

    def all(self) -> dict[str, str]:
        """Name and address parameters of each, by name.

        Raises:
            InputError: the file is not what was written.
        """
        try:
            found = json.loads(self._file.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, RecursionError):
            found = None
        if not isinstance(found, dict) or not all(isinstance(one, str) for one in found.values()):
            raise InputError(f"{self._file}: cannot be read as saved filters: repair or remove it")
        return dict(sorted(found.items()))

    def save(self, name: str, query: str) -> None:
        """Keep these parameters under a name, in place of what it had.

        Raises:
            InputError: the name is none, there are too many, or the file cannot be written.
        """
        name = " ".join(name.split())
        if not name or len(name) > _LONGEST or not name.isprintable():
            raise InputError(f"saved filters: give a name of 1 to {_LONGEST} printable characters")
        if is_facts(self._store):
            raise InputError("saved filters: are kept beside a store, and these are facts")
        with self._lock:
            known = self.all()
            if name not in known and len(known) >= _MOST:
                raise InputError(f"saved filters: there are {_MOST} already: remove one first")
            self._write(known | {name: query})

    def remove(self, name: str) -> None:
        """Forget a name; one that is not there is no error.

        Raises:
            InputError: the file cannot be read or written.
        """
        with self._lock:
            known = self.all()
            if known.pop(name, None) is not None:
                self._write(known)

    def _write(self, known: dict[str, str]) -> None:
        beside = self._file.with_name(f"{self._file.name}.{os.getpid()}")
        try:
            beside.write_text(json.dumps(known, indent=1, sort_keys=True) + "\n", encoding="utf-8")
            beside.replace(self._file)
        except OSError as error:
            beside.unlink(missing_ok=True)
            raise InputError(f"{self._file}: {error.strerror}: the filters are not saved") from None
