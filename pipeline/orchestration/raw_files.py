"""The raw files behind the stores of ingest, for its record."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from pipeline.datasets import ListingError, list_cases
from pipeline.settings import Dataset, FurtherImage
from pipeline.storage.files import read_json
from pipeline.storage.layout import Layout
from pipeline.storage.zarr_store import store_attributes


def raw_files(
    layout: Layout, dataset: Dataset, root: Path, further: Sequence[FurtherImage], manifest: Path
) -> dict[str, dict[Path, str]]:
    """The files of every case that a job has stored, with the SHA-256 that its store is made from.

    Those of batches are in the batches' records.
    """
    try:
        source = dataset.source
        listed = list_cases(source.adapter, root, further, source.foreground, labels=source.labels)
    except ListingError as error:
        listed = error.cases
    folders = {case.case: case.image.parent for case in listed}
    files = {}
    stored = {Path(output).stem for output in read_json(manifest)["outputs"]}
    for case in sorted(folders.keys() & stored):
        attributes = store_attributes(layout.case_store(case)) or {}
        sources: Mapping[str, str] = attributes.get("sources", {})
        paths = (Path(os.path.normpath(folders[case] / name)) for name in sources)
        files[case] = dict(zip(paths, sources.values(), strict=True))
    return files
