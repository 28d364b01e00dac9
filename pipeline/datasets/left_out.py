"""Files that look like images of a data set, but that its adapter skips silently."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from pipeline.datasets import atlas, msd, orcascore
from pipeline.errors import Finding, Severity

SHOWN_NAMES = 3

LEFT_OUT: dict[str, Callable[[Path], list[Path]]] = {
    "atlas": atlas.other_names,
    "msd": msd.not_listed,
    "orcascore": orcascore.contrast_scans,
}
# what an adapter skips, how serious that is, and what to do
DESCRIPTIONS: dict[str, tuple[str, Severity, str]] = {
    "atlas": (
        "image whose name has no sub-r<cohort>s<number>",
        "warning",
        "rename it, or leave it if it is none of the data set",
    ),
    "msd": (
        "image that dataset.json does not list",
        "warning",
        "add it to the training list, or leave it if it is none of the data set",
    ),
    "orcascore": ("contrast scan (CTAI)", "note", ""),
}


def left_out(adapter: str, root: Path) -> list[Finding]:
    """A finding for each kind of skipped file: its first few names, and how many more there are."""
    if not root.is_dir():
        return []
    macos = [path for path in root.rglob("._*") if path.is_file()]
    findings = _findings(macos, root, "file ._* (left by macOS)", "note", "")
    if adapter in LEFT_OUT:
        findings += _findings(LEFT_OUT[adapter](root), root, *DESCRIPTIONS[adapter])
    return findings


def _findings(
    paths: Iterable[Path], root: Path, what: str, severity: Severity, remedy: str
) -> list[Finding]:
    names = sorted(str(path.relative_to(root)) for path in paths)
    if not names:
        return []
    more = f" and {len(names) - SHOWN_NAMES} more" if len(names) > SHOWN_NAMES else ""
    message = f"left out, {what}: {', '.join(names[:SHOWN_NAMES])}{more}"
    return [Finding(message, "", remedy, str(root), severity=severity)]
