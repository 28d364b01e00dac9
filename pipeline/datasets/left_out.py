"""Files that look like images of a data set, but that its adapter skips silently."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from pipeline.datasets import atlas, dicom, msd, orcascore
from pipeline.datasets.cases import shortened
from pipeline.errors import Finding, Severity

# what an adapter skips, how that is described, how serious it is, and what to do
LEFT_OUT: dict[str, tuple[Callable[[Path], list[Path]], str, Severity, str]] = {
    "atlas": (
        atlas.other_names,
        "image whose name has no sub-r<cohort>s<number>",
        "warning",
        "rename it, or leave it if it is none of the data set",
    ),
    "msd": (
        msd.not_listed,
        "image that dataset.json does not list",
        "warning",
        "add it to the training list, or leave it if it is none of the data set",
    ),
    "dicom": (dicom.without_slices, "DICOM file that is no slice of a scan", "note", ""),
    "orcascore": (orcascore.contrast_scans, "contrast scan (CTAI)", "note", ""),
}


def left_out(adapter: str, root: Path) -> list[Finding]:
    """A finding for each kind of skipped file: its first few names, and how many more there are."""
    if not root.is_dir():
        return []
    macos = [path for path in root.rglob("._*") if path.is_file()]
    findings = _findings(macos, root, "file ._* (left by macOS)", "note", "")
    if adapter in LEFT_OUT:
        skipped, what, severity, remedy = LEFT_OUT[adapter]
        findings += _findings(skipped(root), root, what, severity, remedy)
    return findings


def _findings(
    paths: Iterable[Path], root: Path, what: str, severity: Severity, remedy: str
) -> list[Finding]:
    names = sorted(str(path.relative_to(root)) for path in paths)
    if not names:
        return []
    message = f"left out, {what}: {shortened(names)}"
    return [Finding(message, "", remedy, str(root), severity=severity)]
