"""The end of a failed job's log: the case, the cause and the remedy."""

from pathlib import Path

SHOWN = 20  # lines of one log, so that what failed fits on one screen
SILENT = (
    "the log holds no error: the job was killed, or ran out of memory or time; run again, finished "
    "work is kept"
)


def failure_lines(log: Path, *cluster_logs: Path) -> list[str]:
    """The lines with which a failed job's log ends.

    Args:
        log: a stage's log.
        cluster_logs: what SLURM wrote of the same job, if it ran there.

    Returns:
        The last error with all that follows it, shortened where it is long; if there is none, the
        last lines, why SLURM ended the job, and what that means.
    """
    lines = _lines(log)
    errors = [number for number, line in enumerate(lines) if line.startswith("error: ")]
    if errors:
        return _shortened(lines[errors[-1] :], log)
    if any(line.startswith("Traceback ") for line in lines):
        return [*lines[-3:], f"a fault of the program: the whole of it stands in {log}"]
    # such as "slurmstepd: error: StepId=8.0 exceeded memory limit"
    ends = [line for path in cluster_logs for line in _lines(path) if line.startswith("slurmstepd")]
    return [*lines[-3:], *dict.fromkeys(ends), f"error: {SILENT}"]


def _lines(log: Path) -> list[str]:
    try:
        return log.read_text("utf-8", errors="replace").splitlines()
    except OSError:
        return []


def _shortened(lines: list[str], log: Path) -> list[str]:
    if len(lines) <= SHOWN:
        return lines
    return [*lines[: SHOWN - 1], f"… and {len(lines) - SHOWN + 1} more lines in {log}"]
