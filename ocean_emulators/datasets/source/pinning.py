"""Small *pointer files* (YAML, kept in git) that name a store elsewhere and pin its content.

DVC depends on the path that `data.source` names. A store of terabytes is not for DVC to hash, so the pointer file holds a
fingerprint of it: when the store changes, pinning it anew changes the file, and with it everything that is made from it.
"""

import hashlib
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import zarr
from pydantic import field_validator

from ocean_emulators.config.base import Config, parse
from ocean_emulators.config.yaml_files import load_yaml
from ocean_emulators.datasets.source.location import Location, access_errors, is_url, require_known_scheme
from ocean_emulators.errors import UserError
from ocean_emulators.files import digest, write_text

_METADATA = ("zarr.json", ".zmetadata", ".zgroup", ".zattrs")
_REQUESTS_AT_ONCE = 16
_CHUNKS_PER_ARRAY = 4  # of a store that can't be listed


class Pointer(Config):
    url: str
    """where the Zarr store lies: s3://bucket/path, https://…, or an absolute path on this machine"""
    endpoint: str | None = None
    """address of the S3 service, such as https://s3.example.org; null is Amazon's, or what AWS_ENDPOINT_URL says"""
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
    write_text(path, pinned if n else f"{text.rstrip()}\n{line}\n")
    return fingerprint


def require_unchanged(source: str) -> str:
    """Refuse a pointer file whose store is no longer what it was when it was pinned; return the source's fingerprint.

    Raises
    ------
    UserError
        With the way out: pin it anew.
    """
    location = locate(source)
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
    metadata documents, and name, size and time of modification of every file; of a .zip file, its size and time.

    Raises
    ------
    UserError
        If the store can't be reached.
    """
    sha, is_there = hashlib.sha256(), False
    with access_errors(location):
        if location.is_zip:
            stat = Path(location.url).stat()
            return digest(stat.st_size, stat.st_mtime_ns)
        for document in _METADATA:
            content = location.read(document)
            if content is not None:
                is_there = True
                sha.update(f"{document}\n".encode() + content)
        if not is_there:
            raise FileNotFoundError(location.url)
        lines = _listed(location) if location.can_list else _sampled(location)
        sha.update("\n".join(lines).encode())
    return sha.hexdigest()


def _listed(location: Location) -> Iterator[str]:
    """One line for each of the store's arrays and other files: a hash of names, sizes and versions of what is in it."""

    folders, files = location.top()
    alone = {file.key: file for file in files}

    def line(name: str) -> str:
        inside = [alone[name]] if name in alone else location.files(name)
        return digest(f"/{name}", sorted((f"/{key}", size, version) for key, size, version in inside))

    with ThreadPoolExecutor(_REQUESTS_AT_ONCE) as pool:
        yield from pool.map(line, sorted([*folders, *alone]))


def _sampled(location: Location) -> Iterator[str]:
    """Name, size and version of the first, the last and some chunks between them of every array."""

    def line(key: str) -> str:
        about = location.about(key)  # a chunk that holds the fill value alone need not exist
        return f"{key} {about and about.size} {about and about.version}"

    keys: list[str] = []
    for name, array in sorted(zarr.open_group(location.open(), mode="r").arrays()):
        shape = [-(-n // c) for n, c in zip(array.shape, array.shards or array.chunks, strict=True)]
        for number in sorted({int(i) for i in np.linspace(0, np.prod(shape) - 1, _CHUNKS_PER_ARRAY)}):
            index = tuple(int(i) for i in np.unravel_index(number, shape)) if shape else ()
            keys.append(f"{name}/{array.metadata.encode_chunk_key(index)}")
    with ThreadPoolExecutor(_REQUESTS_AT_ONCE) as pool:
        yield from pool.map(line, keys)
