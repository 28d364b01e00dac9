"""Files that look like images of a data set and are left out without a word when it is listed."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from pipeline.datasets import atlas, msd, orcascore
from pipeline.errors import Finding, Severity

NAMED = 3

LEFT_OUT: dict[str, Callable[[Path], list[Path]]] = {
    "atlas": atlas.other_names,
    "msd": msd.not_listed,
    "orcascore": orcascore.contrast_scans,
}
TOLD: dict[str, tuple[str, Severity, str]] = {
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
    """One finding for each kind of file left out: how many, and the first few names."""
    if not root.is_dir():
        return []
    macos = [path for path in root.rglob("._*") if path.is_file()]
    found = _told(macos, root, "file ._* (left by macOS)", "note", "")
    if adapter in LEFT_OUT:
        found += _told(LEFT_OUT[adapter](root), root, *TOLD[adapter])
    return found


def _told(
    paths: Iterable[Path], root: Path, what: str, severity: Severity, remedy: str
) -> list[Finding]:
    names = sorted(str(path.relative_to(root)) for path in paths)
    if not names:
        return []
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    told = f"left out, {what}: {', '.join(names[:NAMED])}{more}"
    return [Finding(told, "", remedy, str(root), severity=severity)]
