"""The results of a large store are made ready before the viewer's address is shown, and keep nobody waiting for long."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from support.waiting import until
from support.written import Written

from safemt_client.viewer.results import Results, RunResults
from safemt_client.viewer.serve import Viewer, open_viewer, view
from safemt_client.viewer.snapshot import Snapshot

ENDLESS = "SELECT count(*) FROM range(1000000000) a, range(1000000) b WHERE a.range * b.range % 7 = 3"


@pytest.fixture
def store(tmp_path: Path) -> Path:
    written = Written(tmp_path / "w.duckdb")
    written.run("r", ["t"], {"j": "demo/j"}, dict.fromkeys(("a/1", "b/1")))
    written.reply("r", "t", "a/1", "one", j="unsafe")
    written.reply("r", "t", "b/1", "two", j="safe")
    return written.path


@pytest.fixture
def serve() -> Iterator[Callable[[Path], tuple[Viewer, threading.Thread]]]:
    started: list[tuple[Viewer, threading.Thread]] = []

    def start(path: Path) -> tuple[Viewer, threading.Thread]:
        viewer = open_viewer(path, port=0)
        viewer.wait_until_ready(0.01)
        thread = threading.Thread(target=viewer.run)
        thread.start()
        started.append((viewer, thread))
        return started[-1]

    yield start
    for viewer, thread in started:
        viewer.stop()
        thread.join()


def get(viewer: Viewer, where: str) -> httpx.Response:
    with httpx.Client(base_url=viewer.base, follow_redirects=True, trust_env=False, timeout=60) as client:
        client.get(f"/?token={viewer.token}")
        return client.get(where)


@pytest.mark.parametrize("large", [True, False])
def test_results_of_a_large_store_are_computed_before_they_are_asked_for_and_once(
    store: Path, serve: Callable, monkeypatch: pytest.MonkeyPatch, large: bool
) -> None:
    monkeypatch.setattr(Snapshot, "is_large", property(lambda self: large))
    computed: list[str] = []
    may_end = threading.Event()
    compute = RunResults._found

    def found(self: RunResults, *keys: Any) -> Results:
        computed.append(threading.current_thread().name)
        may_end.wait(60)
        return compute(self, *keys)

    monkeypatch.setattr(RunResults, "_found", found)
    viewer, _ = serve(store)
    if large:
        until(lambda: computed)
    pages: list[httpx.Response] = []
    asking = threading.Thread(target=lambda: pages.append(get(viewer, "/results?run=r")))
    asking.start()
    # Other pages do not wait for it.
    assert get(viewer, "/run?run=r").status_code == 200
    may_end.set()
    asking.join()
    assert "Attack success rate" in pages[0].text
    assert len(computed) == 1
    assert (computed[0] == "safemt-ready") is large


def test_the_end_does_not_wait_for_what_nobody_asked(
    store: Path, serve: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Snapshot, "is_large", property(lambda self: True))
    begun = threading.Event()

    def found(self: RunResults, *keys: Any) -> None:
        with self._snapshot.cursor() as cursor:
            begun.set()
            cursor.execute(ENDLESS)

    monkeypatch.setattr(RunResults, "_found", found)
    viewer, thread = serve(store)
    assert begun.wait(60)
    viewer.stop()
    thread.join(60)
    assert not thread.is_alive()
    assert "safemt-ready" not in [one.name for one in threading.enumerate()]


def test_the_address_is_shown_once_the_results_of_a_large_store_are_there(
    store: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Snapshot, "is_large", property(lambda self: True))
    shown: list[str] = []
    compute = RunResults._found

    def found(self: RunResults, *keys: Any) -> Results:
        results = compute(self, *keys)
        shown.append(capsys.readouterr().out)
        return results

    monkeypatch.setattr(RunResults, "_found", found)
    monkeypatch.setattr(Viewer, "run", Viewer.close)
    assert view(store, port=0, host="127.0.0.1", allow_remote=False, browser=False) == 0
    assert shown == [""]
    assert "token=" in capsys.readouterr().out


def test_ctrl_c_before_the_address_is_shown_ends_the_viewer(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bases: list[str] = []

    def interrupted(self: Viewer, seconds: float) -> None:
        bases.append(self.base)
        raise KeyboardInterrupt

    monkeypatch.setattr(Viewer, "wait_until_ready", interrupted)
    with pytest.raises(KeyboardInterrupt):
        view(store, port=0, host="127.0.0.1", allow_remote=False, browser=False)
    with pytest.raises(httpx.ConnectError), httpx.Client(trust_env=False) as client:
        client.get(bases[0])
