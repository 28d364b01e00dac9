"""One training on several nodes of a cluster: `srun` starts its command once for every process."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

from pipeline.errors import PipelineError
from pipeline.settings import Resources

STARTED = "GRCSF_STARTED_BY_SRUN"


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
        PipelineError: this is no SLURM job of so many nodes, or the training failed.
    """
    nodes, each = resources.nodes, max(1, resources.gpus)
    granted = os.environ.get("SLURM_JOB_NUM_NODES", "none")
    if shutil.which("srun") is None or granted != str(nodes):
        raise PipelineError(
            f"{title}: resources.nodes: found {nodes}, but this process has {granted} of a SLURM "
            "job; run with workflow/profiles/slurm, or set nodes: 1"
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
        env={**os.environ, STARTED: "1"},
        check=False,
    )
    if started.returncode:
        raise PipelineError(
            f"{title}: a process of this training has failed (srun ended with "
            f"{started.returncode}); the lines above tell why"
        )
