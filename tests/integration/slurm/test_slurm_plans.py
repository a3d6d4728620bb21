"""What is known before a cluster's queue: its plan, a probe; and what is done side by side: checkpoints, experiments of DVC's
queue."""

import io

import pandas as pd
import pytest
import yaml

from launchers.submitted import jobs_in
from tests.integration.conftest import Project
from tests.integration.slurm.cluster import Cluster
from tests.integration.slurm.stages import LAUNCH, SLURM, environment, prepared


@pytest.fixture(scope="module")
def ready(fresh: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    return prepared(fresh, tmp_path_factory.mktemp("ready") / "project", epochs=2)


def configure(project: Project, **options: object) -> None:
    (project.root / "slurm.yaml").write_text(yaml.safe_dump({**SLURM, **options}))


def test_the_plan_is_told_beside_what_the_partition_has(project: Project, cluster: Cluster) -> None:
    configure(project, memory_gib=1e-4)
    output = project.run(*LAUNCH, "--dry-run", **environment(cluster))
    print(output)
    assert "partition main: 1 node(s), 1 up, of up to 2 core(s), 0.9766 GiB\n" in output
    assert "training: 20 optimiser steps of 16 window(s)" in output
    assert "warning: the 2 process(es) of a node take about" in output
    cluster.drain()
    assert "partition main: 1 node(s), 0 up" in project.run(*LAUNCH, "--dry-run", **environment(cluster))


def test_what_could_never_run_is_refused_before_the_queue(project: Project, cluster: Cluster) -> None:
    """SLURM would take it, and let it wait for ever."""
    configure(project, nodes=3)
    output = project.run(*LAUNCH, fails=True, **environment(cluster))
    assert "error: launch configuration: nodes: 3, hours: 24: more than partition main: 1 node(s)" in output
    cluster.ask("scontrol", "update", "partitionname=main", "maxtime=1-06:30:00")
    try:
        configure(project, hours=31)
        output = project.run(*LAUNCH, fails=True, **environment(cluster))
    finally:
        cluster.ask("scontrol", "update", "partitionname=main", "maxtime=infinite")
    assert "jobs of at most 30.5 h" in output
    assert not cluster.jobs()


def test_a_probe_is_a_short_job_of_as_many_processes(project: Project, cluster: Cluster) -> None:
    output = project.run("ocean-emulators", "probe", "train.epochs=400", "--steps", "6", **environment(cluster))
    print(output)
    assert "a SLURM job in partition main of at most 0.25 h: 1 node(s) with 2 process(es)" in output
    assert "probe: 6 steps by 2 process(es), CPU" in output
    assert "the training: 4,000 steps" in output
    assert [job.stage for job in jobs_in(project.root / ".scratch/jobs")] == ["probe"]
    assert not list(project.root.glob(".scratch/probe-*"))
    assert "400" not in (project.root / "params.yaml").read_text()


def test_an_array_waits_for_a_probe_that_succeeds(project: Project, cluster: Cluster) -> None:
    sweep = ("ocean-emulators", "sweep", "--probe", "model.width=4,6")
    output = project.run(*sweep, "train.batch_size=1", fails=True, **environment(cluster))
    assert "2 processes can't share the 1 window(s) of a batch" in output
    configure(project, setup=["ulimit -v 1000000"])
    output = project.run(*sweep, fails=True, **environment(cluster))
    print(output)
    assert {job.stage for job in jobs_in(project.root / ".scratch/jobs")} == {"probe"}
    assert "experiments" not in output


def test_checkpoints_are_evaluated_side_by_side(project: Project, cluster: Cluster) -> None:
    """As an array, and as the stage evaluates them."""
    for width in (4, 6):
        tree = project.params()
        tree["model"]["widths"] = [width, width + 2]
        project.configure(tree)
        project.run(*LAUNCH, OCEAN_EMULATORS_TRACKER="none")
        (project.root / "outputs/train/checkpoint.pt").rename(project.root / f"width{width}.pt")
    output = project.run("ocean-emulators", "evaluate", "width4.pt", "width6.pt", "width4.pt", **environment(cluster))
    print(output)
    numbers = sorted(job.id for job in jobs_in(project.root / ".scratch/jobs") if job.stage == "evaluate")
    assert [number.partition("_")[2] for number in numbers] == ["0", "1"], "one array of two"
    folders = sorted((project.root / "evaluations").iterdir())
    assert [folder.name[:7] for folder in folders] == ["width4-", "width6-"]
    table = pd.read_csv(folders[1] / "nrmse.csv", index_col="lead")
    assert f"{table.loc[30.0, 'all']:8.3f}" in output
    (project.root / "width6.pt").rename(project.root / "outputs/train/checkpoint.pt")
    project.run("python", "-m", "launchers", "evaluate", OCEAN_EMULATORS_TRACKER="none")
    found = (project.root / "outputs/evaluation/scores.json").read_bytes()
    assert found == (folders[1] / "scores.json").read_bytes()


def test_experiments_of_the_queue_are_jobs_side_by_side(project: Project, cluster: Cluster) -> None:
    configure(project, processes=1)
    for command in (("exp", "run", "--queue", "-S", "train.seed=1,2"), ("queue", "start", "--jobs", "2")):
        project.run("dvc", *command, **environment(cluster))
    assert project.until_queue_is_empty(**cluster.environment).count("Success") == 2
    stages = sorted(job.stage for job in jobs_in(project.root / ".scratch/jobs"))
    assert stages == ["evaluate", "evaluate", "train", "train"]
    shown = pd.read_csv(io.StringIO(project.run("dvc", "exp", "show", "--csv")))
    assert {1.0, 2.0} <= set(shown["train.seed"])
