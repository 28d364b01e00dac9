"""Adapters: each turns a folder in one layout into a list of cases, without reading any image."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from pipeline.datasets import atlas, dicom, manifest, msd, nnunet, orcascore
from pipeline.datasets.cases import CaseFiles, ListingError, checked, further_cases
from pipeline.errors import Finding, PipelineError, file_fault

__all__ = ["ADAPTERS", "CaseFiles", "ListingError", "list_cases"]

ADAPTERS: dict[str, Callable[..., list[CaseFiles]]] = {
    "atlas": atlas.list_cases,
    "msd": msd.list_cases,
    "orcascore": orcascore.list_cases,
    "nnunet": nnunet.list_cases,
    "manifest": manifest.list_cases,
    "dicom": dicom.list_cases,
}


def list_cases(
    adapter: str, root: Path, further: Sequence[Path] = (), **options: Any
) -> list[CaseFiles]:
    """All cases under `root`, sorted by name; folders are listed, images are not opened.

    Args:
        adapter: one of `ADAPTERS`.
        root: folder of the data set (for `manifest` the CSV file itself, too).
        further: images beside them, to be predicted only; a case is called as its file.
        options: the adapter's own, such as `table` of `manifest`.

    Raises:
        PipelineError: unknown adapter or option, no such folder, or a missing or broken
            `dataset.json` or CSV.
        ListingError: no case, a case twice, a label without image, and the like, all at once.
    """
    if adapter not in ADAPTERS:
        raise PipelineError(f"adapter {adapter!r}: unknown; use one of {', '.join(ADAPTERS)}")
    listing = ADAPTERS[adapter]
    known = [name for name in inspect.signature(listing).parameters if name != "root"]
    for name in options:
        if name not in known:
            takes = ", ".join(known) or "no options"
            raise PipelineError(f"adapter {adapter}: unknown option {name!r}; it takes {takes}")
    if not root.exists():
        expected = f"the folder of a data set for {adapter}"
        raise file_fault(root, "not there", expected, "correct source.root")
    if not root.is_dir() and adapter != "manifest":
        expected = f"the folder of a data set for {adapter}"
        raise file_fault(root, "is a file", expected, "correct source.root")
    if not further:
        return listing(root, **options)
    faults: list[Finding] = []
    try:
        found = listing(root, **options)
    except ListingError as error:
        found, faults = error.cases, list(error.findings)
    more, missing = further_cases(further, found)
    return checked([*found, *more], root, "images", [*faults, *missing])
