"""The file behind an open store, known by what it is: while a run goes on, its name may be taken from it.

It is never opened here a second time: closing that would give up the lock that DuckDB has on it.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from safemt_client.results.store.wal import free_name

__all__ = ["HeldFile", "kept_for_another"]

_OPEN_FILES = Path("/proc/self/fd")
_HEAD = 4096
_AT_ONCE = 1 << 20


class HeldFile:
    """A store's file, to be made once DuckDB has opened it."""

    def __init__(self, path: Path) -> None:
        self._path = path.absolute()
        self._key = _key(os.stat(self._path))
        self._descriptor = _descriptor(self._key)
        self._name = self._current_name()
        self._head = self._read_head()

    def is_sound(self) -> bool:
        """Whether the file is where it was opened, and what it was: cheap enough for every commit."""
        return self.is_here() and self.is_whole()

    def is_here(self) -> bool:
        """Whether its name still leads to the file."""
        try:
            if _key(os.stat(self._path)) == self._key:
                return True
        except (FileNotFoundError, NotADirectoryError):
            return False
        except OSError:
            return True  # who may not look knows nothing
        # Some network file systems number a file anew.
        return self._name is not None and self._current_name() == self._name

    def is_whole(self) -> bool:
        """Whether it begins as it did: a copy over it keeps the file and changes what is in it."""
        return self._read_head() == self._head

    def fate(self) -> str:
        """What has become of a file that is not here any more, and where its rows are: for the user."""
        replaced = os.path.lexists(self._path)
        what = "another file has taken its place" if replaced else "it was renamed or removed"
        if (now := self._found()) is not None:
            where = f"all that was written is in {now}"
        elif (now := self._rescue()) is not None:
            where = f"all that was in it is kept as {now}"
        else:
            return f"{self._path}: {what} while it was in use; what was written is in it, if it still exists"
        return f"{self._path}: {what} while it was in use; {where}: go on with --db {shlex.quote(str(now))}"

    def _found(self) -> Path | None:
        """Where the file is now; None if it has no name any more, or if that cannot be known here."""
        name = self._current_name()
        with suppress(OSError):
            if name is not None and _key(os.stat(name)) == self._key:
                return Path(name)
        return None

    def _rescue(self) -> Path | None:
        """Copy a file without a name to a new one beside its old name; None if that is not possible here."""
        if self._descriptor is None:
            return None
        path = free_name(self._path, "rescued")
        with suppress(OSError), path.open("xb") as file:
            while part := os.pread(self._descriptor, _AT_ONCE, file.tell()):
                file.write(part)
            return path
        return None

    def _current_name(self) -> str | None:
        if self._descriptor is not None:
            with suppress(OSError):
                return os.readlink(_OPEN_FILES / str(self._descriptor))
        return None

    def _read_head(self) -> bytes:
        return b"" if self._descriptor is None else os.pread(self._descriptor, _HEAD, 0)


@contextmanager
def kept_for_another(wal: Path) -> Iterator[None]:
    """Keep a log of this name that is another run's by now: DuckDB removes its own by name."""
    aside = free_name(wal, "kept")
    try:
        linked = _descriptor(_key(os.stat(wal))) is None
        if linked:
            os.link(wal, aside)
    except OSError:
        linked = False
    try:
        yield
    finally:
        if linked and wal.exists():
            aside.unlink()
        elif linked:
            aside.rename(wal)


def _key(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino


def _descriptor(key: tuple[int, int]) -> int | None:
    """The number under which this process has the file open; None where that cannot be seen."""
    with suppress(OSError):
        for name in os.listdir(_OPEN_FILES):
            with suppress(OSError):
                if _key(os.fstat(int(name))) == key:
                    return int(name)
    return None
