"""Preparation and statistics on a cluster: real dask workers in processes of their own give the bytes that threads give."""

import os
import uuid
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from distributed import Client, LocalCluster, Worker

from ocean_emulators.config.base import parse
from ocean_emulators.datasets.config import DataConfig, StatisticsConfig
from ocean_emulators.datasets.preparation.job import prepare
from ocean_emulators.datasets.statistics.compute import compute_statistics
from ocean_emulators.datasets.store.packed_store import open_store, store_path
from ocean_emulators.errors import UserError
from ocean_emulators.parallel import Opened, Resources, open_pool
from tests import tiny
from tests.integration.conftest import Project, stages_run

pytestmark = pytest.mark.filterwarnings("default")  # what distributed's own shutdown says is not ours


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    with LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, host="127.0.0.1", dashboard_address=None
    ) as cluster:
        yield cluster


def data(source: Path, **changes: Any) -> DataConfig:
    return parse(DataConfig, {**tiny.experiment(source)["data"], "coarsen": [1, 2], **changes}, "tiny")


def content(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def on(cluster: LocalCluster, **changes: Any) -> Resources:
    return Resources(scheduler=cluster.scheduler_address, **{"memory_gib": 8, **changes})


def test_a_cluster_gives_the_bytes_that_threads_give(cluster: LocalCluster, source: Path, tmp_path: Path) -> None:
    changes = {"forcing": ["hfds", "hfds_anomalies"]}
    for name, resources in (("threads", Resources(memory_gib=8)), ("cluster", on(cluster))):
        prepare(data(source, **changes), tmp_path / name, resources=resources, times_per_file=10)
    assert content(tmp_path / "cluster") == content(tmp_path / "threads")
    store = open_store(store_path(tmp_path / "threads", "x2"))
    train, settings = data(source).periods.train, StatisticsConfig()
    threads, processes = (compute_statistics(store, train, settings, r) for r in (Resources(memory_gib=8), on(cluster)))
    for name in ("mean", "std", "change_std", "climatology"):
        assert np.array_equal(getattr(threads, name), getattr(processes, name))


def open_and_note(folder: Path) -> int:
    (folder / uuid.uuid4().hex).touch()
    return os.getpid()


def count_held(dask_worker: Worker) -> int:
    return sum(isinstance(value, Opened) for value in vars(dask_worker).values())


def process_of(opened: int, item: int) -> bool:
    return opened == os.getpid()


def test_each_worker_opens_once_what_it_needs_and_lets_go_of_it(cluster: LocalCluster, tmp_path: Path) -> None:
    for runs in (1, 2):
        opened = Opened(partial(open_and_note, tmp_path), here=-1)
        with open_pool(on(cluster), opened, 2**20, "a piece") as pool:
            assert all(pool.map(process_of, range(20)))
        assert len(list(tmp_path.iterdir())) == 2 * runs
    with Client(cluster, set_as_default=False) as client:
        assert set(client.run(count_held).values()) == {0}


def test_a_mistake_that_a_worker_finds_reaches_the_user(cluster: LocalCluster, tmp_path: Path) -> None:
    dataset = tiny.dataset()
    y, x = np.argwhere(dataset["mask_0"].values)[7]
    dataset["zos"][150, y, x] = np.nan
    dataset.to_zarr(tmp_path / "source.zarr", zarr_format=2)
    with pytest.raises(UserError, match=rf"zos has no value at .* at index \({y}, {x}\)"):
        prepare(data(tmp_path / "source.zarr"), tmp_path / "prepared", resources=on(cluster), times_per_file=10)


def test_what_does_not_fit_into_a_worker_is_refused(cluster: LocalCluster, source: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"prepare.memory_gib: 0.01 GiB can't hold one block"):
        prepare(data(source), tmp_path / "prepared", resources=on(cluster, memory_gib=0.01))


def test_a_scheduler_that_is_not_there_is_said_plainly(source: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"prepare.scheduler: no dask scheduler answers at tcp://127.0.0.1:9"):
        prepare(data(source), tmp_path / "prepared", resources=Resources(scheduler="tcp://127.0.0.1:9"))


def test_the_stages_use_the_cluster_that_the_launch_configuration_names(
    cluster: LocalCluster, untouched: Project, tmp_path: Path
) -> None:
    launch = {"prepare": {"memory_gib": 8, "scheduler": cluster.scheduler_address}}
    path = tmp_path / "launch.yaml"
    path.write_text(yaml.safe_dump(launch))
    output = untouched.run("dvc", "repro", "stats", OCEAN_EMULATORS_LAUNCH=str(path))
    assert stages_run(output) == ["prepare", "stats"]
    assert open_store(store_path(untouched.root / "data/prepared", "x1")).grid.shape == (tiny.N_LAT, tiny.N_LON)
    path.write_text(yaml.safe_dump({"prepare": {"scheduler": "tcp://127.0.0.1:9"}}))
    assert stages_run(untouched.run("dvc", "repro", "stats", OCEAN_EMULATORS_LAUNCH=str(path))) == []
