"""Where a source lies and how it is reached: a folder or a .zip file on this machine, S3, or HTTP."""

import os
import re
import urllib.request
import zipfile
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from functools import cached_property, lru_cache
from netrc import NetrcParseError, netrc
from pathlib import Path
from typing import Any, NamedTuple
from urllib.error import HTTPError, URLError
from urllib.parse import quote, unquote, urlsplit, urlunsplit

import zarr
from obstore.exceptions import BaseError, GenericError, PermissionDeniedError, UnauthenticatedError
from obstore.store import HTTPStore, S3Store
from zarr.abc.store import Store
from zarr.storage import LocalStore, ObjectStore, ZipStore

from ocean_emulators.errors import UserError, brief, holds_keys
from ocean_emulators.files import explain, is_machine_error

_CONNECT_SECONDS, _READ_SECONDS = 5, 15
_TRIES, _TRYING_SECONDS = 5, 30
_REQUEST_SECONDS = 3600  # of a large chunk through a thin line; one that stands still ends after _READ_SECONDS
_KEYS_LAST = timedelta(minutes=30)
_AMAZON = "https://s3.amazonaws.com"
_SCHEMES = ("s3://", "http://", "https://")
_ACCESS_ERRORS = (
    OSError,
    BaseError,
    zarr.errors.BaseZarrError,
    zipfile.BadZipFile,
    ValueError,
    RuntimeError,  # codecs
)
_REFUSED = (PermissionError, PermissionDeniedError, UnauthenticatedError)
_UNREACHABLE = (ConnectionError, TimeoutError, URLError)
_NO_ANSWER = re.compile(r"(?<!Generic )HTTP error: ")  # in what obstore says of a request that no server answered
_LISTING = "PROPFIND"  # what few servers know


class File(NamedTuple):
    """A file of a store."""

    key: str
    """below the store's root"""
    size: int
    version: str | float | None
    """tells one content from another: an ETag, a date, seconds since 1970"""


@dataclass(frozen=True)
class Location:
    """A store, where it lies, and how it is reached."""

    name: str
    """as the user wrote it; messages begin with it"""
    url: str
    endpoint: str | None = None
    anonymous: bool = False
    pointer: Path | None = None
    """the pointer file that it was named by"""
    fingerprint: str | None = None
    """as pinned in the pointer file"""

    @property
    def is_remote(self) -> bool:
        """Whether it is reached through a network."""
        return is_url(self.url)

    @property
    def is_zip(self) -> bool:
        """Whether it is one .zip file, which is always on this machine."""
        return self.url.endswith(".zip") and not self.is_remote

    @property
    def can_list(self) -> bool:
        """Whether it says what files it has: HTTP does not."""
        return not self.url.startswith(("http://", "https://"))

    def open(self) -> Store:
        """The store, for reading.

        Raises
        ------
        UserError
            If there is nothing there. For remote stores, reading finds out.
        """
        if not self.is_remote and not Path(self.url).exists():
            raise UserError(f"{self.name}: no such file or folder")
        with access_errors(self):
            if self.is_remote:
                return ObjectStore(self._objects, read_only=True)
            return ZipStore(self.url, mode="r") if self.is_zip else LocalStore(self.url, read_only=True)

    def keys(self, folder: str) -> list[str] | None:
        """Names of all files below a folder of the store, relative to it; None where nothing can be listed (HTTP)."""
        if not self.can_list:
            return None
        if self.is_zip:
            names = _names_in_zip(self.url, Path(self.url).stat().st_mtime_ns)
        else:
            names = [file.key for file in self.files(folder)]
        return [name.removeprefix(f"{folder}/") for name in names if name.startswith(f"{folder}/")]

    def read(self, key: str) -> bytes | None:
        """Content of a file of a store that is no .zip; None if there is none."""
        try:
            return bytes(self._objects.get(key).bytes()) if self.is_remote else (Path(self.url) / key).read_bytes()
        except FileNotFoundError:
            return None

    def about(self, key: str) -> File | None:
        """Size and version of a file of a remote store; None if there is none."""
        try:
            return _file(self._objects.head(key))
        except FileNotFoundError:
            return None

    def top(self) -> tuple[list[str], list[File]]:
        """The folders and the files right below the root of a store that can be listed and is no .zip."""
        if self.is_remote:
            found = self._objects.list_with_delimiter()
            return list(found["common_prefixes"]), [_file(about) for about in found["objects"]]
        entries = list(Path(self.url).iterdir())
        return [e.name for e in entries if e.is_dir()], [_local_file(e, self.url) for e in entries if e.is_file()]

    def files(self, folder: str) -> list[File]:
        """All files below a folder of a store that can be listed and is no .zip."""
        if self.is_remote:
            return [_file(about) for page in self._objects.list(folder) for about in page]
        below = ((Path(root) / name) for root, _, names in os.walk(Path(self.url) / folder) for name in names)
        return [_local_file(path, self.url) for path in below]

    @property
    def service(self) -> str | None:
        """Address of what answers for it; None for Amazon's S3."""
        if self.url.startswith("s3://"):
            named = (os.environ.get(name) for name in ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"))
            return self.endpoint or next(filter(None, named), None)
        return self.url

    @cached_property
    def _objects(self) -> S3Store | HTTPStore:
        client: Any = {
            "allow_http": True,
            "connect_timeout": timedelta(seconds=_CONNECT_SECONDS),
            "read_timeout": timedelta(seconds=_READ_SECONDS),
            "timeout": timedelta(seconds=_REQUEST_SECONDS),
        }
        retry: Any = {"max_retries": _TRIES - 1, "retry_timeout": timedelta(seconds=_TRYING_SECONDS)}
        if not self.url.startswith("s3://"):
            url, client["default_headers"] = _with_login(self.url)
            return HTTPStore(url, client_options=client, retry_config=retry)
        bucket, _, prefix = self.url.removeprefix("s3://").strip("/").partition("/")
        place: Any = {"endpoint": self.service} if self.service else {"region": region_of(bucket)}
        keys: Any = {"skip_signature": True} if self.anonymous else {"credential_provider": _aws_keys}
        return S3Store(bucket, prefix=prefix or None, client_options=client, retry_config=retry, **place, **keys)


def is_url(text: str) -> bool:
    """Whether a source is named by a URL rather than a path."""
    return "://" in text


def require_known_scheme(url: str) -> None:
    """Refuse a URL of a kind that is not read here (`ValueError`)."""
    if not url.startswith(_SCHEMES):
        raise ValueError(
            f"found {url!r}: expected s3://, http:// or https://; copy it here, or serve it by one of these"
        )
    if url.startswith("s3://") and holds_keys(url):
        raise ValueError(f"found {url!r}: keys come from the environment or AWS's usual files")


@lru_cache
def region_of(bucket: str, service: str = _AMAZON) -> str:
    """Amazon serves a bucket in its own region alone, and tells everyone which that is."""
    request = urllib.request.Request(f"{service}/{quote(bucket)}", method="HEAD")
    try:
        with urllib.request.urlopen(request, timeout=_CONNECT_SECONDS) as answer:
            headers = answer.headers
    except HTTPError as error:  # in another region, or not for everyone
        headers = error.headers
    return str(headers.get("x-amz-bucket-region", "us-east-1"))


def _aws_keys() -> Any:
    """From the environment, AWS's usual files, or the machine's role."""
    from botocore.session import Session  # takes half a second: only where it is used

    found = Session().get_credentials()
    if found is None:
        raise PermissionError("no keys")
    keys = found.get_frozen_credentials()
    expires = datetime.now(UTC) + _KEYS_LAST
    return {
        "access_key_id": keys.access_key,
        "secret_access_key": keys.secret_key,
        "token": keys.token,
        "expires_at": expires,
    }


def _with_login(url: str) -> tuple[str, dict[str, str]]:
    """The URL without name and password, and the header that says them, from the URL or else from ~/.netrc."""
    parts = urlsplit(url)
    login = (unquote(parts.username), unquote(parts.password or "")) if parts.username else _netrc(parts.hostname)
    if login is None:
        return url, {}
    bare = urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
    return bare, {"authorization": f"Basic {b64encode(':'.join(login).encode()).decode()}"}


def _netrc(host: str | None) -> tuple[str, str] | None:
    try:
        found = netrc(os.environ.get("NETRC")).authenticators(host or "")
    except (OSError, NetrcParseError):
        return None
    return (found[0], found[2] or "") if found else None


def _file(about: Any) -> File:
    date = about["last_modified"]
    dated = format_datetime(date, usegmt=True) if date.timestamp() else None  # a server that says none means 1970
    return File(about["path"], about["size"], about["e_tag"] or dated)


def _local_file(path: Path, root: str) -> File:
    stat = path.stat()
    return File(path.relative_to(root).as_posix(), stat.st_size, stat.st_mtime)


@lru_cache(maxsize=1)
def _names_in_zip(path: str, changed: int) -> list[str]:
    """Reading the directory takes as long as there are files, and each field asks for its own."""
    with zipfile.ZipFile(path) as archive:
        return archive.namelist()


@contextmanager
def access_errors(location: Location) -> Iterator[None]:
    """Turn what goes wrong in reaching or opening a store into one `UserError` that names it and the way out."""
    try:
        yield
    except _ACCESS_ERRORS as error:
        raise UserError(f"{location.name}: {_explain(location, error)}") from error


def _explain(location: Location, error: Exception) -> str:
    url, causes = location.url, []
    cause: BaseException | None = error
    while cause is not None:  # zarr wraps what the network said
        causes.append(cause)
        cause = cause.__cause__
    if not location.is_remote and is_machine_error(error):
        return f"can't be opened as a Zarr store: {explain(error)}"
    if any(isinstance(c, _REFUSED) for c in causes):
        return f"{url} can't be read with {_keys_from(location)}"
    if any(isinstance(c, _UNREACHABLE) or (isinstance(c, GenericError) and _NO_ANSWER.search(str(c))) for c in causes):
        return f"{location.service or _AMAZON} can't be reached; check the address (url, endpoint) and the network"
    if isinstance(error, FileNotFoundError):
        return f"can't be opened as a Zarr store: there is none at {url}; check the address, and the endpoint if it is on S3"
    if _LISTING in str(error):
        return "by HTTP its arrays can't be listed, and its metadata do not name them: consolidate the metadata there"
    return f"can't be opened as a Zarr store: {brief(error)}"


def _keys_from(location: Location) -> str:
    if not location.url.startswith("s3://"):
        return "the name and password at hand; they come from ~/.netrc (or the file that NETRC names)"
    return (
        f"{'no keys (anonymous: true)' if location.anonymous else 'the keys at hand'}; "
        "keys come from AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or the profile that AWS_PROFILE names; "
        "`anonymous: true` is for public stores"
    )
