"""Stage `measure`: what the masks of an applied model measure, and the table of all scans.

Batches of scans are measured, and one job gathers their rows. A scan's row is kept in a file of its
own, so that one that comes later disturbs no other.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.errors import Finding, PipelineError
from pipeline.evaluation.cohort.measures import measure_mask
from pipeline.evaluation.cohort.page import cohort_page
from pipeline.evaluation.cohort.table import cohort_table, write_table
from pipeline.prediction.dicom_seg import maker_of, seg_source
from pipeline.settings import Dataset
from pipeline.settings.apply.cohort import cohort_result
from pipeline.settings.apply.section import MaskFormat
from pipeline.settings.instances import instances_of
from pipeline.storage.batches import batches_in, drop_other_parts, in_batch, parts_of
from pipeline.storage.files import (
    file_digest,
    fingerprint,
    read_json,
    remembered,
    write,
    write_json,
)
from pipeline.storage.folders import folder_of, listed
from pipeline.storage.images.dicom.content import is_dicom
from pipeline.storage.images.dicom.new_segmentation import segmentation_bytes
from pipeline.storage.images.volumes import read_volume
from pipeline.storage.layout import Layout
from pipeline.storage.masks import read_mask
from pipeline.storage.residual_store import MAPS_SECONDS
from pipeline.storage.zarr_store import open_store, store_attributes

VERSION = 2
log = logging.getLogger(__name__)
Row = dict[str, Any]


def measure(layout: Layout, dataset: Dataset, model: str) -> None:
    """Write the table of all scans, as CSV and Parquet, and their page, from what batches measured.

    `model` is the bundle's name.

    Raises:
        PipelineError: a manifest, a store or a mask is missing or damaged, or a scan's row is.
    """
    ingested = read_json(layout.cases)
    table = cohort_table(_rows(layout), ingested["set_aside"])
    _check_rows(layout, table["case"].to_pylist(), [*ingested["cases"], *ingested["set_aside"]])
    write(layout.cohort_page, cohort_page(layout, dataset, table, model))
    write_table(table, layout.cohort_table(".csv"), layout.cohort_table(".parquet"))
    log.info("%d scans: %s, %s", len(table), layout.cohort_table(".csv"), layout.cohort_page)


def _rows(layout: Layout) -> Iterator[list[Row]]:
    """The rows of each batch, one batch at a time."""
    for manifest in batches_in(layout.stage("measure")):
        yield [case["row"] for case in read_json(manifest)["cases"].values()]


def _check_rows(layout: Layout, rows: Sequence[str], scans: Sequence[str]) -> None:
    """Refuse a table in which a scan has no row or several, or that has rows of other scans."""
    if differ := sorted((Counter(scans) - Counter(rows)) + (Counter(rows) - Counter(scans))):
        found = f"{rows.count(differ[0])} rows of batches, expected {scans.count(differ[0])}"
        further = f" (and of {len(differ) - 1} more scans not as many)" if len(differ) > 1 else ""
        remedy = "run measure for every batch first, as snakemake apply does"
        folder = str(layout.stage("measure"))
        raise PipelineError(Finding(f"{found}{further}", "", remedy, folder, differ[0]))


def measure_batch(layout: Layout, batch: str, dataset: Dataset, mask_format: MaskFormat) -> None:
    """Measure the masks of a batch, write a DICOM SEG where one is wanted, and the manifest.

    A scan whose DICOM SEG cannot be made has the reason in its row.

    Raises:
        PipelineError: a store or a mask is missing or damaged, or was not made of a scan.
    """
    cases, result = read_json(layout.cases)["cases"], layout.masks(*cohort_result(dataset))
    parts = parts_of(result, batch)
    masks = {case: mask for part in parts for case, mask in read_json(part)["cases"].items()}
    key = _common_key(dataset, mask_format)
    rows: dict[str, dict[str, Any]] = {}
    wanted = sorted(case for case in cases if in_batch(case, batch))
    for case in wanted:
        if case not in masks:
            found = "no mask, expected one of every scan"
            raise PipelineError(Finding(found, "", "run postprocess first", str(result), case))
        own = {**key, "mask": masks[case]["fingerprint"], "entry": cases[case]}
        row = _remembered(layout, case, fingerprint(own))
        if row is None:
            mask = folder_of(result) / masks[case]["file"]
            row = _measured(layout, dataset, case, cases[case], mask, mask_format)
            row["fingerprint"] = fingerprint(own)
            write_json(layout.measured(case, ".json"), row)
            progress = {"done": len(rows) + 1, "of": len(wanted)}
            log.info("batch %s: measured %s", batch, case, extra=progress)
        rows[case] = row
    manifest = layout.measures(batch)
    made = (layout.measured(case, ".dcm") for case, row in rows.items() if "file" in row)
    write_json(manifest, {"cases": rows, "outputs": listed(made, manifest)})
    drop_other_parts(layout.stage("measure").with_suffix(".json"), batch)


def _common_key(dataset: Dataset, mask_format: MaskFormat) -> dict[str, Any]:
    evaluation = dataset.evaluation.model_dump(include={"majority_over", "agatston_slice_mm"})
    made_by = maker_of(dataset.bundle).digest if dataset.bundle else ""
    return {"format": mask_format, "bundle": made_by, **evaluation, "version": VERSION}


def _remembered(layout: Layout, case: str, key: str) -> dict[str, Any] | None:
    """What an earlier run has noted of a case, if it is still true; else None."""
    note = remembered(layout.measured(case, ".json"))
    if note is None or note.get("fingerprint") != key:
        return None
    file = layout.measured(case, ".dcm")
    if "file" in note and not (file.is_file() and file_digest(file) == note.get("sha256")):
        return None
    return note


def _measured(
    layout: Layout,
    dataset: Dataset,
    case: str,
    entry: Mapping[str, Any],
    written: Path,
    mask_format: MaskFormat,
) -> dict[str, Any]:
    result, subset = cohort_result(dataset)
    store = open_store(layout.case_store(case))
    measures = measure_mask(dataset, read_mask(layout, result, subset, case, store), store)
    sides = zip(("z", "y", "x"), entry["spacing"], strict=True)
    row: Row = {
        "case": case,
        "image": entry["image"],
        "group": entry.get("group") or None,
        "volume_ml": round(measures.lesion_ml, 6),
        "lesions": measures.lesions,
        "agatston": measures.agatston,
        "risk": measures.risk,
        "slices": entry["slices"],
        **{f"spacing_{axis}_mm": side for axis, side in sides},
        "mask": str(written.relative_to(layout.root)),
        "notes": "; ".join(entry.get("notes", ())) or None,
        "seconds": seconds_spent(layout, dataset, case),
    }
    image = Path(entry["image"])
    dicom = image.is_dir() or is_dicom(image)
    if mask_format == "nifti" or (mask_format == "auto" and not dicom):
        return {"row": row}
    made = _segmentation(layout, dataset, case, image, written, row)
    return {"row": row, **made}


def _segmentation(
    layout: Layout, dataset: Dataset, case: str, image: Path, mask: Path, row: Row
) -> dict[str, str]:
    """Write a case's DICOM SEG, and note it in the row; or, there, why it cannot be."""
    assert dataset.bundle is not None
    file = layout.measured(case, ".dcm")
    try:
        series = seg_source(image, dataset.bundle, dataset.source.series)
        array = read_volume(mask, tilted=True).array
        write(file, segmentation_bytes(series, array, maker_of(dataset.bundle)))
    except PipelineError as error:
        row["fault"] = f"no DICOM SEG: {error}"
        log.warning("%s: %s", case, row["fault"])
        return {}
    row["segmentation"] = str(file.relative_to(layout.root))
    return {"file": file.name, "sha256": file_digest(file)}


def seconds_spent(layout: Layout, dataset: Dataset, case: str) -> float:
    """What residual maps and predictions of a case have taken, as its predictions note it.

    The maps may be given back by now.
    """
    bundle, result = dataset.bundle, cohort_result(dataset)
    spent, of_maps = 0.0, dict[str, float]()
    for each in dict.fromkeys([*(bundle.members if bundle else ()), result]):
        noted = store_attributes(layout.prediction_store(*each, case)) or {}
        spent += float(noted.get("seconds", 0))
        if MAPS_SECONDS in noted and (maps := instances_of(dataset, *each).residuals):
            of_maps[maps] = float(noted[MAPS_SECONDS])  # which networks share
    return round(spent + sum(of_maps.values()), 3)
