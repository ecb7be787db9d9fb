"""Facts in a bucket: written to and read from an S3 server on loopback."""

import gzip
import json
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from support.program import at_once

from safemt_client.providers.errors import InputError
from safemt_client.results.cache import cache_folder
from safemt_client.results.store import places
from safemt_client.results.store.facts import Manifest
from safemt_client.results.store.places import address_of, open_place
from safemt_client.results.store.reader import open_reader

DATA = Path(__file__).resolve().parents[2] / "data"


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    """The address of a server with the bucket `lab`."""
    from moto.server import ThreadedMotoServer
    from pyarrow import fs

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    where = {"scheme": "http", "endpoint_override": f"{host}:{port}", "region": "us-east-1"}
    fs.S3FileSystem(access_key="x", secret_key="y", allow_bucket_creation=True, **where).create_dir("lab")
    yield f"scheme=http&endpoint_override={host}:{port}"
    server.stop()


@pytest.fixture(autouse=True)
def _keys(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name, value in (
        ("AWS_ACCESS_KEY_ID", "x"),
        ("AWS_SECRET_ACCESS_KEY", "y"),
        ("AWS_REGION", "us-east-1"),
        ("AWS_EC2_METADATA_DISABLED", "true"),
        ("XDG_CACHE_HOME", str(tmp_path / "cache")),
    ):
        monkeypatch.setenv(name, value)


def test_a_bucket_says_what_the_store_says(endpoint: str, tmp_path: Path) -> None:
    store, bucket = tmp_path / "demo.duckdb", f"s3://lab/team?{endpoint}"
    store.write_bytes(gzip.decompress((DATA / "moderated-7.duckdb.gz").read_bytes()))
    for _ in range(2):
        said = at_once("export", "--format", "facts", "--db", str(store), "--out", bucket)
        assert (said.returncode, said.stderr) == (0, "")
        assert said.stdout.splitlines()[-1].startswith("s3://lab/team/manifests/")
    place = open_place(bucket)
    (name,) = place.names("manifests")
    manifest = Manifest.read(place.read(name), name)
    assert {one for one in place.names("") if one.endswith(".parquet")} == {
        one.path for one in manifest.files
    }
    assert [place.size(one.path) for one in manifest.files] == [one.size for one in manifest.files]

    of_bucket, of_store = (at_once("leaderboard", "--json", "--db", where) for where in (bucket, str(store)))
    assert (of_bucket.returncode, of_bucket.stderr) == (0, "")
    assert json.loads(of_bucket.stdout) == json.loads(of_store.stdout)
    kept = sorted((cache_folder() / "facts").rglob("*.parquet"))
    assert len(kept) == len(manifest.files)

    # What is there is not fetched again, and what is gone from the bucket goes from the cache.
    stray = kept[0].with_name("stray.parquet")
    stray.write_bytes(b"")
    marked = [path.stat().st_mtime_ns for path in kept]
    with open_reader(Path(bucket)) as reader:
        assert reader.query("SELECT count(*) > 0 FROM every_conversation").rows == [(True,)]
    assert [path.stat().st_mtime_ns for path in kept] == marked
    assert not stray.exists()


def test_what_is_wrong_with_an_address_is_said_in_one_line(endpoint: str, tmp_path: Path) -> None:
    for where, why in (
        (f"s3://lab/none?{endpoint}", "s3://lab/none: has no facts"),
        (f"s3://nobody/x?{endpoint}", "s3://nobody/x: no such bucket"),
        ("s3://", "names no bucket"),
        ("s3://AKIA:secret@lab/x", "an address has no keys in it"),
        ("s3://lab/x?colour=red", "colour: not known here"),
        ("s3://lab/x?scheme=ftp", "scheme=ftp: write http or https"),
    ):
        said = at_once("report", "--db", where)
        assert said.returncode == 2, where
        assert why in said.stderr
        assert "secret" not in said.stderr
        assert said.stderr.count("\n") == 1
    for command in ("judge", "label", "doctor", "import"):
        words = ["x.jsonl", "--target", "t"] if command == "import" else []
        said = at_once(command, *words, "--db", f"s3://lab/none?{endpoint}")
        assert said.returncode == 2, command
        assert said.stderr.count("\n") == 1


ERROR = "<Error><Code>{}</Code><Message>Key AKIAPLANTED12345 of planted-secret is odd</Message></Error>"


class Refusing(BaseHTTPRequestHandler):
    """A service that answers by the name of the bucket."""

    def do_HEAD(self) -> None:
        self._answer({"denied": 403, "elsewhere": 301}.get(self.path.split("/")[1], 200))

    def do_GET(self) -> None:
        what = self.path.split("?")[0].split("/")[1]
        self._answer(400, ERROR.format({"stale": "ExpiredToken"}.get(what, "Odd")).encode())

    def _answer(self, status: int, content: bytes = b"") -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/xml")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing."""


@pytest.fixture(scope="module")
def refusing() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Refusing)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield f"scheme=http&endpoint_override=127.0.0.1:{server.server_port}&region=us-east-1"
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize(
    ("bucket", "why"),
    [
        ("denied", "not allowed, or without credentials: check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"),
        ("elsewhere", "the bucket is in another region: name it in the address, ?region=REGION"),
        ("stale", "the credentials have expired: renew them"),
        ("odd", "the service says: "),
    ],
)
def test_what_a_service_refuses_is_said_in_one_line_without_a_key(
    refusing: str, monkeypatch: pytest.MonkeyPatch, bucket: str, why: str
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "planted-secret")
    address = f"s3://{bucket}/x?{refusing}"
    for words in (["report", "--db", address], ["runs", address]):
        told(f"s3://{bucket}/x: {why}", *words)


def test_words_in_names_are_no_reason() -> None:
    error = OSError("When getting information for key 'expired/Signature' in bucket 'lab': cannot connect")
    assert "cannot be reached" in places._why(error, "s3")


def test_a_key_is_masked_before_anything_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SESSION_TOKEN", "planted" * 50)
    error = OSError(f"NETWORK_CONNECTION Details: {'planted' * 50}")
    assert "planted" not in places._why(error, "s3")


def test_a_service_that_is_not_there_is_said_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        where = f"scheme=http&endpoint_override=127.0.0.1:{free.getsockname()[1]}"
        told("cannot be reached: check the network", "report", "--db", f"s3://lab/x?{where}&region=eu-west-1")
        monkeypatch.setattr(places, "_GS_TRIES_S", 0.1)
        told("cannot be reached: check the network", "report", "--db", f"gs://lab/x?{where}&anonymous=1")


def told(why: str, *words: str) -> None:
    said = at_once(*words)
    assert said.returncode == 2
    assert why in said.stderr
    assert "Traceback" not in said.stderr
    assert said.stderr.count("\n") == 1
    assert "planted" not in said.stderr.lower()


def test_only_facts_go_into_a_bucket(tmp_path: Path) -> None:
    store = tmp_path / "demo.duckdb"
    store.write_bytes(gzip.decompress((DATA / "moderated-7.duckdb.gz").read_bytes()))
    told(
        "--out s3://lab/x: --format csv is written to a folder",
        *("export", "--format", "csv", "--db", str(store), "--out", "s3://lab/x"),
    )


def test_addresses_are_known_as_text_and_as_paths() -> None:
    assert address_of("s3://lab/team") == address_of(Path("s3://lab/team")) == "s3://lab/team"
    assert address_of(Path("gs://lab/a/b")) == "gs://lab/a/b"
    assert address_of(Path("results/s3")) is None
    with pytest.raises(InputError, match=r"gs://\.\.\.: an address has no keys in it"):
        open_place("gs://me:pass@lab/x")
