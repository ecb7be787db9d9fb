"""Folders on this machine and in buckets, by pyarrow's file systems."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, unquote

from safemt_client.providers.errors import InputError
from safemt_client.results.sanitize import without_secrets

if TYPE_CHECKING:
    from pyarrow import fs

__all__ = ["Place", "address_of", "open_place"]

_ADDRESS = re.compile(r"(s3|gs):(?:/+(.*))?", re.DOTALL)
_PARAMETERS = {
    "s3": ("region", "scheme", "endpoint_override"),
    "gs": ("scheme", "endpoint_override", "anonymous"),
}
_CONNECT_S, _REQUEST_S, _TRIES = 10.0, 60.0, 3
_GS_TRIES_S = 20.0
_SHORTEST = 8
"""Characters of a key: what is shorter is in many a word."""
_SECRETS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
_DETAIL = re.compile(r"(?:Details: |CURL error \[\d+\]=)([^;}]{1,160})")
_KNOWN = (
    (
        "NoSuchBucket|NO_SUCH_BUCKET|[Bb]ucket.*(not found|does not exist)|Path does not exist",
        "no such bucket, or nothing of this name in it: check the address",
    ),
    ("[Ee]xpired|EXPIRED", "the credentials have expired: renew them ({credentials})"),
    (
        "status 30[17]|PermanentRedirect|AuthorizationHeaderMalformed",
        "the bucket is in another region: name it in the address, ?region=REGION",
    ),
    ("access token|[Dd]efault [Cc]redentials", "no credentials were found: set {credentials}"),
    (
        "ACCESS_DENIED|AccessDenied|INVALID_ACCESS_KEY|InvalidAccessKey|SIGNATURE|Signature|[Cc]redential"
        "|status 40[13]|Forbidden|PERMISSION_DENIED|UNAUTHENTICATED",
        "not allowed, or without credentials: check {credentials}",
    ),
    (
        "NETWORK_CONNECTION|[Cc]url|CURL|[Tt]imed? ?out|connect|UNAVAILABLE",
        "cannot be reached: check the network, and endpoint_override in the address if there is one{detail}",
    ),
)
"""What the errors of pyarrow's file systems have in them, and what it means."""
_CREDENTIALS = {
    "s3": "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, AWS_PROFILE, or a role of the machine",
    "gs": "GOOGLE_APPLICATION_CREDENTIALS, or a service account of the machine",
}


def address_of(where: Path | str) -> str | None:
    """The address of a bucket, `s3://...` or `gs://...`; None for a place on this machine.

    A path has one slash where the address has two.
    """
    found = _ADDRESS.fullmatch(where if isinstance(where, str) else where.as_posix())
    return None if found is None else f"{found[1]}://{found[2] or ''}"


@dataclass(frozen=True)
class Place:
    """A folder. Names in it have slashes; what goes wrong is said in one line."""

    shown: str
    root: str
    files: fs.FileSystem
    kind: str
    """`file`, `s3` or `gs`."""
    address: str = ""
    """With its parameters, of a bucket."""
    fix: str = "name another folder with --db"
    """What the user should do about a folder that cannot be read or written."""

    @property
    def is_local(self) -> bool:
        """Whether it is on this machine."""
        return self.kind == "file"

    def names(self, folder: str, older_s: float = 0.0) -> list[str]:
        """The files below a folder, by their names in the place; none where there is no such folder.

        With `older_s`, only those that were written so long ago.
        """
        from pyarrow import fs

        with self._explained():
            found = self.files.get_file_info(
                fs.FileSelector(self._path(folder), allow_not_found=True, recursive=True)
            )
        return sorted(
            one.path.removeprefix(self.root).lstrip("/")
            for one in found
            if one.type == fs.FileType.File
            and (not older_s or (one.mtime is not None and time.time() - one.mtime.timestamp() > older_s))
        )

    def exists(self) -> bool:
        """Whether the folder is there; in a bucket, whether anything is under its name."""
        from pyarrow import fs

        with self._explained():
            return bool(self.files.get_file_info(self.root).type == fs.FileType.Directory)

    def read(self, name: str) -> bytes:
        """What is in a file."""
        with self._explained(), self.files.open_input_stream(self._path(name)) as file:
            return bytes(file.read())

    @contextmanager
    def writing(self, name: str) -> Iterator[Any]:
        """A new file, to be written to; its folder is made."""
        with self._explained():
            self._make_folder(name)
            with self.files.open_output_stream(self._path(name)) as file:
                yield file

    def put(self, name: str, content: bytes) -> None:
        """Write a file in one step, in place of one that is there."""
        if not self.is_local:
            # An object is there once it is closed.
            with self.writing(name) as file:
                file.write(content)
            return
        with self._explained():
            self._make_folder(name)
            path = Path(self._path(name))
            descriptor, part = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
            try:
                with os.fdopen(descriptor, "wb") as file:
                    file.write(content)
                os.chmod(part, 0o666 & ~_mask())
                os.replace(part, path)
            except OSError:
                Path(part).unlink(missing_ok=True)
                raise

    def remove(self, name: str) -> None:
        """Remove a file; that it is gone is no error."""
        from pyarrow import fs

        with self._explained():
            if self.files.get_file_info(self._path(name)).type == fs.FileType.File:
                self.files.delete_file(self._path(name))

    def size(self, name: str) -> int:
        """The bytes of a file."""
        with self._explained():
            return int(self.files.get_file_info(self._path(name)).size)

    def copy_here(self, name: str, path: Path) -> None:
        """Copy a file to this machine, under its name only once it is whole."""
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, part = tempfile.mkstemp(prefix=".", suffix=".part", dir=path.parent)
        try:
            with (
                os.fdopen(descriptor, "wb") as into,
                self._explained(),
                self.files.open_input_stream(self._path(name)) as file,
            ):
                shutil.copyfileobj(file, into, 1 << 22)
            os.replace(part, path)
        finally:
            Path(part).unlink(missing_ok=True)

    def _path(self, name: str) -> str:
        return f"{self.root}/{name}"

    def _make_folder(self, name: str) -> None:
        # A bucket has no folders, and to make one asks for a right that not everybody has.
        if self.is_local:
            Path(self._path(name)).parent.mkdir(parents=True, exist_ok=True)

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except _refusals() as error:
            raise InputError(f"{self.shown}: {self._why(error)}") from None

    def _why(self, error: Exception) -> str:
        if self.is_local:
            said = getattr(error, "strerror", None) or str(error)
            return f"{' '.join(said.split())}: {self.fix}"
        return _why(error, self.kind)


def _mask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _why(error: Exception, kind: str) -> str:
    """What is wrong with a bucket, and what to do about it, in one line without a key."""
    text = _masked(" ".join(str(error).split()))
    found = re.search(_DETAIL, text)
    detail = f" ({found[1].strip()})" if found else ""
    # What is quoted are names of buckets and files, which may have any words in them.
    unquoted = re.sub(r"'[^']*'", "", text)
    for pattern, why in _KNOWN:
        if re.search(pattern, unquoted):
            return why.format(credentials=_CREDENTIALS[kind], detail=detail)
    return f"the service says: {text[:300]}"


def _masked(text: str) -> str:
    """A text of a service without what looks like credentials."""
    for name in _SECRETS:
        if len(value := os.environ.get(name, "")) >= _SHORTEST:
            text = text.replace(value, "...")
    return re.sub(r"\b(?:AKIA|ASIA)[A-Z0-9]{8,}", "...", without_secrets(text))


def _refusals() -> tuple[type[Exception], ...]:
    from pyarrow import ArrowException

    return OSError, ArrowException


def open_place(where: Path | str, fix: str = Place.fix) -> Place:
    """The folder at a path, or at an address `s3://BUCKET/FOLDER` or `gs://BUCKET/FOLDER`.

    `fix` is what the user should do if it cannot be read or written.

    Raises:
        InputError: the address is wrong, or there is no such bucket.
    """
    from pyarrow import fs

    address = address_of(where)
    if address is None:
        return Place(str(where), str(Path(where).absolute()), fs.LocalFileSystem(), "file", fix=fix)
    kind, _, rest = address.partition("://")
    rest, _, query = rest.partition("?")
    shown = f"{kind}://{rest}"
    if "@" in rest.partition("/")[0]:
        raise InputError(f"{kind}://...: an address has no keys in it: they come from {_CREDENTIALS[kind]}")
    given = {name: values[-1] for name, values in parse_qs(query, keep_blank_values=True).items()}
    if unknown := given.keys() - set(_PARAMETERS[kind]):
        raise InputError(
            f"{shown}: {', '.join(sorted(unknown))}: not known here; {', '.join(_PARAMETERS[kind])} are"
        )
    root = unquote(rest).strip("/")
    bucket = root.partition("/")[0]
    if not bucket:
        raise InputError(f"{shown}: names no bucket: write {kind}://BUCKET/FOLDER")
    if (scheme := given.get("scheme", "https")) not in ("http", "https"):
        raise InputError(f"{shown}: scheme={scheme}: write http or https")
    try:
        files = _s3(given) if kind == "s3" else _gs(given)
    except _refusals() as error:
        raise InputError(f"{shown}: {_why(error, kind)}") from None
    place = Place(shown, root, files, kind, address)
    with place._explained():
        there = files.get_file_info(bucket).type != fs.FileType.NotFound
    if not there:
        raise InputError(
            f"{shown}: no such bucket, or not one of yours: check the address and the credentials"
        )
    return place


def _s3(given: dict[str, str]) -> fs.FileSystem:
    from pyarrow import fs

    region = given.get("region") or os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    return fs.S3FileSystem(
        region=region,
        scheme=given.get("scheme"),
        endpoint_override=given.get("endpoint_override"),
        connect_timeout=_CONNECT_S,
        request_timeout=_REQUEST_S,
        retry_strategy=fs.AwsStandardS3RetryStrategy(max_attempts=_TRIES),
        background_writes=False,
    )


def _gs(given: dict[str, str]) -> fs.FileSystem:
    from pyarrow import fs

    return fs.GcsFileSystem(
        scheme=given.get("scheme", "https"),
        endpoint_override=given.get("endpoint_override"),
        anonymous=given.get("anonymous", "") in ("true", "1"),
        retry_time_limit=timedelta(seconds=_GS_TRIES_S),
    )
