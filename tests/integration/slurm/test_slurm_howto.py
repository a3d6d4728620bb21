"""The how-to for a cluster, tried word for word."""

import re
from pathlib import Path

import yaml

from launchers.submitted import jobs_in
from tests.integration.conftest import ROOT, Project
from tests.integration.slurm.cluster import Cluster
from tests.integration.slurm.stages import SLURM

EDIT = """cp configs/launch/slurm.yaml cluster.yaml
"""


def test_a_cluster_users_first_half_hour(fresh: Project, cluster: Cluster, tmp_path: Path) -> None:
    project = fresh.copy(tmp_path / "project")
    text = (ROOT / "docs/slurm.md").read_text()
    commands = "".join(re.findall(r"```bash\n(.*?)```", text, flags=re.DOTALL))
    assert EDIT in commands
    mine = tmp_path / "mine.yaml"
    mine.write_text(yaml.safe_dump(SLURM))
    script = "set -euxo pipefail\n" + commands.replace(EDIT, f"{EDIT}cp {mine} cluster.yaml\n")
    output = project.run("bash", "-c", script, timeout=900, **cluster.environment)
    print(output)
    assert project.until_queue_is_empty(**cluster.environment).count("Success") == 2
    stages = [job.stage for job in jobs_in(project.root / ".scratch/jobs")]
    assert stages.count("train") == 1 + 2
    assert stages.count("probe") == 2
    assert re.findall(r"^told to stop .* equal$", output, flags=re.MULTILINE)
