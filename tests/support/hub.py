"""A stand-in for the Hugging Face hub, over real HTTP on loopback: it serves the files of a folder."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class StandIn:
    """`folder` is the repository `name`. `refuse` is the status and error code of every answer, if it is set.

    `elsewhere` is an address that the files' contents are redirected to, as to a store of large files.
    """

    folder: Path
    name: str = "someone/cups"
    revisions: tuple[str, ...] = ("main", COMMIT)
    refuse: tuple[int, str] | None = None
    elsewhere: str | None = None
    url: str = ""
    asked: list[tuple[str, str, str | None]] = field(default_factory=list)

    @property
    def downloaded(self) -> list[str]:
        """The files whose contents were asked for."""
        paths = [path for method, path, _ in self.asked if method == "GET" and "/resolve/" in path]
        return sorted(unquote(path.split("/resolve/")[1].split("/", 1)[1]) for path in paths)

    def files(self) -> dict[str, bytes]:
        files = (path for path in self.folder.rglob("*") if path.is_file())
        return {path.relative_to(self.folder).as_posix(): path.read_bytes() for path in files}


@contextmanager
def served(hub: StandIn) -> Iterator[StandIn]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def do_HEAD(self) -> None:
            self.do_GET()

        def do_GET(self) -> None:
            raw = urlsplit(self.path).path
            path = unquote(raw)
            hub.asked.append((self.command, raw, self.headers.get("Authorization")))
            if hub.refuse is not None:
                self.answer(hub.refuse[0], b"", {"X-Error-Code": hub.refuse[1]})
            elif path.startswith(f"/api/datasets/{hub.name}/revision/"):
                self.info(path.rsplit("/revision/", 1)[1])
            elif path.startswith(f"/api/datasets/{hub.name}/tree/"):
                self.tree()
            elif path.startswith(f"/datasets/{hub.name}/resolve/"):
                self.file(*map(unquote, raw.split("/resolve/", 1)[1].split("/", 1)))
            elif path.startswith("/elsewhere/"):
                self.answer(200, hub.files()[path.removeprefix("/elsewhere/")], {"ETag": '"x"'})
            else:
                self.answer(401, b"", {"X-Error-Code": "RepoNotFound"})

        def info(self, revision: str) -> None:
            if revision not in hub.revisions:
                self.answer(404, b"", {"X-Error-Code": "RevisionNotFound"})
                return
            siblings = [{"rfilename": name} for name in hub.files()]
            self.answer(200, json.dumps({"id": hub.name, "sha": COMMIT, "siblings": siblings}).encode(), {})

        def tree(self) -> None:
            entries = [
                {"type": "file", "path": name, "size": len(data), "oid": hashlib.sha1(data).hexdigest()}
                for name, data in hub.files().items()
            ]
            self.answer(200, json.dumps(entries).encode(), {"Content-Type": "application/json"})

        def file(self, revision: str, name: str) -> None:
            data = hub.files().get(name)
            if data is None or revision not in hub.revisions:
                self.answer(404, b"", {"X-Error-Code": "EntryNotFound"})
                return
            about = {"X-Repo-Commit": COMMIT, "ETag": f'"{hashlib.sha1(data).hexdigest()}"'}
            if hub.elsewhere is not None:
                more = {
                    "X-Linked-Size": str(len(data)),
                    "X-Linked-Etag": f'"{hashlib.sha256(data).hexdigest()}"',
                }
                self.answer(302, b"", {**about, **more, "Location": f"{hub.elsewhere}/elsewhere/{name}"})
            else:
                self.answer(200, data, about)

        def answer(self, status: int, body: bytes, headers: dict[str, str]) -> None:
            self.send_response(status)
            for name, value in {"Content-Length": str(len(body)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    hub.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
