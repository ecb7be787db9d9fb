"""How the help of a command is set."""

from __future__ import annotations

import argparse
import textwrap

__all__ = ["Formatter"]


class Formatter(argparse.RawDescriptionHelpFormatter):
    """Help whose lines break only at spaces, so that a name such as `local-model:FOLDER` stays whole."""

    def _split_lines(self, text: str, width: int) -> list[str]:
        return textwrap.wrap(" ".join(text.split()), width, break_on_hyphens=False)
