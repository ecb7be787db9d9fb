"""The command line, `python -m safemt_client` and `safemt`: from arguments to an exit status."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from safemt_client.cli.starting import starting

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; return its exit status."""
    with starting():
        from safemt_client.cli.program import run
    status = run(argv)
    server = sys.modules.get("safemt_client.results.store.server")
    if server is not None and server.works_on():
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    return status


if __name__ == "__main__":
    sys.exit(main())
