"""A forward proxy and a server with a certificate of our own, on loopback."""

import asyncio
import ssl
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from .faults import Behaviour


@dataclass
class ForwardProxy:
    """Its address, and what it was asked: the first line of each request, and who asked."""

    url: str = ""
    asked: list[str] = field(default_factory=list)
    credentials: list[str] = field(default_factory=list)


@asynccontextmanager
async def serve_proxy(to: str, *, refuses: bool = False) -> AsyncIterator[ForwardProxy]:
    """A proxy for tunnels and for plain requests, which all lead to the server at `to`, whatever their host."""
    proxy = ForwardProxy()
    place = urlsplit(to)

    async def pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError, asyncio.CancelledError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        writer.close()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
        except asyncio.IncompleteReadError:
            writer.close()
            return
        first, *lines = head.split("\r\n")
        proxy.asked.append(first)
        given = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        proxy.credentials.append(given.get("proxy-authorization", ""))
        if refuses:
            writer.write(b"HTTP/1.1 407 Proxy Authentication Required\r\ncontent-length: 0\r\n\r\n")
            writer.close()
            return
        onward, out = await asyncio.open_connection(place.hostname, place.port)
        if first.startswith("CONNECT"):
            writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        else:
            method, target, version = first.split()
            path = target.removeprefix(f"http://{urlsplit(target).netloc}")
            out.write("\r\n".join([f"{method} {path} {version}", *lines]).encode())
        await asyncio.gather(pipe(reader, out), pipe(onward, writer))

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    proxy.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield proxy
    finally:
        server.close()


def make_certificate(folder: Path, name: str) -> tuple[Path, Path]:
    """A certificate that signs itself, for a name and for 127.0.0.1, and its key, by the `openssl` command."""
    certificate, key = folder / "server.pem", folder / "server.key"
    words = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", f"/CN={name}"]
    words += ["-addext", f"subjectAltName=DNS:{name},IP:127.0.0.1"]
    words += ["-keyout", str(key), "-out", str(certificate)]
    subprocess.run(words, check=True, capture_output=True)
    return certificate, key


@asynccontextmanager
async def serve_tls(certificate: Path, key: Path, then: Behaviour) -> AsyncIterator[str]:
    """A server that gives every request the same answer, over TLS; its address."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
                length = head.partition("content-length:")[2].partition("\r\n")[0].strip()
                await reader.readexactly(int(length or "0"))
                await then(writer)
        writer.close()

    server = await asyncio.start_server(connected, "127.0.0.1", 0, ssl=context)
    try:
        yield f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
