"""Endpoints that mean harm: one clear line each, in bounded time and memory."""

import gzip
import re
import resource
import time
import zlib

import anyio
import pytest
from support.faults import Behaviour, raw, response, serve

from safemt_client.providers.errors import TargetStoppedError
from safemt_client.providers.limits.limiter import AccountLimiter
from safemt_client.providers.openai_compatible import OpenAICompatible
from safemt_client.providers.timeouts import Timeouts
from safemt_client.providers.transport import make_transport
from safemt_client.providers.types import Message, Outcome, Reply, Request


def nested(layers: int, size: int = 2**30) -> bytes:
    packer = zlib.compressobj(9, wbits=31)
    body = b"".join(packer.compress(b" " * 2**20) for _ in range(size // 2**20)) + packer.flush()
    for _ in range(layers - 1):
        body = gzip.compress(body)
    return body


ENDPOINTS: dict[str, tuple[Behaviour, str]] = {
    "redirect": (response(302, "", location="http://localhost:9/"), "302"),
    "gzip": (response(200, nested(1), content_encoding="gzip"), "larger than"),
    "gzip in gzip": (response(200, nested(2), content_encoding="gzip, gzip"), "compressed with gzip, gzip"),
    "brotli": (response(200, b"\x1b" * 100, content_encoding="br"), "compressed with br"),
    "no gzip": (response(200, b"{}" * 100, content_encoding="gzip"), "corrupt"),
    "half gzip": (
        response(200, gzip.compress(b"{}" * 9_999)[:40], content_encoding="gzip"),
        "corrupt|incomplete",
    ),
    "deep": (response(200, b"[" * 5_000_000), "JSON"),
    "headers": (
        raw(b"HTTP/1.1 200 OK\r\n" + b"".join(b"a%d: b\r\n" % n for n in range(100_000)) + b"\r\n"),
        "connection failed|JSON",
    ),
    "a header": (raw(b"HTTP/1.1 200 OK\r\na: " + b"b" * 10_000_000 + b"\r\n\r\n"), "connection failed"),
    "chunks": (
        raw(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nfffffffffffffff\r\n" + b" " * 40 * 2**20),
        "larger than|failed",
    ),
    "no end": (raw(b"HTTP/1.1 200 OK\r\n\r\n" + b" " * 1_000, stall=True), "no answer within"),
    "silence": (raw(b"", stall=True), "no answer within"),
    "a digit bomb": (response(200, b'{"choices": [{"message": {"content": ' + b"9" * 10_000 + b"}}]}"), ""),
}


@pytest.mark.parametrize("name", ENDPOINTS)
def test_an_endpoint_that_means_harm(name: str) -> None:
    behaviour, said = ENDPOINTS[name]

    async def asked() -> Reply:
        async with serve([], behaviour) as endpoint, make_transport() as transport:
            provider = OpenAICompatible(
                model="m",
                base_url=endpoint.url,
                api_key=None,
                transport=transport,
                identity="local/m",
                limiter=AccountLimiter(rpm=None, tpm=None, concurrency=1),
                timeouts=Timeouts(max_wait_s=0, attempt_s=3, turn_s=10),
            )
            try:
                return await provider.ask(Request((Message("user", "hi"),)))
            except TargetStoppedError as error:
                return error.reply or Reply(Outcome.ANSWERED)

    begun, before = time.monotonic(), _peak()
    reply = anyio.run(asked)
    assert time.monotonic() - begun < 15
    assert not reply.outcome.observed
    assert re.search(said, f"{reply.error} {reply.status_code}"), reply.error
    assert len((reply.error or "").splitlines()) == 1
    assert len(reply.error or "") <= 300
    assert _peak() - before < 300


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
