"""For this program's own servers: what clients send, and the keys in it, is not logged."""

from __future__ import annotations

import logging

__all__ = ["SILENT"]

SILENT = logging.getLogger("safemt_client.silent")
"""A logger that drops everything: the client is answered, and the terminal is somebody else's."""
SILENT.addHandler(logging.NullHandler())
SILENT.propagate = False
