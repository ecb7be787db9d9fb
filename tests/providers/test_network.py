"""Proxies and certificates of the environment, on our own way and on litellm's, over real sockets."""

import base64
import os
import shutil
import ssl
import subprocess
import sys
from pathlib import Path

import anyio
import pytest
from support.faults import answer, early, raw, response, serve
from support.network import make_certificate, serve_proxy, serve_tls
from support.program import ROOT

from safemt_client.providers.error_codes import ErrorCode
from safemt_client.providers.errors import InputError, TargetStoppedError
from safemt_client.providers.limits.limiter import Limits
from safemt_client.providers.proxies import proxy_for, trusted
from safemt_client.providers.registry import build, resolve
from safemt_client.providers.routes import Routes
from safemt_client.providers.timeouts import Timeouts
from safemt_client.providers.transport import make_transport
from safemt_client.providers.types import Message, Reply, Request, Sampling

HELLO = Request((Message("user", "hi"),), Sampling(max_tokens=5))
VARIABLES = (
    *("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"),
    *("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE"),
)
AWAY = "api.example.invalid"
"""A name that nobody resolves: what reaches the server came through the proxy."""
MESSAGE = {
    "id": "msg",
    "type": "message",
    "role": "assistant",
    "model": "claude-x",
    "content": [{"type": "text", "text": "hello"}],
    "stop_reason": "end_turn",
    "usage": {"input_tokens": 3, "output_tokens": 1},
}


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    if shutil.which("openssl") is None:
        pytest.skip("the openssl command makes the certificate")
    return make_certificate(tmp_path_factory.mktemp("tls"), AWAY)


async def ask(name: str, env: dict[str, str] | None = None) -> Reply:
    spec = resolve(name, None, env or {})
    async with make_transport() as transport:
        provider = build(
            spec,
            transport=transport,
            limits=Limits(),
            timeouts=Timeouts(max_wait_s=0, attempt_s=60, turn_s=60),
        )
        return await provider.ask(HELLO)


@pytest.mark.parametrize(
    ("env", "url", "proxy"),
    [
        ({}, "https://h/v1", None),
        ({"HTTPS_PROXY": "http://p:1"}, "https://h/v1", "http://p:1"),
        ({"https_proxy": "http://p:1"}, "https://h/v1", "http://p:1"),
        ({"HTTPS_PROXY": "http://p:1"}, "http://h/v1", None),
        ({"HTTP_PROXY": "p:1"}, "http://h/v1", "http://p:1"),
        ({"ALL_PROXY": "http://p:1"}, "https://h/v1", "http://p:1"),
        ({"ALL_PROXY": "http://p:1", "HTTPS_PROXY": "http://q:1"}, "https://h/v1", "http://q:1"),
        ({"ALL_PROXY": "http://p:1", "NO_PROXY": "*"}, "https://h/v1", None),
        ({"ALL_PROXY": "http://p:1", "NO_PROXY": "x, .inside.example"}, "https://a.inside.example/v1", None),
        ({"ALL_PROXY": "http://p:1", "NO_PROXY": "h:8443"}, "https://h:8443/v1", None),
        ({"ALL_PROXY": "http://p:1", "NO_PROXY": "h:8443"}, "https://h/v1", "http://p:1"),
        ({"ALL_PROXY": "http://p:1", "NO_PROXY": "10.0.0.0/8"}, "http://10.1.2.3:8000/v1", None),
        ({"ALL_PROXY": "http://p:1", "NO_PROXY": "10.0.0.0/8"}, "http://11.1.2.3:8000/v1", "http://p:1"),
        ({"ALL_PROXY": "http://p:1", "NO_PROXY": "fd00::/8"}, "http://[fd00::1]:8000/v1", None),
        ({"ALL_PROXY": "http://p:1"}, "http://127.0.0.1:8000/v1", None),
        ({"ALL_PROXY": "http://p:1"}, "http://localhost:8000/v1", None),
        ({"ALL_PROXY": "http://p:1"}, "http://[::1]:8000/v1", None),
        ({"ALL_PROXY": "socks5://p:1"}, "http://127.0.0.1:8000/v1", None),
    ],
)
def test_which_proxy_counts(
    env: dict[str, str], url: str, proxy: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    assert proxy_for(url) == proxy


def test_a_proxy_of_another_kind_is_refused_before_anything_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALL_PROXY", "socks5://user:planted@p:1")
    with pytest.raises(InputError, match=r"socks5://p:1.*HTTPS_PROXY") as caught:
        Routes().add(resolve("gpt-4o", None, {"OPENAI_API_KEY": "k"}))
    assert "planted" not in str(caught.value)


@pytest.mark.parametrize("given", ["http://[bad", "http://h:port", "http://", "http://u:planted@h:99999"])
def test_a_broken_proxy_is_one_line(given: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", given)
    with pytest.raises(InputError, match="not the address of a proxy") as caught:
        proxy_for("https://h/v1")
    assert "planted" not in str(caught.value)


def test_the_proxy_is_told_without_its_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://user:planted@p.example:3128")
    routes = Routes()
    routes.add(resolve("gpt-4o", None, {"OPENAI_API_KEY": "k"}))
    routes.add(resolve("bedrock/m", None, {}))
    said = " ".join(routes.notes)
    assert "api.openai.com" in said
    assert "bedrock" in said
    assert said.count("http://p.example:3128") == 2
    assert "planted" not in said


def test_a_plain_request_goes_through_the_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        async with serve([], answer()) as endpoint, serve_proxy(endpoint.url) as proxy:
            monkeypatch.setenv("HTTP_PROXY", proxy.url.replace("//", "//user:pa%24s@"))
            assert (await ask(f"m@http://{AWAY}:8000/v1", {"SAFEMT_API_KEY": "sk-own"})).text == "hello"
            assert proxy.asked[0].startswith(f"POST http://{AWAY}:8000/v1/chat/completions")
            assert proxy.credentials == ["Basic " + base64.b64encode(b"user:pa$s").decode()]
            assert endpoint.requests[0].headers["authorization"] == "Bearer sk-own"
            # Loopback is asked directly, whatever the environment says.
            assert (await ask(f"m@{endpoint.url}")).text == "hello"
            assert len(proxy.asked) == 1

    anyio.run(main)


@pytest.mark.parametrize("variable", ["SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "SSL_CERT_DIR"])
def test_a_tunnel_to_a_server_with_a_certificate_of_ones_own(
    variable: str, certificate: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        async with serve_tls(*certificate, answer()) as url, serve_proxy(url) as proxy:
            monkeypatch.setenv("HTTPS_PROXY", proxy.url.replace("//", "//user:pa%24s@"))
            # A target whose certificate is not trusted is stopped at once, and not asked for an hour.
            with pytest.raises(TargetStoppedError, match=r"certificate of .* in SSL_CERT_FILE") as refused:
                await ask(f"m@https://{AWAY}/v1")
            assert refused.value.code is ErrorCode.CONFIGURATION
            monkeypatch.setenv(variable, named(variable, certificate[0], tmp_path))
            assert (await ask(f"m@https://{AWAY}/v1")).text == "hello"
            assert proxy.asked[-1].startswith(f"CONNECT {AWAY}:443")
            assert proxy.credentials[-1] == "Basic " + base64.b64encode(b"user:pa$s").decode()

    anyio.run(main)


def test_a_server_without_tls_stops_its_target_at_once() -> None:
    async def main() -> None:
        plain = early(raw(b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\n\r\n"))
        async with serve([plain], answer()) as endpoint:
            with pytest.raises(TargetStoppedError, match="is it http://"):
                await ask(f"m@{endpoint.url.replace('http:', 'https:')}")

    anyio.run(main)


def named(variable: str, certificate: Path, folder: Path) -> str:
    """What the variable has to hold: a file, or a folder in OpenSSL's form."""
    if variable != "SSL_CERT_DIR":
        return str(certificate)
    digest = subprocess.run(
        ["openssl", "x509", "-hash", "-noout", "-in", str(certificate)],
        check=True,
        capture_output=True,
        text=True,
    ).stdout.strip()
    shutil.copy(certificate, folder / f"{digest}.0")
    return str(folder)


@pytest.mark.parametrize(
    "variable",
    [
        "SSL_CERT_DIR",
        *(pytest.param(name, marks=pytest.mark.slow) for name in ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE")),
    ],
)
def test_litellm_takes_the_same_way(variable: str, certificate: tuple[Path, Path], tmp_path: Path) -> None:
    """In a process of its own: litellm keeps contexts and clients."""

    async def main() -> None:
        async with (
            serve_tls(*certificate, response(200, MESSAGE)) as url,
            serve_proxy(url) as proxy,
            serve([], response(200, MESSAGE)) as here,
        ):
            env = {name: value for name, value in os.environ.items() if name not in VARIABLES}
            env |= {
                "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}:{Path(__file__).parent}",
                "HTTPS_PROXY": proxy.url,
                "HTTP_PROXY": proxy.url,
                variable: named(variable, certificate[0], tmp_path),
            }
            code = (
                "import anyio, sys\n"
                "from test_network import ask\n"
                "from safemt_client.providers.behind_litellm.client import _litellm\n"
                "_litellm()\n"
                "for base in sys.argv[1:]:\n"
                "    env = {'ANTHROPIC_API_KEY': 'k', 'ANTHROPIC_BASE_URL': base}\n"
                "    reply = anyio.run(ask, 'claude-x', env)\n"
                "    print(reply.text or reply.error)\n"
            )
            words = [sys.executable, "-c", code, f"https://{AWAY}", here.url.removesuffix("/v1")]
            done = await anyio.run_process(words, env=env, check=False)
            assert done.stdout.decode().split() == ["hello", "hello"], (done.stdout + done.stderr).decode()
            assert [line.split()[1] for line in proxy.asked] == [f"{AWAY}:443"]
            assert len(here.requests) == 1

    anyio.run(main)


def test_a_proxy_that_refuses_is_a_failed_connection_without_its_password(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def main() -> Reply:
        async with serve([]) as endpoint, serve_proxy(endpoint.url, refuses=True) as proxy:
            monkeypatch.setenv("HTTPS_PROXY", proxy.url.replace("//", "//user:planted-secret@"))
            return await ask(f"m@https://{AWAY}/v1")

    reply = anyio.run(main)
    assert "407" in (reply.error or "")
    assert "planted" not in (reply.error or "")


@pytest.mark.parametrize("variable", ["SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"])
def test_certificates_that_cannot_be_read_are_named(
    variable: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, str(tmp_path / "absent.pem"))
    with pytest.raises(InputError, match=f"{variable}.*absent.pem"):
        trusted()
    (tmp_path / "absent.pem").write_text("nothing")
    with pytest.raises(InputError, match="no certificates"):
        trusted()


def test_only_who_asks_over_tls_needs_certificates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "absent.pem"))

    async def main() -> None:
        async with serve([], answer()) as endpoint:
            Routes().add(resolve(f"m@{endpoint.url}", None, {}))
            assert (await ask(f"m@{endpoint.url}")).text == "hello"

    anyio.run(main)
    for secure in ("m@https://h/v1", "bedrock/m"):
        with pytest.raises(InputError, match=r"SSL_CERT_FILE.*absent\.pem"):
            Routes().add(resolve(secure, None, {}))
    monkeypatch.setenv("HTTP_PROXY", "https://p:1")
    with pytest.raises(InputError, match=r"SSL_CERT_FILE.*absent\.pem"):
        Routes().add(resolve("m@http://h/v1", None, {}))


def test_certificates_are_checked_without_any_variable() -> None:
    context = trusted()
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname


def test_a_run_that_cannot_send_anything_from_here_was_given_bad_input(
    certificate: tuple[Path, Path], tmp_path: Path
) -> None:
    async def main() -> None:
        async with serve_tls(*certificate, answer()) as url:
            words = ["run", "--data", "sample", "--judge", "none", "--provider", f"m@{url}/v1"]
            process = await anyio.run_process(
                [sys.executable, "-m", "safemt_client", *words],
                check=False,
                cwd=tmp_path,
                env=os.environ | {"PYTHONPATH": str(ROOT), "SAFEMT_API_KEY": "sk-planted-42"},
            )
            last = process.stdout.decode().strip().splitlines()[-1]
            assert (process.returncode, process.stderr) == (2, b"")
            assert "cannot be asked: fix that; stopped early" in last

    anyio.run(main)
