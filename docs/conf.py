"""The documentation as a site: Sphinx over the Markdown files that are read in the repository (`make docs`).

The root of the sources is the repository, so that links between its folders need no translation. The table of
contents is made from the lists of `docs/README.md`, the one place that names every page.
"""

import inspect
import re
from pathlib import Path

from pygments.lexers.special import TextLexer
from sphinx.application import Sphinx

import safemt_client

project = "safemt_client"
author = "the authors of safemt_client"
project_copyright = author
version = release = safemt_client.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
root_doc = "docs/README"
include_patterns = [
    "docs/**.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    "benchmarks/README.md",
    "examples/plugin/README.md",
]
exclude_patterns = ["**/.*", "build"]

myst_heading_anchors = 4
myst_enable_extensions = ["attrs_inline"]

default_role = "code"  # what a docstring has in single backquotes
autodoc_member_order = "bysource"
autodoc_typehints = "description"

html_theme = "furo"
html_title = f"safemt_client {version}"
html_show_sphinx = False
html_copy_source = False


def contents(page: str) -> list[str]:
    """A hidden table of contents for each heading of the index, of the pages that its list links to."""
    trees = []
    for heading, body in re.findall(r"^## (.+)\n((?:(?!^## ).*\n?)*)", page, flags=re.M):
        pages = [link for link in re.findall(r"\]\(([\w./-]+\.md)\)", body) if not link.startswith("http")]
        lines = [f"{link.removesuffix('.md')}" for link in pages]
        trees.append("\n".join(["```{toctree}", ":hidden:", f":caption: {heading}", "", *lines, "```", ""]))
    return trees


def reference() -> str:
    """The public names with their docstrings, for the end of the page on the Python API."""
    lines = ["", "## All public names", "", "```{eval-rst}", ".. currentmodule:: safemt_client", ""]
    for name in sorted(safemt_client.__all__):
        kind = "autofunction" if inspect.isfunction(getattr(safemt_client, name)) else "autoclass"
        lines += [f".. {kind}:: {name}", *(["   :members:"] if kind == "autoclass" else []), ""]
    return "\n".join([*lines, "```", ""])


def add_generated(app: Sphinx, document: str, source: list[str]) -> None:
    """Append what is made from elsewhere as Sphinx reads a page."""
    if document == root_doc:
        source[0] += "\n" + "\n".join(contents(source[0]))
    elif document == "docs/api":
        source[0] += reference()


def add_front_page(app: Sphinx, error: Exception | None) -> None:
    """Lead the site's address itself to the index, which lies in the folder of the documents."""
    if error is None and app.builder.format == "html":
        page = '<!doctype html><meta charset="utf-8"><title>safemt_client</title>'
        page += '<meta http-equiv="refresh" content="0; url=docs/README.html">'
        page += '<a href="docs/README.html">Documentation</a>\n'
        (Path(app.outdir) / "index.html").write_text(page, encoding="utf-8")


def setup(app: Sphinx) -> None:
    """Register what this file adds."""
    app.connect("source-read", add_generated)
    app.add_lexer("mermaid", TextLexer)  # diagrams are drawn in the repository, and stay as text here
    app.connect("build-finished", add_front_page)
