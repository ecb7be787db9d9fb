"""Files of what was asked and said: their owner's alone, and never written through a link."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

__all__ = ["open_own"]


def open_own(path: str | Path) -> int:
    """A descriptor to write at the end of a file that only its owner can read, made where there is none.

    Raises:
        OSError: it cannot be opened, or is a link, another user's, or not a file; `strerror` says so.
    """
    try:
        # Not to wait for a reader, should it be a pipe.
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        descriptor = os.open(path, flags, 0o600)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.EMLINK):
            raise OSError(error.errno, "is a link, and links are not followed", str(path)) from None
        if error.errno == errno.ENXIO:
            raise OSError(error.errno, "is not a file", str(path)) from None
        raise
    found = os.fstat(descriptor)
    why = None
    if stat.S_ISREG(found.st_mode):
        if found.st_uid != os.geteuid():
            why = "belongs to another user"
        elif found.st_mode & 0o077:
            os.fchmod(descriptor, 0o600)
    elif not stat.S_ISCHR(found.st_mode):
        why = "is not a file"
    if why is not None:
        os.close(descriptor)
        raise OSError(errno.EPERM, why, str(path))
    os.set_blocking(descriptor, True)
    return descriptor
