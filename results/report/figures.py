"""The plots of a report as files for a paper: SVG, and PNG for what takes no SVG."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from safemt_client.providers.errors import InputError
from safemt_client.results.files import whole_file
from safemt_client.results.report.document import Document, Figure, Plot

__all__ = ["write_plots"]

_FIX = "name another folder"


def write_plots(document: Document, folder: Path) -> list[Path]:
    """Write every panel as SVG and PNG, named by its section and title; the files written.

    Files of the same names are replaced, others stay.

    Raises:
        InputError: a file cannot be written, or the extra `report` is not installed.
    """
    try:
        from safemt_client.results.report.plots import as_files
    except ImportError as error:
        raise InputError(
            f"--plots: {error.name} is not installed: pip install 'safemt-client[report]'"
        ) from None
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{folder}: {error.strerror or error}: {_FIX}") from None
    written = []
    for name, plot, wide in _panels(document):
        svg, png = as_files(plot, wide=wide)
        for suffix, content in ((".svg", svg.encode()), (".png", png)):
            path = folder / f"{name}{suffix}"
            with whole_file(path, _FIX) as part:
                part.write_bytes(content)
            written.append(path)
    return written


def _panels(document: Document) -> Iterator[tuple[str, Plot, bool]]:
    taken: set[str] = set()
    for section in document.sections:
        for block in section.blocks:
            for plot in block.panels if isinstance(block, Figure) else ():
                words = re.sub(r"[^a-z0-9]+", "-", plot.title.lower()).strip("-")[:60] or "plot"
                name, number = f"{section.key}-{words}", 2
                while name in taken:
                    name, number = f"{section.key}-{words}-{number}", number + 1
                taken.add(name)
                yield name, plot, isinstance(block, Figure) and block.wide
