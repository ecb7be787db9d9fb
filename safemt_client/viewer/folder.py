"""The files of an exported run: pages, pictures, styles and scripts, counted as they are written."""

from __future__ import annotations

from datetime import UTC, datetime
from importlib import resources
from pathlib import Path
from typing import Any

from safemt_client import __version__
from safemt_client.viewer.filed import Contents, Filed
from safemt_client.viewer.plots import bundle
from safemt_client.viewer.rendering import Templates

__all__ = ["Folder"]

_SUFFIXES = {"image/jpeg": "jpg", "image/png": "png", "image/webp": "webp", "image/gif": "gif"}
_STATIC = ("style.css", "label.css", "print.css", "noscript.css", "viewer.js", "keys.js", "plots.js")


class Folder:
    """Writes into a folder. `about` is at the head of each page."""

    def __init__(self, path: Path, contents: Contents, *, redacted: bool) -> None:
        self._path = path
        self._contents = contents
        # Where there are no texts, there is nothing to be warned of.
        self._show = redacted
        left_out = ", texts left out" if redacted else ""
        self.about = f"exported {datetime.now(UTC):%Y-%m-%d} by version {__version__}{left_out}"
        self._templates = Templates()
        self.files = self.bytes = 0

    def link(self, path: str) -> Filed:
        """The links of the page at `path`."""
        return Filed(self._contents, path, self.about)

    def page(self, path: str, template: str, /, **values: Any) -> None:
        """Write a page."""
        data = self._templates.page(template, link=self.link(path), show=self._show, here="", **values)
        self.put(path, data)

    def put(self, path: str, data: bytes) -> None:
        """Write a file."""
        place = self._path / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(data)
        self.files += 1
        self.bytes += len(data)

    def picture(self, sha256: str, found: tuple[bytes, str] | None) -> str | None:
        """Write an image with its type; return its path, None if it cannot be shown."""
        if found is None or found[1] not in _SUFFIXES or not sha256.isalnum():
            return None
        name = f"images/{sha256[:2]}/{sha256}.{_SUFFIXES[found[1]]}"
        self.put(name, found[0])
        return name

    def static(self) -> None:
        """Write styles and scripts."""
        static = resources.files("safemt_client.viewer").joinpath("static")
        for name in _STATIC:
            self.put(f"static/{name}", static.joinpath(name).read_bytes())
        script = bundle()
        if script is None:
            script = "// made without the package that brings the plots: the tables say the same\n"
        # A module, which a page that is a file cannot load, made a plain script.
        self.put("static/vega.js", f'(() => {{ "use strict";\n{script}\n}})();\n'.encode())
