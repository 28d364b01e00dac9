"""`grcsf store export`: a case's image and residual maps as NIfTI, for any viewer to overlay."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from pipeline.errors import PipelineError
from pipeline.settings import Dataset
from pipeline.settings.instances import residual_instance
from pipeline.storage.files import make_output
from pipeline.storage.images.volumes import write_volume
from pipeline.storage.layout import Layout
from pipeline.storage.roles import ingested_store, subset_that_tests
from pipeline.storage.source_volumes import residual_volume, stored_volume, viewed_geometry


def export_case(
    layout: Layout, dataset: Dataset, case: str, names: Sequence[str], output: Path
) -> list[Path]:
    """Write a case's image and residual maps in the image's own geometry, and return the files.

    `CASE-image.nii.gz` is in the source's units, `CASE-SET-MAP.nii.gz` of each map float32 in
    [0, 1], or [−1, 1] if signed. Without `names` of residual sets, all that the case has are
    written.

    Raises:
        PipelineError: the case or its residuals are missing, damaged, or of other settings.
    """
    store = ingested_store(layout, case)
    chosen = list(names) or [
        name for name in dataset.residuals if _store(layout, dataset, name, case).exists()
    ]
    if not chosen:
        raise PipelineError(f"case {case}: has no residual maps yet; run residual-maps first")
    make_output(output)
    geometry = viewed_geometry(store)
    written = [output / f"{case}-image.nii.gz"]
    write_volume(written[0], stored_volume(store, "image"), geometry)
    for name in chosen:
        path, settings = _store(layout, dataset, name, case), dataset.residuals[name]
        for place, title in enumerate(settings.titles):
            volume = residual_volume(path, f"residuals.{name}", settings, place, store)
            ending = re.sub(r"[^A-Za-z0-9]+", "-", title.removeprefix("Residual, ")).strip("-")
            written.append(output / f"{case}-{name}-{ending}.nii.gz")
            write_volume(written[-1], volume, geometry)
    return written


def _store(layout: Layout, dataset: Dataset, name: str, case: str) -> Path:
    """The maps that the network which tests a case sees; of other cases those of the first fold."""
    first = subset_that_tests(layout, case) or dataset.subsets_with(name)[0]
    return layout.residual_store(residual_instance(dataset, name, first), case)
