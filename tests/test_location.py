"""Where a source lies: pointer files, their fingerprints, and what is said when a store can't be reached."""

import functools
import http.server
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import zarr

from ocean_emulators.datasets.preparation.job import prepare
from ocean_emulators.datasets.source.layouts import open_location, open_source
from ocean_emulators.datasets.source.location import (
    Location,
    locate,
    pin,
    read_pointer,
    require_unchanged,
    take_fingerprint,
)
from ocean_emulators.errors import UserError
from ocean_emulators.testing.coded_ocean import write_om4
from tests.test_synthetic import SHAPE, TIMES, config


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A small store, which tests may change."""
    write_om4(tmp_path / "om4.zarr", SHAPE, TIMES, 2)
    return tmp_path / "om4.zarr"


@pytest.fixture
def pointer(store: Path) -> Path:
    """A pointer file to it, not pinned."""
    path = store.with_name("om4.yaml")
    path.write_text(f"# one degree\nurl: {store}\nanonymous: true  # public\nfingerprint: null  # see above\n")
    return path


@pytest.fixture
def served(store: Path) -> Iterator[str]:
    """The address of the store on a real HTTP server, which can't list."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

        def list_directory(self, path: object) -> None:
            self.send_error(404)

    handler = functools.partial(Quiet, directory=str(store.parent))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/{store.name}"
        server.shutdown()


CHUNK = "thetao_1/3.0.0"
CHANGES: dict[str, Callable[[Path], object]] = {
    "overwritten": lambda store: (store / CHUNK).write_bytes(os.urandom((store / CHUNK).stat().st_size)),
    "deleted": lambda store: (store / CHUNK).unlink(),
    "added": lambda store: (store / "thetao_1/99.0.0").write_bytes(b"x"),
    "attributes": lambda store: zarr.open_group(store, mode="r+").attrs.update(title="another"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_the_fingerprint_changes_when_the_store_does(store: Path, change: str) -> None:
    location = Location("s", str(store))
    before = take_fingerprint(location)
    assert take_fingerprint(location) == before
    CHANGES[change](store)
    assert take_fingerprint(location) != before


def test_the_fingerprint_knows_content_and_not_place(store: Path, tmp_path: Path) -> None:
    shutil.copytree(store, tmp_path / "copy.zarr")
    assert take_fingerprint(Location("a", str(store))) == take_fingerprint(Location("b", str(tmp_path / "copy.zarr")))


def test_a_store_behind_a_pointer_is_opened_once_it_is_pinned(pointer: Path, store: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=rf"has no fingerprint, .*`ocean-emulators data pin {pointer}` takes it"):
        open_source(str(pointer))
    fingerprint = pin(pointer)
    assert pointer.read_text() == (
        f"# one degree\nurl: {store}\nanonymous: true  # public\nfingerprint: {fingerprint}  # see above\n"
    )
    assert open_source(str(pointer)).sizes["time"] == TIMES
    assert locate(str(pointer)) == Location(
        f"data.source: {pointer} ({store})", str(store), None, True, pointer, fingerprint
    )
    prepare(config(pointer, [0, 1], ["hfds"]), tmp_path / "ocean.packed")


def test_a_store_that_changed_is_not_prepared_until_it_is_pinned_anew(pointer: Path, store: Path) -> None:
    first = pin(pointer)
    require_unchanged(str(pointer))
    CHANGES["attributes"](store)
    with pytest.raises(UserError, match=rf"not what it was when it was pinned; .*data pin {pointer}"):
        prepare(config(pointer, [0, 1], ["hfds"]), pointer.parent / "ocean.packed")
    assert not (pointer.parent / "ocean.packed").exists()
    assert pin(pointer) != first
    require_unchanged(str(pointer))


def test_a_file_without_the_line_gets_it(pointer: Path, store: Path) -> None:
    pointer.write_text(f"url: {store}")
    fingerprint = pin(pointer)
    assert pointer.read_text() == f"url: {store}\nfingerprint: {fingerprint}\n"


def test_paths_and_zip_files_need_no_pin(store: Path) -> None:
    assert locate(str(store)).fingerprint is None
    require_unchanged(str(store))
    archive = shutil.make_archive(str(store), "zip", store)
    assert open_source(archive).sizes["time"] == TIMES


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("url: data/om4.zarr", "url: found 'data/om4.zarr': expected s3://bucket/path, https://…, or an absolute path"),
        ("url: s3://a/b.zip", "a .zip file must lie on this machine"),
        ("url: s3://a/b\nkey: secret", "key: unknown key"),
        ("anonymous: true", "url: missing"),
        ("- url", "expected keys and values"),
    ],
    ids=["relative", "zip", "key", "url", "list"],
)
def test_a_faulty_pointer_file_is_refused(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "p.yaml").write_text(text)
    for use in (lambda p: open_source(str(p)), pin):
        with pytest.raises(UserError) as caught:
            use(tmp_path / "p.yaml")
        assert message in str(caught.value)
        assert "p.yaml" in str(caught.value)


def test_what_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"data.source: .*none.yaml: no such file or folder"):
        open_source(str(tmp_path / "none.yaml"))
    (tmp_path / "p.yaml").write_text(f"url: {tmp_path}/none.zarr")
    with pytest.raises(UserError, match=r"p.yaml \(.*none.zarr\): .*there is none at .*none.zarr"):
        pin(tmp_path / "p.yaml")


def test_a_store_is_read_by_http(served: str, store: Path) -> None:
    by_http, local = open_location(Location(served, served)), open_source(str(store))
    assert by_http["thetao_1"].equals(local["thetao_1"])


@pytest.mark.parametrize("change", ["first chunk", "attributes"])
def test_a_change_of_a_store_that_cannot_be_listed_is_seen(served: str, store: Path, change: str) -> None:
    before = take_fingerprint(Location(served, served))
    assert take_fingerprint(Location(served, served)) == before
    if change == "attributes":
        CHANGES[change](store)
    else:
        os.utime(store / "thetao_1/0.0.0", (1, 1))
    assert take_fingerprint(Location(served, served)) != before


def test_an_http_server_that_is_not_there_is_named(served: str, tmp_path: Path) -> None:
    gone = "http://127.0.0.1:1/om4.zarr"
    (tmp_path / "p.yaml").write_text(f"url: {gone}\nfingerprint: abc")
    for use in (lambda: open_source(str(tmp_path / "p.yaml")), lambda: pin(tmp_path / "p.yaml")):
        with pytest.raises(UserError, match=r"p.yaml .*: http://127.0.0.1:1/om4.zarr can't be reached; check"):
            use()
    nothing = served.replace("om4.zarr", "none.zarr")
    for look in (open_location, take_fingerprint):
        with pytest.raises(UserError, match=r"can't be opened as a Zarr store: there is none at .*none.zarr"):
            look(Location("s", nothing))


def test_a_pointer_is_read_whether_pinned_or_not(pointer: Path, store: Path) -> None:
    assert read_pointer(pointer).fingerprint is None
    assert read_pointer(pointer).name == f"{pointer} ({store})"
