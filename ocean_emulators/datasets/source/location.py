"""Where a source lies: a path, or a small *pointer file* (YAML, kept in git) that names a store elsewhere and pins its content.

DVC depends on the path that `data.source` names. A store of terabytes is not for DVC to hash, so the pointer file holds a
fingerprint of it: when the store changes, pinning it anew changes the file, and with it everything that is made from it.
"""

import hashlib
import re
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import aiohttp
import fsspec
import numpy as np
import zarr
from botocore.exceptions import BotoCoreError, HTTPClientError, NoCredentialsError
from botocore.exceptions import ConnectionError as BotoConnectionError
from fsspec.exceptions import FSTimeoutError
from pydantic import field_validator
from zarr.abc.store import Store
from zarr.storage import FsspecStore, LocalStore, ZipStore

from ocean_emulators.config.base import Config, digest, parse
from ocean_emulators.config.yaml_files import load_yaml
from ocean_emulators.errors import UserError

_CONNECT_SECONDS, _READ_SECONDS = 5, 15
_METADATA = ("zarr.json", ".zmetadata", ".zgroup", ".zattrs")
_REQUESTS_AT_ONCE = 16
_CHUNKS_PER_ARRAY = 4  # of a store that can't be listed
_ACCESS_ERRORS = (
    OSError,
    BotoCoreError,
    aiohttp.ClientError,
    FSTimeoutError,
    zarr.errors.BaseZarrError,
    zipfile.BadZipFile,
    ValueError,
    RuntimeError,  # codecs
)
_UNREACHABLE = (
    ConnectionError,
    TimeoutError,
    HTTPClientError,
    BotoConnectionError,
    aiohttp.ClientConnectionError,
    FSTimeoutError,
)


def require_known_scheme(url: str) -> None:
    """Refuse a URL of a kind that is not read here (`ValueError`)."""
    if not url.startswith(("s3://", "http://", "https://")):
        raise ValueError(
            f"found {url!r}: expected s3://, http:// or https://; copy it here, or serve it by one of these"
        )


class Pointer(Config):
    url: str
    """where the Zarr store lies: s3://bucket/path, https://…, or an absolute path on this machine"""
    endpoint: str | None = None
    """address of the S3 service, such as https://s3.example.org; null is Amazon's"""
    anonymous: bool = False
    """public store, read without keys; keys otherwise come from the environment or AWS's usual files"""
    fingerprint: str | None = None
    """what the store was when it was pinned, by `ocean-emulators data pin FILE`"""

    @field_validator("url")
    @classmethod
    def _is_elsewhere(cls, value: str) -> str:
        if not (is_url(value) or Path(value).is_absolute()):
            raise ValueError(f"found {value!r}: expected s3://bucket/path, https://…, or an absolute path")
        if is_url(value):
            require_known_scheme(value)
        if is_url(value) and value.endswith(".zip"):
            raise ValueError(f"found {value!r}: a .zip file must lie on this machine; unpack it there, or copy it here")
        return value


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

    def open(self) -> Store:
        """The store, for reading.

        Raises
        ------
        UserError
            If there is nothing there. For remote stores, reading finds out.
        """
        if self.is_remote:
            with access_errors(self):
                return FsspecStore.from_url(self.url, storage_options=self._options(), read_only=True)
        if not Path(self.url).exists():
            raise UserError(f"{self.name}: no such file or folder")
        with access_errors(self):
            return ZipStore(self.url, mode="r") if self.url.endswith(".zip") else LocalStore(self.url, read_only=True)

    def keys(self, folder: str) -> list[str] | None:
        """Names of all files below a folder of the store, relative to it; None where nothing can be listed (HTTP)."""
        if self.url.startswith(("http://", "https://")):
            return None
        if self.url.endswith(".zip"):
            names = _names_in_zip(self.url, Path(self.url).stat().st_mtime_ns)
            return [n.removeprefix(f"{folder}/") for n in names if n.startswith(f"{folder}/")]
        files = self.filesystem()
        root = f"{files._strip_protocol(self.url).rstrip('/')}/{folder}/"
        return [str(name).removeprefix(root) for name in files.find(root)]

    def filesystem(self) -> Any:
        """fsspec's (synchronous) file system that holds it."""
        protocol = self.url.partition("://")[0] if self.is_remote else "file"
        return fsspec.filesystem(protocol, **(self._options() if self.is_remote else {}))

    def _options(self) -> dict[str, Any]:
        fresh = {"use_listings_cache": False}
        if not self.url.startswith("s3://"):
            timeout = aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_SECONDS, sock_read=_READ_SECONDS)
            return {"client_kwargs": {"timeout": timeout}, **fresh}
        # s3fs tries again by itself, five times; botocore's own attempts would multiply the time until a dead
        # endpoint is given up.
        config = {
            "connect_timeout": _CONNECT_SECONDS,
            "read_timeout": _READ_SECONDS,
            "retries": {"total_max_attempts": 1},
        }
        endpoint = {"endpoint_url": self.endpoint} if self.endpoint else {}
        return {"anon": self.anonymous, "config_kwargs": config, **endpoint, **fresh}


def is_url(text: str) -> bool:
    """Whether a source is named by a URL rather than a path."""
    return "://" in text


def locate(source: str) -> Location:
    """The location of what `data.source` names: a Zarr folder, a .zip file of one, or a pointer file to one elsewhere.

    Raises
    ------
    UserError
        If a pointer file is missing, faulty, or not pinned.
    """
    name = f"data.source: {source}"
    if not source.endswith((".yaml", ".yml")):
        return Location(name, source)
    if not Path(source).is_file():
        raise UserError(f"{name}: no such file or folder")
    location = read_pointer(Path(source))
    location = replace(location, name=f"data.source: {location.name}")
    if location.fingerprint is None:
        raise UserError(
            f"{location.name} has no fingerprint, so a change of {location.url} would go unseen; "
            f"`ocean-emulators data pin {source}` takes it"
        )
    return location


def read_pointer(path: Path) -> Location:
    """The location in a pointer file, pinned or not.

    Raises
    ------
    UserError
        If the file is missing or faulty.
    """
    pointer = parse(Pointer, load_yaml(path), str(path))
    name = f"{path} ({pointer.url})"
    return Location(name, pointer.url, pointer.endpoint, pointer.anonymous, path, pointer.fingerprint)


def pin(path: Path) -> str:
    """Take the fingerprint of the store that a pointer file names, write it into the file, and return it.

    Raises
    ------
    UserError
        If the pointer file is faulty or its store can't be reached.
    """
    fingerprint = take_fingerprint(read_pointer(path))
    text = path.read_text()
    line = f"fingerprint: {fingerprint}"
    pinned, n = re.subn(r"^fingerprint:[ \t]*[^\s#]*", line, text, count=1, flags=re.MULTILINE)
    building = path.with_name(path.name + ".partial")
    building.write_text(pinned if n else f"{text.rstrip()}\n{line}\n")
    building.replace(path)
    return fingerprint


def require_unchanged(source: str) -> str:
    """Refuse a pointer file whose store is no longer what it was when it was pinned; what tells the source's content.

    That is the fingerprint of a store (see `take_fingerprint`), or size and time of modification of a .zip file.

    Raises
    ------
    UserError
        With the way out: pin it anew.
    """
    location = locate(source)
    if Path(location.url).is_file():
        stat = Path(location.url).stat()
        return digest(stat.st_size, stat.st_mtime_ns)
    fingerprint = take_fingerprint(location)
    if location.pointer is not None and fingerprint != location.fingerprint:
        raise UserError(
            f"{location.name} is not what it was when it was pinned; if the change is wanted, "
            f"`ocean-emulators data pin {location.pointer}`, and everything made from it will be made again"
        )
    return fingerprint


def take_fingerprint(location: Location) -> str:
    """SHA-256 that tells one content of a store from another, without reading all of it.

    On S3: the metadata documents, and key, size and ETag of every object. By HTTP, which can't list: the metadata
    documents, and size and ETag or date of some chunks of every array, always the same ones. On this machine: the
    metadata documents, and name, size and time of modification of every file.

    Raises
    ------
    UserError
        If the store can't be reached.
    """
    with access_errors(location):
        files = location.filesystem()
        root = files._strip_protocol(location.url).rstrip("/")
        sha = hashlib.sha256()
        for document in _METADATA:
            with suppress(FileNotFoundError):
                sha.update(f"{document}\n".encode() + files.cat_file(f"{root}/{document}"))
        by_http = location.url.startswith(("http://", "https://"))
        lines = list(_sampled(location, files, root) if by_http else _listed(files, root))
        if not lines:
            raise FileNotFoundError(location.url)
        sha.update("\n".join(lines).encode())
    return sha.hexdigest()


def _listed(files: Any, root: str) -> Iterator[str]:
    """One line for each of the store's arrays and other files: a hash of names, sizes and versions of what is in it."""

    def line(entry: dict[str, Any]) -> str:
        inside = files.find(entry["name"], detail=True) if entry["type"] == "directory" else {entry["name"]: entry}
        names = sorted((name.removeprefix(root), f["size"], f.get("ETag") or f["mtime"]) for name, f in inside.items())
        return digest(entry["name"].removeprefix(root), names)

    with ThreadPoolExecutor(_REQUESTS_AT_ONCE) as pool:
        yield from pool.map(line, sorted(files.ls(root, detail=True), key=lambda entry: str(entry["name"])))


def _sampled(location: Location, files: Any, root: str) -> Iterator[str]:
    """Name, size and version of the first, the last and some chunks between them of every array."""

    def line(key: str) -> str:
        try:
            about = files.info(f"{root}/{key}")
        except FileNotFoundError:
            about = {}  # a chunk that holds the fill value alone need not exist
        return f"{key} {about.get('size')} {about.get('ETag') or about.get('Last-Modified')}"

    keys: list[str] = []
    for name, array in sorted(zarr.open_group(location.open(), mode="r").arrays()):
        shape = [-(-n // c) for n, c in zip(array.shape, array.shards or array.chunks, strict=True)]
        for number in sorted({int(i) for i in np.linspace(0, np.prod(shape) - 1, _CHUNKS_PER_ARRAY)}):
            index = tuple(int(i) for i in np.unravel_index(number, shape)) if shape else ()
            keys.append(f"{name}/{array.metadata.encode_chunk_key(index)}")
    with ThreadPoolExecutor(_REQUESTS_AT_ONCE) as pool:
        yield from pool.map(line, keys)


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
    while cause is not None:  # zarr and fsspec wrap what the network said
        causes.append(cause)
        cause = cause.__cause__
    if any(isinstance(c, NoCredentialsError | PermissionError) for c in causes):
        return (
            f"{url} can't be read with {'no keys (anonymous: true)' if location.anonymous else 'the keys at hand'}; "
            "keys come from AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or the profile that AWS_PROFILE names; "
            "`anonymous: true` is for public stores"
        )
    if any(isinstance(c, _UNREACHABLE) for c in causes):
        where = location.endpoint or (url if url.startswith(("http://", "https://")) else "Amazon's S3")
        return f"{where} can't be reached; check the address (url, endpoint) and the network"
    if isinstance(error, FileNotFoundError):
        return f"can't be opened as a Zarr store: there is none at {url}; check the address, and the endpoint if it is on S3"
    return f"can't be opened as a Zarr store: {str(error) or type(error).__name__}"
