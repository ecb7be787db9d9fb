"""The exceptions of the program.

SafemtError
├── InputError            bad input: one line, exit status 2
│   ├── MissingKeyError   no key is set
│   └── StoreHeldError    a store that another process holds and does not answer for
├── PermitStoppedError    the session is ending
└── TargetStoppedError    no further request to this target can succeed
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from safemt_client.providers.error_codes import ErrorCode
    from safemt_client.providers.types import Reply

__all__ = [
    "InputError",
    "MissingKeyError",
    "PermitStoppedError",
    "SafemtError",
    "StoreHeldError",
    "TargetStoppedError",
]


class SafemtError(Exception):
    """Anything that is shown to the user as one line instead of a traceback."""


class InputError(SafemtError):
    """Bad input. The message is one line that names the file, the record and the fix."""


class MissingKeyError(InputError):
    """There is no key for a model; `variable` is the environment variable that would have it."""

    def __init__(self, name: str, variable: str) -> None:
        super().__init__(f"{name}: no key: set the environment variable {variable}")
        self.name = name
        self.variable = variable


class StoreHeldError(InputError):
    """Another process holds the store and does not answer queries, as briefly when a run begins or ends."""


class PermitStoppedError(SafemtError):
    """A request that waited for a permit was not sent, because the session is ending."""


class TargetStoppedError(SafemtError):
    """Authentication, quota or model name is wrong: the target is stopped, what it has is kept.

    `reply` is the attempt that showed it, to be stored as `error_permanent`; `code` and `status` are its own.
    """

    def __init__(
        self,
        message: str,
        reply: Reply | None = None,
        *,
        code: ErrorCode | None = None,
        status: int | None = None,
    ) -> None:
        super().__init__(message)
        self.reply = reply
        self.code = code if reply is None else reply.error_code
        self.status = status if reply is None else reply.status_code

    def repeated(self, who: str = "") -> TargetStoppedError:
        """The same error for another caller, `who` before its message; the reply stays with the first."""
        return TargetStoppedError(f"{who}{self}", code=self.code, status=self.status)
