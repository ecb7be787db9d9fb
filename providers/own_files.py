"""Files of what was asked and said: their owner's alone, and never written through a link."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

__all__ = ["open_own"]

_HAS_OWNERS = hasattr(os, "geteuid")
_CAREFULLY = sum(getattr(os, name, 0) for name in ("O_NOFOLLOW", "O_NONBLOCK", "O_CLOEXEC", "O_NOINHERIT"))
"""Not through a link, without waiting for a reader of a pipe, and not for programs that are started later."""


def open_own(path: str | Path) -> int:
    """A descriptor to write at the end of a file that only its owner can read, made where there is none.

    Raises:
        OSError: it cannot be opened, or is a link, another user's, or not a file; `strerror` says so.
    """
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | _CAREFULLY, 0o600)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.EMLINK):
            raise OSError(error.errno, "is a link, and links are not followed", str(path)) from None
        if error.errno == errno.ENXIO:
            raise OSError(error.errno, "is not a file", str(path)) from None
        raise
    found = os.fstat(descriptor)
    why = None
    if not _HAS_OWNERS:
        # Windows: who may read a file is not in its mode.
        why = "is a link, and links are not followed" if os.path.islink(path) else None
    elif stat.S_ISREG(found.st_mode):
        if found.st_uid != os.geteuid():
            why = "belongs to another user"
        elif found.st_mode & 0o077:
            os.fchmod(descriptor, 0o600)
    elif not stat.S_ISCHR(found.st_mode):
        why = "is not a file"
    if why is not None:
        os.close(descriptor)
        raise OSError(errno.EPERM, why, str(path))
    if _HAS_OWNERS:
        os.set_blocking(descriptor, True)
    return descriptor
