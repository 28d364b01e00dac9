"""Which adapter fits a folder of one's own."""

from __future__ import annotations

from pathlib import Path

from pipeline.datasets import atlas, dicom, manifest, msd, nnunet, orcascore
from pipeline.errors import file_fault

# What somebody wrote for the purpose comes first, and what has to look into many files last.
RECOGNISED = {
    "manifest": (manifest.fits, manifest.LOOKS_FOR),
    "msd": (msd.fits, msd.LOOKS_FOR),
    "nnunet": (nnunet.fits, nnunet.LOOKS_FOR),
    "orcascore": (orcascore.fits, orcascore.LOOKS_FOR),
    "atlas": (atlas.fits, atlas.LOOKS_FOR),
    "dicom": (dicom.fits, dicom.LOOKS_FOR),
}


def fitting_adapter(root: Path) -> str:
    """The first adapter that fits a folder, or the CSV that `root` is.

    Raises:
        PipelineError: none fits, there is no such folder, or its `dataset.json` is broken.
    """
    if not root.exists():
        raise file_fault(root, "not there", "a folder of images or a CSV", "correct the path")
    for adapter, (fits, _) in RECOGNISED.items():
        if fits(root):
            return adapter
    looked_for = "; ".join(f"{adapter}: {what}" for adapter, (_, what) in RECOGNISED.items())
    remedy = "name the data set's own folder, or list your files in a CSV (docs/how-to/own-data.md)"
    raise file_fault(root, "fits no adapter", f"one of these ({looked_for})", remedy)
