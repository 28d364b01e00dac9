"""Cancels SLURM jobs that a killed run has left, as Snakemake would start the same beside them.

All jobs of a run bear its name, which is noted beside the locks of its data sets. A run that holds
these locks knows that the runs noted before are dead; it touches no other run's jobs.
"""

import shutil
import subprocess
import time
from collections.abc import Callable, Collection, Sequence

from pipeline.errors import PipelineError
from pipeline.storage.files import remembered, write_json
from pipeline.storage.layout import Layout

POLL_S = 1.0
PATIENCE_S = 300.0  # SLURM kills a cancelled job after KillWait, 30 s unless a cluster says more


def job_comment(rule: str, wildcards: Sequence[str]) -> str:
    """The comment that Snakemake's SLURM executor gives a rule's job."""
    values = "_".join(wildcards).replace("/", "_")
    return f"rule_{rule}_wildcards_{values}" if values else f"rule_{rule}"


def cancel_leftover_jobs(
    layouts: Collection[Layout], run: str, comments: Collection[str], tell: Callable[[str], object]
) -> None:
    """Cancel jobs of dead runs that this run would repeat, wait for their end, and note this run.

    The run has locked `layouts`, and will start the jobs of these `job_comment`s.

    Raises:
        PipelineError: SLURM cannot be asked, a job does not end, or the user stopped the waiting.
    """
    if shutil.which("squeue") is None:
        return
    noted = {layout: _noted_runs(layout) for layout in layouts}
    dead = {name for runs in noted.values() for name in runs}
    jobs = {number: comment for number, (name, comment) in _jobs().items() if name in dead}
    left = {number: comment for number, comment in jobs.items() if comment in comments}
    for number, comment in left.items():
        job = f"SLURM job {number} ({comment})"
        tell(f"cancelling, as a run that was killed has left it: {job}; waiting for its end")
    if left:
        _cancel(left)
    # a later run cancels the other jobs of dead runs, if it needs what they do
    there = {name for name, _ in _jobs().values()} if dead else set()
    for layout, runs in noted.items():
        write_json(layout.cluster_runs, {"runs": [*(name for name in runs if name in there), run]})


def _noted_runs(layout: Layout) -> list[str]:
    runs = (remembered(layout.cluster_runs) or {}).get("runs")
    return [run for run in runs if isinstance(run, str)] if isinstance(runs, list) else []


def _jobs() -> dict[str, tuple[str, str]]:
    """Name and comment of the user's jobs that have not ended, by number."""
    rows = _ask("squeue", "--me", "--noheader", "--format", "%i|%j|%k").splitlines()
    jobs = (row.split("|", 2) for row in rows)
    return {number: (name, comment) for number, name, comment in jobs}


def _cancel(jobs: dict[str, str]) -> None:
    """Cancel jobs, given by number with their comments, and wait until none is in the queue."""
    start = time.monotonic()
    try:
        _ask("scancel", "--quiet", *jobs)  # no error if one has just ended
        while waiting := sorted(jobs.keys() & _jobs().keys()):
            if time.monotonic() - start > PATIENCE_S:
                job, left = f"{waiting[0]} ({jobs[waiting[0]]})", f"squeue -j {','.join(waiting)}"
                fault = f"SLURM job {job}: cancelled, but there after {PATIENCE_S / 60:.0f} minutes"
                raise PipelineError(f"{fault}; look at `{left}`, and run again when it is gone")
            time.sleep(POLL_S)
    except KeyboardInterrupt:
        fault = f"interrupted while cancelled jobs end (`squeue -j {','.join(jobs)}`)"
        raise PipelineError(f"{fault}; run again") from None


def _ask(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, encoding="utf-8", check=False)
    if done.returncode:
        raise PipelineError(f"{command[0]}: SLURM does not answer: {done.stderr.strip()}")
    return done.stdout
