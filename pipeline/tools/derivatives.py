"""`grcsf derivatives`: an experiment's masks under the names of BIDS derivatives, for other tools.

BIDS has no name for a CT, nor for a patient whose name holds other than letters and digits: masks
of all modalities lie in `anat`, and such names lose those characters.
"""

from __future__ import annotations

import logging
import re
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.errors import PipelineError
from pipeline.storage.batches import parts_of, read_parts
from pipeline.storage.files import make_output, read_json, write_json
from pipeline.storage.images.source_grid import to_source_grid
from pipeline.storage.images.volumes import write_volume
from pipeline.storage.layout import Layout
from pipeline.storage.masks import read_mask, source_geometry, store_geometry
from pipeline.storage.zarr_store import Store, open_store

DESCRIPTION = "dataset_description.json"
BIDS_VERSION = "1.10.0"
ENDING = "space-orig_label-lesion"  # on the grid of the image's own file
SESSION = re.compile(r"(?:^|_)ses-([A-Za-z0-9]+)(?=_|$)")
log = logging.getLogger(__name__)


def derivatives(
    layout: Layout, experiment: str, subsets: Iterable[int], output: Path, version: str
) -> list[Path]:
    """Write every mask of an experiment (uint8, 1 = lesion), and return the files.

    A case that several subsets predict has a file of each, told apart by `desc-subset1` and so on.

    Raises:
        PipelineError: a mask is missing or has changed, two cases would share a name, the source's
            grid is one that NIfTI cannot hold, or `output` is another data set.
    """
    description = _description(layout, experiment, version)
    _check_ours(output, description)
    predicted: dict[str, list[int]] = defaultdict(list)
    for subset in subsets:
        masks = layout.masks(experiment, subset)
        if not parts_of(masks):
            raise PipelineError(f"{experiment}, subset {subset}: no masks yet; run postprocess")
        for case in read_parts(masks):
            predicted[case].append(subset)
    stores = {case: open_store(layout.case_store(case)) for case in predicted}
    stems = _stems(stores)
    make_output(output)
    written = []
    for done, (case, numbers) in enumerate(predicted.items(), 1):
        source, working = source_geometry(stores[case]), store_geometry(stores[case])
        for subset in numbers:
            mask = read_mask(layout, experiment, subset, case, stores[case])
            apart = f"_desc-subset{subset}" if len(numbers) > 1 else ""
            path = output / f"{stems[case]}_{ENDING}{apart}_mask.nii.gz"
            path.parent.mkdir(parents=True, exist_ok=True)
            write_volume(path, to_source_grid(mask, source, working).astype(np.uint8), source)
            written.append(path)
        log.debug("%s", case, extra={"done": done, "of": len(predicted)})
    # of every file with this ending below the folder, as BIDS inherits what stands above
    write_json(output / f"{ENDING}_mask.json", {"Type": "Lesion"})
    write_json(output / DESCRIPTION, description)
    return written


def _check_ours(output: Path, description: dict[str, Any]) -> None:
    """Refuse a folder of other masks, or of the images: its description would be lost."""
    path = output / DESCRIPTION
    if not path.exists():
        return
    if _made(read_json(path)) != _made(description):
        raise PipelineError(
            f"--output: {output} is another data set, as its {DESCRIPTION} says, expected a new "
            "folder, or that of the same experiment; choose another"
        )


def _made(description: dict[str, Any]) -> list[Any]:
    """What a description says that it holds; versions aside, which change."""
    makers = description.get("GeneratedBy")
    listed = makers if isinstance(makers, list) else []
    return [each.get("Description") for each in listed if isinstance(each, dict)]


def _stems(stores: dict[str, Store]) -> dict[str, str]:
    """The path of each case's files up to what they have of their own: `sub-1/anat/sub-1`."""
    owners: dict[str, str] = {}
    for case, store in stores.items():
        found = re.match(r"sub-([A-Za-z0-9]+)", case)
        subject = found[1] if found else re.sub(r"[^A-Za-z0-9]+", "", case)
        sources: dict[str, str] = dict(store.attrs.get("sources", {}))  # type: ignore[arg-type]
        names = [case, *(Path(name).name for name in sources)]
        session = next((match[1] for name in names if (match := SESSION.search(name))), "")
        parts = [f"sub-{subject}", *([f"ses-{session}"] if session else [])]
        stem = "/".join([*parts, "anat", "_".join(parts)])
        if stem in owners:
            raise PipelineError(
                f"case {case}: would have the BIDS name of case {owners[stem]}, {stem}; expected "
                "names that differ in letters and digits: rename one of them"
            )
        owners[stem] = case
    return {case: stem for stem, case in owners.items()}


def _description(layout: Layout, experiment: str, version: str) -> dict[str, Any]:
    made = f"{experiment} of {layout.dataset}: masks after postprocess"
    return {
        "Name": f"Lesions of {layout.dataset}",
        "BIDSVersion": BIDS_VERSION,
        "DatasetType": "derivative",
        "GeneratedBy": [{"Name": "GRCSF", "Version": version, "Description": made}],
    }
