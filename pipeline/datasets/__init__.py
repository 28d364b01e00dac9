"""Data sets: adapters list the cases of a folder, and `loading` reads and checks one case.

This room may import errors, settings and storage; networks and every later room may import it.
Listing reads no image and imports neither numpy nor SimpleITK, because a plan lists cases, too.

- `cases`: the files of one case, and the checks that every listing passes.
- `atlas`, `msd`, `orcascore`, `nnunet`, `manifest`, `dicom`: one adapter for each layout.
- `recognised`: which adapter fits a folder of one's own.
- `further`: images beside those that an adapter lists: to predict as well, healthy scans, and
  external data sets.
- `lists`: reads a CSV or `dataset.json`: paths, and label values that are no lesion.
- `configured`: the cases of a configured data set, phantoms included.
- `left_out`: what a listing passes over: files of no case, ignored regions.
- `unlabelled`: scans that a trained model is applied to: images of any names, or any layout.
- `loading`: reads one case, and finds all that is wrong with it.
- `subsets`: divides cases into training, validation and test.
- `phantoms`: synthetic data sets of known truth.

The package re-exports the listing. A new adapter is a module with `list_cases(root)`, `fits(root)`
and `LOOKS_FOR`, a line in `ADAPTERS` and in `recognised`, and its name in `pipeline.settings.data`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from pipeline.datasets import atlas, dicom, manifest, msd, nnunet, orcascore
from pipeline.datasets.cases import CaseFiles, ListingError, checked
from pipeline.datasets.further import as_external, external_name, further_cases
from pipeline.datasets.lists import check_outside
from pipeline.datasets.recognised import APPLIED_TO, fitting_adapter
from pipeline.datasets.unlabelled import images
from pipeline.datasets.unlabelled.scans import but_of_labels, without_labels
from pipeline.errors import Finding, PipelineError, file_fault
from pipeline.settings import FurtherImage

__all__ = ["ADAPTERS", "CaseFiles", "ListingError", "list_cases"]

ADAPTERS: dict[str, Callable[[Path], list[CaseFiles]]] = {
    "atlas": atlas.list_cases,
    "msd": msd.list_cases,
    "orcascore": orcascore.list_cases,
    "nnunet": nnunet.list_cases,
    "manifest": manifest.list_cases,
    "dicom": dicom.list_cases,
    "images": images.list_cases,
}


def list_cases(
    adapter: str,
    root: Path,
    further: Sequence[FurtherImage] = (),
    foreground: Sequence[int] | None = None,
    *,
    labels: bool = True,
) -> list[CaseFiles]:
    """All cases under `root`, sorted by name, without opening any image.

    For `manifest`, `root` may be the CSV. `further` images, named by their files, have no label;
    cases of an external data set among them are called after it and after their own name.
    `foreground` has the label values that count as lesion; None: all above 0. Without `labels`
    every case counts as one without reference, and `auto` stands for the adapter that fits.

    Raises:
        PipelineError: unknown adapter, no such folder, missing or broken `dataset.json` or CSV, a
            value of the labels that would wrongly count as lesion.
        ListingError: no case, a case twice, a label without image and the like, all at once.
    """
    if adapter == "auto":
        adapter = fitting_adapter(root, APPLIED_TO)
    if adapter not in ADAPTERS:
        raise PipelineError(f"adapter {adapter!r}: unknown; use one of {', '.join(ADAPTERS)}")
    if not root.is_dir() and not (adapter == "manifest" and root.exists()):
        problem = "is a file" if root.exists() else "not there"
        expected = f"the folder of a data set for {adapter}"
        raise file_fault(root, problem, expected, "correct source.root")
    faults: tuple[Finding, ...] = ()
    try:
        cases = ADAPTERS[adapter](root)
    except ListingError as error:
        cases, faults = error.cases, error.findings
    if not labels:
        cases, faults = without_labels(cases), tuple(but_of_labels(faults))
    outside = {value: None for case in cases if case.label for value in case.outside}
    check_outside(tuple(outside), root, foreground)
    more, missing = beside(cases, further)
    return checked([*cases, *more], root, "images", [*faults, *missing])


def beside(
    cases: Sequence[CaseFiles], further: Sequence[FurtherImage]
) -> tuple[list[CaseFiles], list[Finding]]:
    """The cases of `further` images and external data sets beside these, and their faults.

    Raises:
        PipelineError: an external data set cannot be listed; see `list_cases`.
    """
    more, faults = further_cases([each for each in further if each.source is None], cases)
    for each in further:
        if each.source is None:
            continue
        found: Sequence[Finding] = ()
        try:
            others = list_cases(each.source.adapter, each.path, (), each.source.foreground)
        except ListingError as error:
            others, found = error.cases, error.findings
        except PipelineError as error:
            raise PipelineError(f"{each.role.replace('/', '.')}: {error}") from None
        more += [as_external(case, each) for case in others]
        faults += [replace(one, case=one.case and external_name(one.case, each)) for one in found]
    return more, faults
