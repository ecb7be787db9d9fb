"""What must be the same in all processes of a run."""

from __future__ import annotations

import platform
from collections.abc import Mapping

from safemt_client import __version__
from safemt_client.providers.errors import InputError

__all__ = ["check_alike", "versions"]


def versions() -> dict[str, str]:
    """Those of this process."""
    return {"safemt_client": __version__, "python": platform.python_version()}


def check_alike(whose: str, said: Mapping[str, str]) -> None:
    """Refuse a process of the cluster with other versions than this one has.

    Raises:
        InputError: it has.
    """
    for name, version in versions().items():
        if said.get(name) != version:
            raise InputError(
                f"--ray: {whose} has {name} {said.get(name)}, and this process {version}: "
                "install the same everywhere"
            )
