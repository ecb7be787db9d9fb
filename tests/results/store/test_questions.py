"""Questions to a store that a run holds: answered in parts, bounded, and stopped with the run or with who asks."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path

import pytest

from safemt_client.providers.errors import InputError, StoreHeldError
from safemt_client.results.store import server
from safemt_client.results.store.queries import Result
from safemt_client.results.store.reader import Reader, open_reader
from safemt_client.results.store.server import server_file
from safemt_client.results.store.store import Store

ROOT = Path(__file__).resolve().parents[3]
LONG = "SELECT count(*) FROM range(1000000000) a, range(1000000) b WHERE a.range * b.range % 7 = 3"
ENDLESS = "SELECT a.range FROM range(1000000000) a, range(1000000) b"
DEADLINE_S = 60


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "d.duckdb") as found:
        yield found


class Asker(Reader):
    """Asks as another process would, and does not go on with the file when the run has ended."""

    def _taken_over(self) -> bool:
        return False


def asker(store: Store) -> Reader:
    found = json.loads(server_file(store.path).read_text())
    return Asker(store.path, None, found["token"], found["port"])


def wait_for(state: Callable[[], object]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not state():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def at_work(store: Store) -> bool:
    return any(client.question is not None for client in store._server._http.clients.values())


def in_a_thread(ask: Callable[[], Result]) -> "Future[Result]":
    future: Future[Result] = Future()

    def work() -> None:
        try:
            future.set_result(ask())
        except BaseException as error:  # noqa: BLE001 - raised where it is waited for
            future.set_exception(error)

    threading.Thread(target=work, daemon=True).start()
    return future


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("safemt")]


@pytest.mark.parametrize("sql", [LONG, ENDLESS])
def test_closing_stops_a_question_and_tells_who_asked(sql: str, store: Store) -> None:
    reader = asker(store)
    answer = in_a_thread(lambda: reader.query(sql))
    wait_for(lambda: at_work(store))
    store.close()
    assert threads() == []
    with pytest.raises(StoreHeldError, match="ended: ask again"):
        answer.result(DEADLINE_S)
    # The file is free.
    with open_reader(store.path) as again:
        assert again.query("SELECT 1").rows == [(1,)]


def test_closing_does_not_wait_for_who_says_nothing(store: Store) -> None:
    port = json.loads(server_file(store.path).read_text())["port"]
    with socket.create_connection(("127.0.0.1", port)) as silent:
        silent.sendall(b"POST / HTTP/1.1\r\n")
        wait_for(lambda: store._server._http.clients)
        store.close()
        assert threads() == []


def test_a_question_ends_with_the_process_that_asked(store: Store, capfd: pytest.CaptureFixture[str]) -> None:
    words = [sys.executable, "-m", "safemt_client", "sql", LONG, "--db", str(store.path)]
    with subprocess.Popen(
        words, env=os.environ | {"PYTHONPATH": str(ROOT)}, stderr=subprocess.PIPE
    ) as asking:
        wait_for(lambda: at_work(store))
        asking.send_signal(signal.SIGINT)
        assert asking.stderr is not None
        assert asking.stderr.read() == b"safemt: interrupted; the same command resumes\n"
    wait_for(lambda: not store._server._http.clients)
    assert "Traceback" not in capfd.readouterr().err


def test_an_interrupted_question_ends_in_the_run_too(store: Store) -> None:
    reader = asker(store)
    answer = in_a_thread(lambda: reader.query(LONG))
    wait_for(lambda: at_work(store))
    reader.interrupt()
    with pytest.raises(InputError):
        answer.result(DEADLINE_S)
    wait_for(lambda: not store._server._http.clients)
    assert reader.query("SELECT 1").rows == [(1,)]


def test_a_question_that_takes_too_long(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "_MOST_S", 0.1)
    for timeout_s, said in ((None, "ask again when the run is over"), (0.05, "stopped after 0.05 s")):
        with pytest.raises(InputError, match=said):
            asker(store).query(LONG, timeout_s=timeout_s)


def test_a_question_that_takes_too_much_memory(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "_MOST_BYTES", 16 << 20)
    with pytest.raises(InputError, match=r"memory: .*ask again when the run is over"):
        asker(store).query("SELECT count(*) FROM (SELECT DISTINCT range FROM range(1000000000))")
    assert asker(store).query("SELECT count(*) FROM range(1000)").rows == [(1000,)]


def test_an_answer_in_parts_is_whole_or_an_error(store: Store) -> None:
    reader = asker(store)
    assert reader.query("FROM range(1000)").rows == [(n,) for n in range(1000)]
    assert reader.query("FROM range(1000)", limit=100).rows == [(n,) for n in range(100)]
    assert reader.query("SELECT 1 AS n WHERE false") == Result(["n"], [])
    assert reader.query("SELECT 1 AS n", limit=0) == Result(["n"], [])
    with pytest.raises(InputError, match="too far"):
        reader.query("SELECT if(range = 100000, error('too far'), range) FROM range(200000)")
    with pytest.raises(InputError, match="cast it to text"):
        reader.query("SELECT MAP {DATE '2026-01-01': 3}")


@pytest.mark.parametrize("told", [b"", b'{"columns": ["n"]}\n[[1], [2', b'{"columns": ["n"]}\n[[1]]\n'])
def test_an_answer_that_is_cut_off_is_not_taken_for_the_whole(told: bytes, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        reader = Asker(tmp_path / "d.duckdb", None, "t", listening.getsockname()[1])
        answer = in_a_thread(lambda: reader.query("SELECT 1"))
        connection, _ = listening.accept()
        with connection:
            while b'"sql"' not in connection.recv(65_536):
                pass
            connection.sendall(b"HTTP/1.0 200 OK\r\n\r\n" + told)
        with pytest.raises(StoreHeldError, match="has ended: ask again"):
            answer.result(DEADLINE_S)


def test_where_another_run_can_be_asked_is_left_alone(store: Store) -> None:
    theirs = '{"port": 9, "token": "theirs", "pid": 1}'
    server_file(store.path).write_text(theirs)
    store.close()
    assert server_file(store.path).read_text() == theirs
