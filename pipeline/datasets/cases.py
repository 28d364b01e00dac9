"""One case's files, and the checks that every listing must pass."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import Finding, PipelineError

ROLES = ("", "train", "validation", "test", "unlabelled")
CASE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*")
NAMED = "letters, digits and . _ + -, starting with a letter or digit"


@dataclass(frozen=True)
class CaseFiles:
    """Where one case lies and what its folder says of it; nothing has been read.

    Attributes:
        case: name, unique in its data set and fit for a file name.
        image: file or DICOM folder.
        label: file of the reference mask, or None.
        group: cohort, hospital or vendor; "" where the data set has none.
        role: "train", "validation" or "test" where the data set itself decides, "unlabelled" for
            cases to predict only, "" where the split stage decides.
        modality: "MR", "CT", or "" where unknown.
        notes: what a person should know about the case or its data set, one sentence each.
    """

    case: str
    image: Path
    label: Path | None
    group: str = ""
    role: str = ""
    modality: str = ""
    notes: tuple[str, ...] = ()


class ListingError(PipelineError):
    """A data set whose files cannot be told apart or do not belong together.

    Attributes:
        cases: all that could be listed, so that they can be looked at in the same run.
    """

    def __init__(self, cases: Sequence[CaseFiles], faults: Sequence[Finding]) -> None:
        super().__init__(*faults)
        self.cases = list(cases)


def checked(
    cases: Sequence[CaseFiles], root: Path, expected: str, faults: Sequence[Finding] = ()
) -> list[CaseFiles]:
    """The cases sorted by name.

    Args:
        cases: as found.
        root: folder of the data set, for errors.
        expected: files that the adapter looks for, for errors.
        faults: what the adapter has found already.

    Raises:
        ListingError: one line for each of the faults, no case, a case twice, or a name that cannot
            be a file name.
    """
    found = list(faults)
    if not cases and not faults:
        remedy = "correct source.root or source.adapter"
        found.append(Finding("no cases found", expected, remedy, file=str(root)))
    images = defaultdict(list)
    for one in cases:
        images[one.case].append(str(one.image))
        if not CASE_NAME.fullmatch(one.case):
            found.append(
                Finding(
                    f"the name {one.case!r}",
                    NAMED,
                    "rename it",
                    str(one.image),
                    one.case,
                )
            )
    for case, paths in sorted(images.items()):
        if len(paths) > 1:
            told = f"the same case more than once: {' and '.join(sorted(paths))}"
            found.append(Finding(told, "", "keep one", case=case))
    ordered = sorted(cases, key=lambda one: one.case)
    if found:
        # what a first listing found is found again when further images join it
        raise ListingError(ordered, list(dict.fromkeys(found)))
    return ordered


def further_cases(
    images: Iterable[Path], beside: Sequence[CaseFiles]
) -> tuple[list[CaseFiles], list[Finding]]:
    """Images without reference, called as their files, of the same modality as the data set.

    Returns:
        Their cases, and a fault for each that is not there.
    """
    modality = beside[0].modality if beside else ""
    cases, faults = [], []
    for image in images:
        if image.exists():
            name = image.name.split(".")[0]
            cases.append(CaseFiles(name, image, None, role="unlabelled", modality=modality))
        else:
            remedy = "correct source.also_predict"
            faults.append(Finding("not there", "an image", remedy, file=str(image)))
    return cases, faults


def orphans(labels: Iterable[Path]) -> list[Finding]:
    """A fault for each label whose image is not there."""
    remedy = "add the image or remove the label"
    return [Finding("label without image", "", remedy, file=str(path)) for path in sorted(labels)]


def missing_label(case: str, label: Path, remedy: str) -> Finding:
    """The fault of a training image without its label."""
    return Finding("not there", "the case's label", remedy, str(label), case)


def source_files(files: CaseFiles) -> list[Path]:
    """Every file that a case consists of: DICOM folders and detached headers have several."""
    found: list[Path] = []
    for path in (files.image, files.label):
        if path is None:
            continue
        if path.is_dir():
            found += sorted(file for file in path.iterdir() if file.is_file())
        elif path.suffix.lower() == ".mhd":
            found += _meta_image_files(path)
        else:
            found.append(path)
    return found


def list_files(root: Path) -> list[Path]:
    """The lists that say which files of a data set are its cases, where it has some."""
    return [path for path in (root, root / "manifest.csv", root / "dataset.json") if path.is_file()]


def _meta_image_files(header: Path) -> list[Path]:
    """A MetaImage header, and the data file that it names."""
    with header.open("rb") as file:
        named = [line for line in file if line.startswith(b"ElementDataFile")]
    name = named[0].split(b"=", 1)[1].strip().decode("utf-8", "replace") if named else "LOCAL"
    data = header.parent / name
    return [header, data] if data.is_file() else [header]
