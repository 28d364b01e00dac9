"""What a failed job said last: its log ends in the case, the cause and the remedy."""

from pathlib import Path

SHOWN = 20  # lines of one log, so that what failed fits on one screen
SILENT = (
    "no error is told: the job was killed, or ran out of memory or time; run again, finished work "
    "is kept"
)


def last_words(log: Path) -> list[str]:
    """The lines with which a failed job's log ends.

    Args:
        log: a stage's log.

    Returns:
        The last error with all that follows it, the first and the last lines of it where it is
        long; if there is none, the last lines, and what that means.
    """
    try:
        lines = log.read_text("utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    errors = [number for number, line in enumerate(lines) if line.startswith("error: ")]
    if errors:
        return _shortened(lines[errors[-1] :], log)
    if any(line.startswith("Traceback ") for line in lines):
        return [*lines[-3:], f"a fault of the program: the whole of it stands in {log}"]
    return [*lines[-3:], f"error: {SILENT}"]


def _shortened(lines: list[str], log: Path) -> list[str]:
    if len(lines) <= SHOWN:
        return lines
    return [*lines[: SHOWN - 1], f"… and {len(lines) - SHOWN + 1} more lines in {log}"]
