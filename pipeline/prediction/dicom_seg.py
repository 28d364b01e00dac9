"""A predicted mask as a DICOM segmentation: which images can have one, and what made it."""

from __future__ import annotations

from collections.abc import Iterable
from importlib import metadata
from pathlib import Path

import numpy as np

from pipeline.errors import PipelineError
from pipeline.settings.apply.bundle import Bundle
from pipeline.storage.files import fingerprint
from pipeline.storage.images.dicom.content import is_dicom
from pipeline.storage.images.dicom.new_segmentation import (
    Maker,
    SegmentedSeries,
    segmentation_bytes,
    segmented_series,
)

VERSION_LENGTH = 16  # of the digest's 64 characters


def check_all_dicom(images: Iterable[Path]) -> None:
    """Refuse images that are no DICOM; reading one that is not there tells that.

    Raises:
        PipelineError: some are not; one line for all.
    """
    others = [image for image in images if image.is_file() and not is_dicom(image)]
    if others:
        more = f" (and {len(others) - 1} more)" if len(others) > 1 else ""
        raise PipelineError(
            f"--format seg: found {others[0]}{more}, which is no DICOM, expected DICOM folders or "
            "files, to which a DICOM SEG refers; leave it out, or use --format nifti"
        )


def seg_source(image: Path, bundle: Bundle, series: str | None = None) -> SegmentedSeries:
    """The series of an image that will have a mask, tried with an empty one.

    So headers that cannot be used are told before hours of prediction, not after.

    Raises:
        PipelineError: they cannot.
    """
    source = segmented_series(image, series or bundle.dataset.source.series)
    segmentation_bytes(source, np.zeros(source.geometry.shape, bool), maker_of(bundle))
    return source


def maker_of(bundle: Bundle) -> Maker:
    """The bundle as what made a mask; its version follows from its weights and settings alone."""
    decides = {
        "files": dict(bundle.files),
        "settings": bundle.dataset.model_dump(mode="json"),
        "experiment": bundle.experiment,
        "members": list(bundle.members),
        "seed": bundle.seed,
    }
    digest = fingerprint(decides)
    return Maker(
        software=f"GRCSF {metadata.version('grcsf')}",
        algorithm=f"GRCSF/{bundle.result}",
        version=digest[:VERSION_LENGTH],
        description=f"GRCSF lesions: {bundle.result} of {bundle.name}",
        digest=digest,
    )
