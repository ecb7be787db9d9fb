"""The scores of a run as one file to share: HTML with plots, Markdown, LaTeX tables.

All of them, and the terminal, show the same `document.Document`, which `build.document` makes from
`scores.as_dict`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from safemt_client.providers.errors import InputError
from safemt_client.results.files import whole_file
from safemt_client.results.report.build import document
from safemt_client.results.report.figures import write_plots
from safemt_client.results.report.latex import latex
from safemt_client.results.report.markdown import markdown

__all__ = ["html", "latex_tables", "markdown_text", "plots", "write_pages"]


def html(found: dict[str, Any]) -> str:
    """One HTML page with all plots in it: no script, nothing to fetch.

    Raises:
        InputError: the extra `report` is not installed.
    """
    # Altair and its renderer take half a second to import.
    from safemt_client.results.report.html import webpage

    return webpage(document(found))


def markdown_text(found: dict[str, Any]) -> str:
    """The tables and notes as Markdown, for a paper's appendix."""
    return markdown(document(found))


def latex_tables(found: dict[str, Any]) -> str:
    """The tables as LaTeX, to be read in by `\\input`."""
    return latex(document(found))


def plots(found: dict[str, Any], folder: Path) -> list[Path]:
    """Every plot of the report as SVG and PNG in a folder; the files written.

    Raises:
        InputError: a file cannot be written, or the extra `report` is not installed.
    """
    return write_plots(document(found), folder)


_FORMS: dict[str, Callable[[dict[str, Any]], str]] = {
    "html": html,
    "markdown": markdown_text,
    "latex": latex_tables,
}


def write_pages(found: dict[str, Any], files: Mapping[str, Path | None]) -> list[Path]:
    """Write each form (html, markdown, latex) that has a file; a file is replaced as a whole.

    Returns the files written. Nothing is written unless all forms can be made.

    Raises:
        InputError: a file cannot be written or is named twice, or HTML lacks the extra `report`.
    """
    wanted = {form: path for form, path in files.items() if path is not None}
    for path in wanted.values():
        if sum(path.absolute() == other.absolute() for other in wanted.values()) > 1:
            raise InputError(f"{path}: is named for two formats: name two files")
    texts = [(path, _FORMS[form](found)) for form, path in wanted.items()]
    for path, text in texts:
        with whole_file(path, "name another file") as part:
            part.write_text(text, encoding="utf-8", newline="\n")
    return [path for path, _ in texts]
