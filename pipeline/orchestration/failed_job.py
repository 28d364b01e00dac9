"""The end of a failed job's log: the case, the cause and the remedy."""

from pathlib import Path

SHOWN = 20  # lines of one log, so that what failed fits on one screen
SILENT = (
    "the log holds no error: the job was killed, or ran out of memory or time; run again, finished "
    "work is kept"
)


def failure_lines(log: Path, *cluster_logs: Path) -> list[str]:
    """A log's last error with all after it, else its last lines and why SLURM ended the job."""
    lines = _lines(log)
    errors = [number for number, line in enumerate(lines) if line.startswith("error: ")]
    if errors:
        lines = lines[errors[-1] :]
        hidden = len(lines) - SHOWN + 1
        return lines if hidden < 2 else [*lines[:-hidden], f"… and {hidden} more lines in {log}"]
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
