"""What a listing passes over without a fault: files that look like images, and ignored regions."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain, islice
from pathlib import Path

from pipeline.datasets import atlas, dicom, msd, orcascore
from pipeline.datasets.cases import CaseFiles, shortened
from pipeline.errors import Finding, Severity
from pipeline.settings import Source
from pipeline.storage.images.names import looks_like_image

# the folders in which an adapter looks for images: all of them, or those directly in the root
FOLDERS: dict[str, tuple[str, ...]] = {
    "atlas": (".",),
    "orcascore": (".",),
    "manifest": (".",),
    "msd": ("imagesTr", "imagesTs", "labelsTr", "labelsTs"),
    "nnunet": ("imagesTr", "imagesTs", "labelsTr", "labelsTs"),
}
MOST_FILES = 100_000  # looked at: beside a CSV, anything may lie

Kind = tuple[Callable[[Path], list[Path]], str, Severity, str]
# what an adapter passes over, how that is described, how serious it is, and what to do
KINDS: dict[str, Kind] = {
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
UNKNOWN = "image that is no case and no label"
RENAME = "give it the name and suffix of the layout, or leave it if it is none of the data set"


def left_out(
    source: Source,
    root: Path,
    cases: Sequence[CaseFiles],
    faults: Sequence[Finding] = (),
    results: Path | None = None,
) -> list[Finding]:
    """Findings on what the listing of `cases` with its `faults` passes over, in names of files.

    A finding for each kind of file: its first few names, and how many more there are. Below
    `results`, masks are no images.
    """
    if not source.labels:  # nobody can tell labels, which are left aside, from other images
        return []
    folder = root if root.is_dir() else root.parent
    outside = {value: None for case in cases if case.label for value in case.outside}
    findings = [_ignored(name, value, root) for name, value in outside]
    if not folder.is_dir():
        return findings
    adapter = source.adapter
    files = list(islice(_files(folder, FOLDERS.get(adapter, (".",)), results), MOST_FILES))
    macos = [path for path in files if path.name.startswith("._")]
    findings += _findings(macos, folder, "file ._* (left by macOS)", "note", "")
    explained: list[Path] = []
    if adapter in KINDS:
        skipped, what, severity, remedy = KINDS[adapter]
        explained = skipped(root)
        findings += _findings(explained, folder, what, severity, remedy)
    if adapter not in FOLDERS:
        return findings
    told = {path for case in cases for path in (case.image, case.label) if path} | {*explained}
    known = {*map(_plain, told), *(_plain(finding.file) for finding in faults)}
    images = [path for path in files if looks_like_image(path.name)]
    others = [path for path in images if _plain(path) not in known]
    if adapter == "manifest":
        # a faulty line's image has no case
        listed = [] if faults else others
        what = "image that the CSV does not list"
        return findings + _findings(listed, folder, what, "note", "add a line for it")
    return findings + _findings(others, folder, UNKNOWN, "warning", RENAME)


def _plain(path: Path | str) -> str:
    return os.path.normpath(Path(path).absolute())


def _files(root: Path, folders: Sequence[str], results: Path | None) -> Iterator[Path]:
    """The files below these folders, without stores, hidden folders and results."""
    results = results and results.resolve()
    walks = (os.walk(root / folder) for folder in folders)
    for folder, below, names in chain.from_iterable(walks):
        kept = [name for name in below if name[0] != "." and not name.endswith(".zarr")]
        below[:] = [name for name in kept if Path(folder, name).resolve() != results]
        yield from (Path(folder, name) for name in names)


def _ignored(name: str, value: int, root: Path) -> Finding:
    found = f"label value {value} ({name}) is no lesion: taken as background"
    remedy = "its voxels count in training and in scores; look whether that is wanted"
    return Finding(found, "", remedy, str(root), severity="warning")


def _findings(
    paths: Iterable[Path], root: Path, what: str, severity: Severity, remedy: str
) -> list[Finding]:
    # a name may hold bytes that are no text, which neither a log nor a page can show
    encoded = (str(path.relative_to(root)).encode(errors="backslashreplace") for path in paths)
    names = sorted(name.decode() for name in encoded)
    if not names:
        return []
    message = f"left out, {what}: {shortened(names)}"
    return [Finding(message, "", remedy, str(root), severity=severity)]
