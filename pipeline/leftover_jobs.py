"""Jobs of a SLURM cluster that a killed run of the workflow has left behind.

Snakemake does not know them again, and would start the same work beside them. They are cancelled:
a training goes on from its last epoch, other stages keep what they have finished.
"""

import shutil
import subprocess
import time
from collections.abc import Collection, Sequence

from pipeline.errors import PipelineError

POLL_S = 1.0


def comment_of(rule: str, wildcards: Sequence[str]) -> str:
    """What Snakemake's SLURM executor gives as the comment of a rule's job."""
    values = "_".join(wildcards).replace("/", "_")
    return f"rule_{rule}_wildcards_{values}" if values else f"rule_{rule}"


def cancel_leftover_jobs(folder: str, comments: Collection[str]) -> list[str]:
    """Cancel the user's jobs that do what a run is about to do, and wait until they have ended.

    Args:
        folder: the working directory of the workflow, absolute; other folders' jobs are left alone.
        comments: `comment_of` each job that the run will start.

    Returns:
        Numbers and comments of the cancelled jobs. None where there is no SLURM.

    Raises:
        PipelineError: SLURM cannot be asked.
    """
    if shutil.which("squeue") is None:
        return []
    left = _jobs(folder, comments)
    if left:
        _ask("scancel", *left)
        while _jobs(folder, comments).keys() & left.keys():
            time.sleep(POLL_S)
    return [f"{number} ({comment})" for number, comment in left.items()]


def _jobs(folder: str, comments: Collection[str]) -> dict[str, str]:
    """Comments of the user's jobs that have not ended, by number."""
    lines = _ask("squeue", "--me", "--noheader", "--format", "%i|%k|%Z").splitlines()
    found = [line.split("|", 2) for line in lines]
    return {
        number: comment
        for number, comment, where in found
        if where == folder and comment in comments
    }


def _ask(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, encoding="utf-8", check=False)
    if done.returncode:
        raise PipelineError(f"{command[0]}: SLURM does not answer: {done.stderr.strip()}")
    return done.stdout
