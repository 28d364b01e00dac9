"""A training on several nodes of a cluster, where `srun` starts its command for each process."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

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
    step = ["srun", "--overlap", "--kill-on-bad-exit=1", f"--nodes={nodes}"]
    step += [f"--ntasks={nodes * each}", f"--ntasks-per-node={each}"]
    step += [f"--cpus-per-task={resources.threads}", sys.executable, "-m", "pipeline"]
    # srun takes variables of this process's step for options
    kept = {
        name: value
        for name, value in os.environ.items()
        if name in JOB_VARIABLES or not name.startswith(("SLURM_", "SRUN_"))
    }
    finished = subprocess.run([*step, *sys.argv[1:]], env={**kept, STARTED: "1"}, check=False)
    if finished.returncode:
        raise PipelineError(
            f"{title}: a process of this training has failed (srun ended with "
            f"{finished.returncode}); the lines above tell why"
        )


def per_process(batch_size: int, resources: Resources) -> int:
    """The part of a batch for each process, so that together they see batches of the same size.

    Raises:
        PipelineError: the batch does not divide evenly.
    """
    if batch_size % resources.processes:
        raise PipelineError(
            f"batch_size: found {batch_size}, expected a multiple of the {resources.processes} "
            "processes (nodes × gpus) that train together"
        )
    return batch_size // resources.processes
