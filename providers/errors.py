"""The exceptions of the program.

SafemtError
├── InputError            bad input: one line, exit status 2
│   └── StoreHeldError    a store that nobody answers for at the moment
├── PermitStoppedError    the session is ending
└── TargetStoppedError    no further request to this target can succeed
"""

from __future__ import annotations

__all__ = ["InputError", "PermitStoppedError", "SafemtError", "StoreHeldError", "TargetStoppedError"]


class SafemtError(Exception):
    """Anything that is shown to the user as one line instead of a traceback."""


class InputError(SafemtError):
    """Bad input. The message is one line that names the file, the record and the mend."""


class StoreHeldError(InputError):
    """A process holds the store and does not answer for it, as for a moment when its run begins or ends."""


class PermitStoppedError(SafemtError):
    """A request that waited for a permit was not sent, because the session is ending."""


class TargetStoppedError(SafemtError):
    """Authentication, quota or model name is wrong: the target is stopped, what it has is kept.

    `reply` is the attempt that showed it, to be stored as `error_permanent`.
    """

    def __init__(self, message: str, reply: object | None = None) -> None:
        super().__init__(message)
        self.reply = reply
