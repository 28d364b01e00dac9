"""The cases that a configuration is about, before any image is read."""

from __future__ import annotations

from pipeline.datasets import CaseFiles, list_cases
from pipeline.datasets.cases import checked, further_cases
from pipeline.datasets.phantoms.phantom import phantom_files
from pipeline.settings import Settings, further_images, source_root


def planned_cases(settings: Settings, dataset: str) -> list[CaseFiles]:
    """Every case of a data set, sorted by name; those of phantoms before they are written, too.

    Raises:
        PipelineError: the folder or its lists are missing or broken.
        ListingError: cases that cannot be told apart or do not belong together.
    """
    source = settings.datasets[dataset].source
    root, further = source_root(settings, dataset), further_images(settings, dataset)
    if source.phantom is None:
        return list_cases(source.adapter, root, further)
    found = phantom_files(
        source.phantom.kind, root, source.phantom.cases, source.phantom.unlabelled
    )
    more, missing = further_cases(further, found)
    return checked([*found, *more], root, "phantoms", missing)
