"""One training on several nodes of a cluster: `srun` starts its command once for every process."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping

from pipeline.errors import PipelineError
from pipeline.settings import Resources

STARTED = "GRCSF_STARTED_BY_SRUN"
OF_THE_JOB = ("SLURM_JOB_ID", "SLURM_CONF")


def is_one_of_several() -> bool:
    """Whether this process is one that another has started to train together with it."""
    return STARTED in os.environ or "LOCAL_RANK" in os.environ


def is_to_be_spread(resources: Resources) -> bool:
    """Whether a training takes several nodes, and this process is none of those on them."""
    return resources.nodes > 1 and not is_one_of_several()


def train_on_nodes(title: str, resources: Resources) -> None:
    """Start this process's own command on every node of its SLURM job, and wait.

    Args:
        title: what is trained.
        resources: on how many nodes, and with how many GPUs on each.

    Raises:
        PipelineError: this is no SLURM job, or the training failed.
    """
    nodes, each = resources.nodes, max(1, resources.gpus)
    if shutil.which("srun") is None or "SLURM_JOB_ID" not in os.environ:
        raise PipelineError(
            f"{title}: resources.nodes: found {nodes}, but this is no SLURM job; run with "
            "--profile workflow/profiles/slurm, or set nodes: 1"
        )
    # the step that this process runs in holds the job's cores and memory: they are shared with it
    started = subprocess.run(
        [
            "srun",
            "--overlap",
            "--kill-on-bad-exit=1",
            f"--nodes={nodes}",
            f"--ntasks={nodes * each}",
            f"--ntasks-per-node={each}",
            f"--cpus-per-task={resources.threads}",
            sys.executable,
            "-m",
            "pipeline",
            *sys.argv[1:],
        ],
        env={**_of_the_job(os.environ), STARTED: "1"},
        check=False,
    )
    if started.returncode:
        raise PipelineError(
            f"{title}: a process of this training has failed (srun ended with "
            f"{started.returncode}); the lines above tell why"
        )


def _of_the_job(environment: Mapping[str, str]) -> dict[str, str]:
    """Without what SLURM says of the step that this process runs in: srun takes it for options."""
    return {
        name: value
        for name, value in environment.items()
        if name in OF_THE_JOB or not name.startswith(("SLURM_", "SRUN_"))
    }
