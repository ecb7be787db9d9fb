"""How the help of a command is set."""

from __future__ import annotations

import argparse
import textwrap

__all__ = ["Formatter"]


class Formatter(argparse.RawDescriptionHelpFormatter):
    """Help whose lines break only at spaces, so that a name such as `local-model:FOLDER` stays whole."""

    def _split_lines(self, text: str, width: int) -> list[str]:
        return textwrap.wrap(" ".join(text.split()), width, break_on_hyphens=False)

    def _format_action(self, action: argparse.Action) -> str:
        """Of actions that have parsers of their own, each in a line, without a line that lists them again."""
        if isinstance(action, argparse._SubParsersAction):
            return "".join(map(self._format_action, self._iter_indented_subactions(action)))
        return super()._format_action(action)
