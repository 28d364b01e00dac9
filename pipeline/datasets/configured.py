"""The cases of a configured data set, before any image is read."""

from __future__ import annotations

from pipeline.datasets import CaseFiles, beside, list_cases
from pipeline.datasets.cases import checked
from pipeline.datasets.phantoms.phantom import phantom_files
from pipeline.settings import Settings, further_images, source_root


def planned_cases(settings: Settings, dataset: str) -> list[CaseFiles]:
    """Every case of a data set by name, phantoms before they are written; errors: `list_cases`."""
    source = settings.datasets[dataset].source
    root, further = source_root(settings, dataset), further_images(settings, dataset)
    if source.phantom is None:
        return list_cases(source.adapter, root, further, source.foreground, labels=source.labels)
    phantom = source.phantom
    cases = phantom_files(phantom.kind, root, phantom.cases, phantom.unlabelled)
    more, missing = beside(cases, further)
    return checked([*cases, *more], root, "phantoms", missing)
