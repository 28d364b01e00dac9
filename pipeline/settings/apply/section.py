"""The section `apply`: which model, and which scans."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from pipeline.settings.data import Adapter, Tilted
from pipeline.settings.section import Count, Section

# as `snakemake --config model=… root=…` gives them, without naming the section
SHORT = ("model", "root", "adapter", "format")


MaskFormat = Literal["auto", "nifti", "seg"]  # auto: DICOM SEG where the scan is DICOM


class Apply(Section):
    """A trained model and a cohort; all that is not said here, the model's bundle says."""

    model: Annotated[str, Field(min_length=1)]
    root: Annotated[str, Field(min_length=1)]
    adapter: Adapter = "auto"
    format: MaskFormat = "auto"
    channel: Count | None = None
    series: Annotated[str | None, Field(min_length=1)] = None
    tilted: Tilted | None = None
