"""One case's files, and the checks that every listing must pass."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import PipelineError

ROLES = ("", "train", "validation", "test", "unlabelled")
CASE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*")


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


def checked(cases: Sequence[CaseFiles], root: Path, expected: str) -> list[CaseFiles]:
    """The cases sorted by name.

    Args:
        cases: as found.
        root: folder of the data set, for errors.
        expected: files that the adapter looks for, for errors.

    Raises:
        PipelineError: no case, a case twice, or a name that cannot be a file name.
    """
    if not cases:
        raise PipelineError(f"{root}: no cases found, expected {expected}")
    images = defaultdict(list)
    for one in cases:
        images[one.case].append(str(one.image))
        if not CASE_NAME.fullmatch(one.case):
            raise PipelineError(
                f"case {one.case!r} ({one.image}): expected a name of letters, digits and . _ + -, "
                "starting with a letter or digit; rename it"
            )
    twice = {case: found for case, found in images.items() if len(found) > 1}
    if twice:
        told = "; ".join(f"{case}: {' and '.join(sorted(twice[case]))}" for case in sorted(twice))
        raise PipelineError(f"{root}: the same case more than once ({told}); keep one of each")
    return sorted(cases, key=lambda one: one.case)


def further_cases(images: Iterable[Path], beside: Sequence[CaseFiles]) -> list[CaseFiles]:
    """Images without reference, called as their files, of the same modality as the data set.

    Raises:
        PipelineError: one of them is not there.
    """
    modality = beside[0].modality if beside else ""
    cases = []
    for image in images:
        if not image.exists():
            raise PipelineError(f"{image}: not there; correct source.also_predict")
        name = image.name.split(".")[0]
        cases.append(CaseFiles(name, image, None, role="unlabelled", modality=modality))
    return cases


def refuse_orphans(labels: Iterable[Path], root: Path) -> None:
    """Refuse labels whose image is not there.

    Raises:
        PipelineError: naming the first five of them.
    """
    orphans = sorted(labels)
    if orphans:
        shown = ", ".join(str(path.relative_to(root)) for path in orphans[:5])
        more = f" and {len(orphans) - 5} more" if len(orphans) > 5 else ""
        raise PipelineError(
            f"{root}: label without image: {shown}{more}; add the image or remove the label"
        )
