"""Where a source lies: pointer files, their fingerprints, and what is said when a store can't be reached."""

import errno
import os
import pickle
import shutil
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
import zarr

from ocean_emulators.datasets.preparation.job import prepare
from ocean_emulators.datasets.source.layouts import open_location, open_source
from ocean_emulators.datasets.source.location import Location, access_errors
from ocean_emulators.datasets.source.pinning import locate, pin, read_pointer, require_unchanged, take_fingerprint
from ocean_emulators.errors import UserError
from ocean_emulators.testing.coded_ocean import write_om4
from tests import stores
from tests.coded import SHAPE, TIMES, config


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
    with stores.serve(store.parent) as address:
        yield f"{address}/{store.name}"


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


def test_a_zip_file_behind_a_pointer_is_pinned_and_a_change_of_it_is_seen(store: Path, tmp_path: Path) -> None:
    archive, pointer = shutil.make_archive(str(store), "zip", store), tmp_path / "zip.yaml"
    pointer.write_text(f"url: {archive}")
    fingerprint = pin(pointer)
    assert fingerprint == require_unchanged(str(pointer)) == require_unchanged(archive)
    assert open_source(str(pointer)).sizes["time"] == TIMES
    os.utime(archive, (1, 1))
    with pytest.raises(UserError, match=rf"not what it was when it was pinned; .*data pin {pointer}"):
        require_unchanged(str(pointer))


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


@pytest.mark.parametrize("number", [errno.EACCES, errno.EPERM, errno.EMFILE, errno.ENFILE, errno.EIO])
def test_what_the_machine_refuses_is_not_blamed_on_the_store(number: int) -> None:
    with pytest.raises(UserError) as caught, access_errors(Location("s", "/om4.zarr")):
        raise OSError(number, os.strerror(number), "/om4.zarr/zarr.json")
    text = str(caught.value)
    assert text.startswith("s: can't be opened as a Zarr store: /om4.zarr/zarr.json: ")
    assert text.endswith(", and run it again")
    assert "password" not in text


def test_a_pointer_is_read_whether_pinned_or_not(pointer: Path, store: Path) -> None:
    assert read_pointer(pointer).fingerprint is None
    assert read_pointer(pointer).name == f"{pointer} ({store})"


def test_stores_that_were_pinned_stay_pinned(tmp_path: Path) -> None:
    """Fingerprints stand in files of users: what takes them may change, they may not."""
    folder = stores.write_by_hand(tmp_path / "s.zarr")
    on_disk = "7419f511338817523e9086f220af2618f13e356a53a8fa034fff308bcadba8b5"
    assert take_fingerprint(Location("s", str(folder))) == on_disk
    with stores.serve(tmp_path) as address:
        by_http = "1d3b031016eb23e82ab105a58fb299dd520a76f44d43daf5dd6091526cf077a3"
        assert take_fingerprint(Location("s", f"{address}/s.zarr")) == by_http


def test_a_store_by_http_must_name_its_arrays(tmp_path: Path) -> None:
    (stores.write_by_hand(tmp_path / "s.zarr") / "zarr.json").write_text('{"zarr_format": 3, "node_type": "group"}')
    with stores.serve(tmp_path) as address:
        for use in (open_location, take_fingerprint):
            with pytest.raises(UserError, match=r"by HTTP its arrays can't be listed, .* consolidate"):
                use(Location("s", f"{address}/s.zarr"))


def test_a_store_by_http_goes_to_other_processes(served: str) -> None:
    there = pickle.loads(pickle.dumps(Location("s", served).open()))
    assert zarr.open_group(there, mode="r")["thetao_1"].shape == (TIMES, *SHAPE)


NAME, PASSWORD = "me@home", "p:w/ü%"


@pytest.mark.parametrize("way", ["netrc", "url"])
def test_a_store_behind_a_password_is_read(
    way: str, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    with stores.serve(store.parent, user=f"{NAME}:{PASSWORD}") as address:
        location = Location("s", f"{address}/{store.name}")
        for use in (open_location, take_fingerprint):
            with pytest.raises(UserError, match=r"can't be read with the name and password at hand; .*netrc"):
                use(location)
        if way == "netrc":
            (tmp_path / "netrc").write_text(f"machine 127.0.0.1 login {NAME} password {PASSWORD}")
            location = Location("s", location.url)
        else:
            login = f"{quote(NAME, safe='')}:{quote(PASSWORD, safe='')}"
            location = Location("s", location.url.replace("://", f"://{login}@"))
        assert open_location(location).sizes["time"] == TIMES
        take_fingerprint(location)


def test_a_store_behind_a_token_is_read(store: Path) -> None:
    with stores.serve(store.parent, token="abc") as address:
        assert open_location(Location("s", f"{address}/{store.name}?token=abc")).sizes["time"] == TIMES


def test_an_http_server_that_never_answers_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"{Location.__module__}._READ_SECONDS", 0.2)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        dead, begun = f"http://127.0.0.1:{silent.getsockname()[1]}/om4.zarr", time.monotonic()
        with pytest.raises(UserError, match=f"{dead} can't be reached; check"):
            open_location(Location("s", dead))
        assert time.monotonic() - begun < 20
