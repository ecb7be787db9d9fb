"""The viewer and requests that can be read in two ways, that never end, or that come for another host."""

import asyncio
import gzip
import threading
from collections.abc import Iterator
from pathlib import Path

import anyio
import httpx
import pytest
from support.wire import ambiguous, connect, framed, oversized, said, statuses

from safemt_client.viewer.serve import Viewer, open_viewer

STORE = Path(__file__).resolve().parents[1] / "data/schema-10.duckdb.gz"
# More than there are threads for pages.
SLOW = 60
BODY = b"show=1&back=%2F"


@pytest.fixture(scope="module")
def viewer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Viewer]:
    path = tmp_path_factory.mktemp("viewer") / "d.duckdb"
    path.write_bytes(gzip.decompress(STORE.read_bytes()))
    viewer = open_viewer(path, port=0)
    thread = threading.Thread(target=viewer.run)
    thread.start()
    yield viewer
    viewer.stop()
    thread.join()


def head(viewer: Viewer, target: str = "/settings", host: str | None = None) -> bytes:
    """A request of the viewer's own page."""
    port = viewer.base.rpartition(":")[2]
    lines = [
        f"POST {target} HTTP/1.1",
        f"Host: {host or f'127.0.0.1:{port}'}",
        f"Cookie: safemt_view_{port}={viewer.token}",
        "Content-Type: application/x-www-form-urlencoded",
    ]
    return "".join(f"{line}\r\n" for line in lines).encode()


def cases(viewer: Viewer) -> dict[str, bytes]:
    hidden = framed(head(viewer) + b"Connection: close\r\n", BODY)
    return ambiguous(head(viewer), BODY, hidden) | oversized(head(viewer), BODY)


def test_the_proper_request_is_answered(viewer: Viewer) -> None:
    received = anyio.run(said, viewer.base, framed(head(viewer) + b"Connection: close\r\n", BODY))
    assert statuses(received) == [303]


NAMES = [*ambiguous(b"POST / HTTP/1.1\r\n", b"", b""), *oversized(b"POST / HTTP/1.1\r\n", b"")]
# A chunk of 10^19 bytes is a slow body like any other here: its parser counts as far as it is told to.
NAMES.remove("chunk-overflow")


@pytest.mark.parametrize("name", NAMES)
def test_what_can_be_read_in_two_ways_is_refused(name: str, viewer: Viewer) -> None:
    received = anyio.run(said, viewer.base, cases(viewer)[name])
    # One refusal, and nothing after it is read as a request.
    assert len(statuses(received)) == 1, received[:500]
    assert statuses(received)[0] in (400, 413, 431, 501), received[:500]
    assert b"set-cookie" not in received.lower()
    assert httpx.get(viewer.base, trust_env=False).status_code == 403


@pytest.mark.parametrize(
    ("target", "host", "status"),
    [
        ("/settings", "example.com", 403),
        ("/settings", "127.0.0.1.example.com:{port}", 403),
        ("/settings", "127.0.0.1:{port}\r\nHost: example.com", 400),
        ("/settings", "example.com\r\nHost: 127.0.0.1:{port}", 400),
        ("http://127.0.0.1:{port}/settings", "example.com", 403),
        ("http://example.com/settings", "127.0.0.1:{port}", 404),
    ],
)
def test_only_what_is_for_this_host_is_taken(target: str, host: str, status: int, viewer: Viewer) -> None:
    port = viewer.base.rpartition(":")[2]
    begin = head(viewer, target.format(port=port), host.format(port=port))
    received = anyio.run(said, viewer.base, framed(begin + b"Connection: close\r\n", BODY))
    assert statuses(received) == [status], received[:500]
    assert b"set-cookie" not in received.lower()


def test_slow_clients_hold_up_no_other(viewer: Viewer) -> None:
    whole = framed(head(viewer) + b"Connection: close\r\n", BODY)

    async def both() -> None:
        slow = [await connect(viewer.base) for _ in range(SLOW)]
        for number, (_, writer) in enumerate(slow):
            # Some are within their head, the others within their body.
            writer.write(whole[: 30 + number % 20] if number % 2 else whole[:-5])
            await writer.drain()
        port = viewer.base.rpartition(":")[2]
        cookie = {"Cookie": f"safemt_view_{port}={viewer.token}"}
        async with httpx.AsyncClient(trust_env=False, timeout=30) as client:
            for _ in range(3):
                for number, (_, writer) in enumerate(slow[1:], start=1):
                    if number % 2:
                        writer.write(b"x")
                assert (await client.get(f"{viewer.base}/", headers=cookie)).status_code == 200
        reader, writer = slow[0]
        writer.write(whole[-5:])
        async with asyncio.timeout(30):
            assert statuses(await reader.read()) == [303]
        for _, writer in slow:
            writer.close()

    anyio.run(both)
