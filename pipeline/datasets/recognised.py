"""Which adapter fits a folder of one's own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pipeline.datasets import atlas, dicom, manifest, msd, nnunet, orcascore
from pipeline.datasets.unlabelled import images
from pipeline.errors import file_fault

# What somebody wrote for the purpose comes first, and what has to look into many files last.
RECOGNISED = {
    "manifest": (manifest.fits, manifest.LOOKS_FOR),
    "msd": (msd.fits, msd.LOOKS_FOR),
    "nnunet": (nnunet.fits, nnunet.LOOKS_FOR),
    "orcascore": (orcascore.fits, orcascore.LOOKS_FOR),
    "atlas": (atlas.fits, atlas.LOOKS_FOR),
    "dicom": (dicom.fits, dicom.LOOKS_FOR),
    "images": (images.fits, images.LOOKS_FOR),
}
# Without labels nothing is learnt. With them, DICOM folders have their patients' names, which
# change when a second series comes; those of `images` do not.
LEARNT_FROM = tuple(adapter for adapter in RECOGNISED if adapter != "images")
APPLIED_TO = tuple(adapter for adapter in RECOGNISED if adapter != "dicom")


def fitting_adapter(root: Path, adapters: Sequence[str] = LEARNT_FROM) -> str:
    """The first of these adapters that fits a folder, or the CSV that `root` is.

    Raises:
        PipelineError: none fits, there is no such folder, or its `dataset.json` is broken.
    """
    if not root.exists():
        raise file_fault(root, "not there", "a folder of images or a CSV", "correct the path")
    for adapter in adapters:
        if RECOGNISED[adapter][0](root):
            return adapter
    looked_for = "; ".join(f"{adapter}: {RECOGNISED[adapter][1]}" for adapter in adapters)
    remedy = "name the data set's own folder, or list your files in a CSV (docs/how-to/own-data.md)"
    raise file_fault(root, "fits no adapter", f"one of these ({looked_for})", remedy)
