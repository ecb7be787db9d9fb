"""The query server of a run while files or threads are short: the run goes on, and its terminal stays its own."""

import errno
import os
import socketserver
import threading
from typing import NoReturn

import duckdb
import pytest

from safemt_client.results.store import server


def test_a_shortage_neither_ends_it_nor_lets_it_spin(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pauses: list[float] = []
    monkeypatch.setattr(server.time, "sleep", pauses.append)

    def no_file(self: object) -> NoReturn:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    def no_thread(self: object) -> NoReturn:
        raise RuntimeError("can't start new thread")

    with duckdb.connect() as connection, server._Server(connection, "t", lambda rows: None) as serving:
        monkeypatch.setattr(socketserver.TCPServer, "get_request", no_file)
        serving._handle_request_noblock()
        assert len(pauses) == 1
        monkeypatch.setattr(socketserver.TCPServer, "get_request", lambda self: (None, ("127.0.0.1", 1)))
        monkeypatch.setattr(threading.Thread, "start", no_thread)
        monkeypatch.setattr(socketserver.TCPServer, "shutdown_request", lambda self, request: None)
        serving._handle_request_noblock()
        assert serving.clients == {}
    assert capsys.readouterr() == ("", "")
