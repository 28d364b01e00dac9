"""A training on several nodes of a cluster, where `srun` starts its command for each process."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping

from pipeline.errors import PipelineError
from pipeline.settings import Resources

STARTED = "GRCSF_STARTED_BY_SRUN"
JOB_VARIABLES = ("SLURM_JOB_ID", "SLURM_CONF")


def is_one_of_several() -> bool:
    """Whether another process has started this one, to train together with it."""
    return STARTED in os.environ or "LOCAL_RANK" in os.environ


def is_to_be_spread(resources: Resources) -> bool:
    """Whether a training needs several nodes, and this process has to start it there."""
    return resources.nodes > 1 and not is_one_of_several()


def train_on_nodes(title: str, resources: Resources) -> None:
    """Start this process's own command on every node of its SLURM job, and wait.

    Raises:
        PipelineError: this is no SLURM job, or the training fails.
    """
    nodes, each = resources.nodes, max(1, resources.gpus)
    if shutil.which("srun") is None or "SLURM_JOB_ID" not in os.environ:
        raise PipelineError(
            f"{title}: resources.nodes: found {nodes}, but this is no SLURM job; run with "
            "--profile workflow/profiles/slurm, or set nodes: 1"
        )
    # --overlap, because the step of this process holds the job's cores and memory
    options = ["--overlap", "--kill-on-bad-exit=1", f"--nodes={nodes}", f"--ntasks={nodes * each}"]
    options += [f"--ntasks-per-node={each}", f"--cpus-per-task={resources.threads}"]
    command = ["srun", *options, sys.executable, "-m", "pipeline", *sys.argv[1:]]
    environment = {**_job_environment(os.environ), STARTED: "1"}
    finished = subprocess.run(command, env=environment, check=False)
    if finished.returncode:
        ended = f"srun ended with {finished.returncode}"
        fault = f"{title}: a process of this training has failed ({ended})"
        raise PipelineError(f"{fault}; the lines above tell why")


def _job_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment without variables of this process's step, which srun takes for options."""
    return {
        name: value
        for name, value in environment.items()
        if name in JOB_VARIABLES or not name.startswith(("SLURM_", "SRUN_"))
    }
