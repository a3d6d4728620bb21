"""Sources on a real S3 server: public and keyed buckets, pinning, and what is said when a store can't be reached."""

import json
import os
import pickle
import shutil
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import numpy as np
import pytest
import zarr
from botocore.config import Config

from ocean_emulators.cli.describe import describe_source
from ocean_emulators.datasets.preparation.job import prepare
from ocean_emulators.datasets.source.layouts import open_location, open_source
from ocean_emulators.datasets.source.location import Location, region_of
from ocean_emulators.datasets.source.pinning import pin, take_fingerprint
from ocean_emulators.datasets.store.packed_store import open_store, store_path
from ocean_emulators.errors import UserError
from ocean_emulators.testing.coded_ocean import channel_number, decode, write_om4
from tests import stores
from tests.coded import SHAPE, TIMES, config
from tests.integration.conftest import ENVIRONMENT, ROOT, Project, stages_run

KEY, SECRET = "tester", "not-a-secret"
LEVELS = 2


def start(command: list[str], port: int, env: dict[str, str], folder: Path) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(command, cwd=folder, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while True:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return process
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.1)


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of an S3 server on this machine."""
    port = free_port()
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    process = start(command, port, ENVIRONMENT, tmp_path_factory.mktemp("moto"))
    yield f"http://127.0.0.1:{port}"
    process.terminate()
    process.wait(timeout=30)


@pytest.fixture(autouse=True)
def keys(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Keys in the environment, and none from this machine's files."""
    for name in [n for n in os.environ if n.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)


@pytest.fixture
def bucket(endpoint: str, keys: None) -> Any:
    """An empty bucket."""
    s3 = boto3.resource(
        "s3", endpoint_url=endpoint, region_name="us-east-1", config=Config(retries={"max_attempts": 1})
    )
    made = s3.create_bucket(Bucket=f"b{uuid.uuid4().hex}")
    yield made
    made.objects.all().delete()
    made.delete()


@pytest.fixture
def remote(bucket: Any, tmp_path: Path) -> str:
    """The URL of an encoded ocean in it."""
    folder = tmp_path / "om4.zarr"
    write_om4(folder, SHAPE, TIMES, LEVELS, encode=True)
    return upload(folder, bucket)


def upload(folder: Path, bucket: Any) -> str:
    """Put a store into a bucket, readable by everyone, and return its URL."""
    for file in folder.rglob("*"):
        if file.is_file():
            key = f"{folder.name}/{file.relative_to(folder).as_posix()}"
            bucket.put_object(Key=key, Body=file.read_bytes(), ACL="public-read")
    return f"s3://{bucket.name}/{folder.name}"


def pointer(path: Path, url: str, endpoint: str, anonymous: bool = False) -> Path:
    path.write_text(f"url: {url}\nendpoint: {endpoint}\nanonymous: {json.dumps(anonymous)}\nfingerprint: null\n")
    return path


@pytest.mark.parametrize("anonymous", [True, False])
def test_every_value_comes_from_s3_to_its_place(remote: str, endpoint: str, anonymous: bool, tmp_path: Path) -> None:
    file = pointer(tmp_path / "om4.yaml", remote, endpoint, anonymous)
    pin(file)
    prepare(config(file, [0, 1], ["hfds"]), tmp_path / "ocean.packed")
    store = open_store(store_path(tmp_path / "ocean.packed", "x1"))
    rows, end = store.rows(0, TIMES), 0
    for c, mask in zip(store.channels, store.mask, strict=True):
        begin, end = end, end + int(mask.sum())
        number, when, lat, lon = decode(rows[:, begin:end], SHAPE)
        assert (number == channel_number(c)).all()
        assert (when == np.arange(TIMES)[:, None]).all()
        assert (np.stack([lat, lon], -1) == np.argwhere(mask)).all()


CHANGES: dict[str, Callable[[Any], object]] = {
    "overwritten": lambda bucket: bucket.put_object(Key="om4.zarr/so_0/2.0.0", Body=np.full(SHAPE, 3, "f4").tobytes()),
    "added": lambda bucket: bucket.put_object(Key="om4.zarr/so_1/77.0.0", Body=b"x"),
    "deleted": lambda bucket: bucket.Object("om4.zarr/so_0/2.0.0").delete(),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_is_refused_until_it_is_pinned(
    remote: str, bucket: Any, endpoint: str, change: str, tmp_path: Path
) -> None:
    file = pointer(tmp_path / "om4.yaml", remote, endpoint)
    chosen = config(file, [0], ["hfds"])
    with pytest.raises(UserError, match="has no fingerprint"):
        prepare(chosen, tmp_path / "ocean.packed")
    first = pin(file)
    prepare(chosen, tmp_path / "ocean.packed")
    assert pin(file) == first
    CHANGES[change](bucket)
    with pytest.raises(UserError, match=r"om4.yaml \(s3://.*\) is not what it was when it was pinned"):
        prepare(chosen, tmp_path / "ocean.packed")
    assert pin(file) != first
    if change == "deleted":  # it is pinned, but not whole
        with pytest.raises(UserError, match=r"so_0 has no chunk 2.0.0 \(times 2 to 2\), where there is ocean"):
            prepare(chosen, tmp_path / "ocean.packed")
    else:
        prepare(chosen, tmp_path / "ocean.packed")


def test_a_truncated_chunk_on_s3_is_named(remote: str, bucket: Any, endpoint: str, tmp_path: Path) -> None:
    bucket.put_object(Key="om4.zarr/so_1/0.0.0", Body=b"short")
    file = pointer(tmp_path / "om4.yaml", remote, endpoint)
    pin(file)
    with pytest.raises(UserError, match=r"so_1 at 1958-01-03 12:00:00 can't be read"):
        prepare(config(file, [0, 1], ["hfds"]), tmp_path / "ocean.packed")


def test_dvc_depends_on_the_pointer_file(untouched: Project, bucket: Any, endpoint: str) -> None:
    tree = untouched.params()
    url = upload(untouched.root / tree["data"]["source"], bucket)
    file = pointer(untouched.root / "ocean.yaml", url, endpoint, anonymous=True)
    untouched.configure({**tree, "data": {**tree["data"], "source": file.name}})
    output = untouched.run("dvc", "repro", "prepare", fails=True)
    assert "ocean-emulators data pin ocean.yaml" in output
    assert "Traceback" not in output
    pin_it = (sys.executable, "-m", "ocean_emulators.cli", "data", "pin", file.name)
    untouched.run(*pin_it)
    assert stages_run(untouched.run("dvc", "repro", "prepare")) == ["prepare"]
    untouched.run(*pin_it)
    assert stages_run(untouched.run("dvc", "repro", "prepare")) == []
    bucket.put_object(Key="tiny.zarr/note.txt", Body=b"changed", ACL="public-read")
    assert "is not what it was when it was pinned" in untouched.run("dvc", "repro", "-f", "prepare", fails=True)
    untouched.run(*pin_it)
    assert stages_run(untouched.run("dvc", "repro", "prepare")) == ["prepare"]


def test_results_go_to_a_bucket_and_a_clone_that_pulls_runs_nothing(
    done: Project, bucket: Any, endpoint: str, tmp_path: Path
) -> None:
    keys = {name: os.environ[name] for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")}
    project = done.copy(tmp_path / "project")
    project.run("dvc", "remote", "add", "-d", "store", f"s3://{bucket.name}/results")
    project.run("dvc", "remote", "modify", "store", "endpointurl", endpoint)
    project.commit("A remote")
    project.run("dvc", "push", **keys)
    shutil.rmtree(project.root / ".dvc/cache")
    clone = Project(tmp_path / "clone")
    project.run("git", "clone", "-q", ".", str(clone.root))
    clone.run("dvc", "pull", **keys)
    assert (clone.root / "outputs/evaluation/predictions.zarr").is_dir()
    assert "Data and pipelines are up to date" in clone.run("dvc", "repro")
    assert SECRET not in "".join(path.read_text() for path in (clone.root / ".dvc").glob("config*"))


def test_a_bare_url_is_described(remote: str, endpoint: str) -> None:
    text = describe_source(Location(remote, remote, endpoint, anonymous=True), {})
    assert "Zarr version 2, 25 arrays" in text
    assert f"{TIMES} times from 1958-01-03 12:00:00" in text


def refusals(location: Location) -> Iterator[str]:
    for use in (open_location, take_fingerprint):
        begun = time.monotonic()
        with pytest.raises(UserError) as caught:
            use(location)
        assert time.monotonic() - begun < 40
        assert "\n" not in str(caught.value)
        yield str(caught.value)


def test_stores_that_were_pinned_stay_pinned(bucket: Any, endpoint: str, tmp_path: Path) -> None:
    """Fingerprints stand in files of users: what takes them may change, they may not."""
    url = upload(stores.write_by_hand(tmp_path / "s.zarr"), bucket)
    fingerprint = "2e5c87fb69c35b8568a109e39b1e65142700519532fd510e0905da9d8c52e8ee"
    assert take_fingerprint(Location("s", url, endpoint)) == fingerprint


def test_the_endpoint_may_come_from_the_environment(
    remote: str, endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    assert take_fingerprint(Location("s", remote)) == take_fingerprint(Location("s", remote, endpoint))


@pytest.mark.parametrize("region", ["eu-west-1", "us-west-2"])
def test_a_bucket_tells_its_region(region: str, endpoint: str) -> None:
    name = f"b{uuid.uuid4().hex}"
    place: Any = {"LocationConstraint": region}
    boto3.client("s3", endpoint_url=endpoint, region_name=region).create_bucket(
        Bucket=name, CreateBucketConfiguration=place
    )
    assert region_of(name, endpoint) == region
    assert region_of("no-such-bucket", endpoint) == "us-east-1"


@pytest.mark.parametrize("anonymous", [True, False])
def test_a_store_on_s3_goes_to_other_processes(remote: str, endpoint: str, anonymous: bool) -> None:
    there = pickle.loads(pickle.dumps(Location("s", remote, endpoint, anonymous).open()))
    assert zarr.open_group(there, mode="r")["thetao_1"].shape == (TIMES, *SHAPE)


def test_what_is_not_there_is_said(remote: str, endpoint: str) -> None:
    for url in ("s3://no-such-bucket/om4.zarr", f"{remote}-of-another"):
        for message in refusals(Location("data.source: x", url, endpoint)):
            assert f"data.source: x: can't be opened as a Zarr store: there is none at {url}; check" in message


def test_an_endpoint_that_is_not_there_is_said(remote: str) -> None:
    dead = f"http://127.0.0.1:{free_port()}"
    for message in refusals(Location("data.source: x", remote, dead, anonymous=True)):
        assert message.startswith(f"data.source: x: {dead} can't be reached; check the address")


def test_an_endpoint_that_never_answers_is_given_up(remote: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ocean_emulators.datasets.source.location._READ_SECONDS", 1)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        dead = f"http://127.0.0.1:{silent.getsockname()[1]}"
        for message in refusals(Location("data.source: x", remote, dead, anonymous=True)):
            assert f"{dead} can't be reached" in message


def pinned_by_a_command(file: Path, **env: str) -> subprocess.CompletedProcess[str]:
    """`data pin` in its own process, as a user has it."""
    command = [sys.executable, "-m", "ocean_emulators.cli", "data", "pin", str(file)]
    home = {name: value for name, value in ENVIRONMENT.items() if not name.startswith("AWS_")} | {
        "HOME": str(file.parent),
        "AWS_EC2_METADATA_DISABLED": "true",
        "PYTHONPATH": str(ROOT),
    }
    return subprocess.run(command, cwd=file.parent, env=home | env, capture_output=True, text=True, timeout=120)


def test_missing_keys_are_asked_for(remote: str, endpoint: str, tmp_path: Path) -> None:
    done = pinned_by_a_command(pointer(tmp_path / "om4.yaml", remote, endpoint))
    assert done.returncode == 2
    assert done.stderr == (
        f"error: {tmp_path}/om4.yaml ({remote}): {remote} can't be read with the keys at hand; keys come from "
        "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or the profile that AWS_PROFILE names; "
        "`anonymous: true` is for public stores\n"
    )


def test_keys_may_come_from_the_usual_files(remote: str, endpoint: str, tmp_path: Path) -> None:
    (tmp_path / ".aws").mkdir()
    (tmp_path / ".aws" / "credentials").write_text(
        f"[ocean]\naws_access_key_id = {KEY}\naws_secret_access_key = {SECRET}\n"
    )
    file = pointer(tmp_path / "om4.yaml", remote, endpoint)
    done = pinned_by_a_command(file, AWS_PROFILE="ocean")
    assert done.returncode == 0, done.stderr
    assert open_source(str(file)).sizes["time"] == TIMES


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[str]:
    """The address of an S3 server that asks for keys once a bucket is made."""
    port = free_port()
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    process = start(command, port, ENVIRONMENT | {"INITIAL_NO_AUTH_ACTION_COUNT": "1"}, tmp_path)
    boto3.resource("s3", endpoint_url=f"http://127.0.0.1:{port}", region_name="us-east-1").create_bucket(
        Bucket="closed"
    )
    yield f"http://127.0.0.1:{port}"
    process.terminate()
    process.wait(timeout=30)


def test_keys_that_do_not_open_the_store_are_told(guarded: str) -> None:
    for message in refusals(Location("data.source: x", "s3://closed/om4.zarr", guarded)):
        assert "s3://closed/om4.zarr can't be read with the keys at hand; keys come from" in message


def test_a_store_that_is_not_public_is_told(remote: str, bucket: Any, endpoint: str) -> None:
    for item in bucket.objects.all():
        item.Acl().put(ACL="private")
    for message in refusals(Location("data.source: x", remote, endpoint, anonymous=True)):
        assert f"{remote} can't be read with no keys (anonymous: true); keys come from" in message
